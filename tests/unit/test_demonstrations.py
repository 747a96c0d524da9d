"""The experiment on demonstrations: its band, its verdict, its table and its figure, and that it runs."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere

from mtl.tasks.microworld import documents
from mtl.tasks.task import Example, Split, Task

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/demonstrations.py"


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demonstrations", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demonstrations"] = module  # its dataclasses look themselves up there
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as for a script that is run
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figure(experiment: ModuleType) -> ModuleType:
    return sys.modules["_demonstrations_figure"]


def with_targets(task: Task, targets: list[int]) -> Task:
    """The task with as many reported rows, which have these targets."""
    rows = [
        replace(task.report.examples[index], target=target, row=f"test:{index}")
        for index, target in enumerate(targets)
    ]
    return replace(task, report=Split("test", rows, "made up"))


def test_band_of_an_accuracy_is_the_binomial(experiment: ModuleType) -> None:
    """Of 10 fair guesses 2 to 8 are right in at least 95 % of cases; 3 to 7 in only 89 %."""
    task = with_targets(experiment.read_task("sentiment"), [0, 1] * 5)
    band = experiment.chance_band(task)
    assert (band.low, band.centre, band.high) == (0.2, 0.5, 0.8)


def test_band_of_a_correlation_has_the_spread_of_random_answers(experiment: ModuleType) -> None:
    """Without relation a Matthews correlation of N rows has standard deviation 1 / sqrt(N - 1)."""
    task = with_targets(experiment.read_task("acceptability"), [0, 1] * 100)
    band = experiment.chance_band(task, draws=4000)
    assert band.centre == 0
    assert band.high == pytest.approx(1.96 / math.sqrt(199), rel=0.1)
    assert band.low == pytest.approx(-1.96 / math.sqrt(199), rel=0.1)


def test_drawn_band_agrees_with_the_binomial(experiment: ModuleType) -> None:
    """Answers drawn row by row, scored by accuracy, must come to what the closed form says."""
    task = experiment.read_task("entailment")
    exact = experiment.chance_band(task)
    answers = [[experiment.Answer(value=index) for index in range(3)] for _ in task.report.examples]
    metric = experiment.METRICS["accuracy"]
    drawn = experiment._quantiles(metric, task.report.examples, answers, 4000)
    assert drawn.low == pytest.approx(exact.low, abs=2 / 500)
    assert drawn.high == pytest.approx(exact.high, abs=2 / 500)


def open_task(experiment: ModuleType, answers: list[str], passages: list[str]) -> Task:
    """Question answering whose training rows all say ``Tom``."""

    def row(index: int, answer: str, passage: str) -> Example:
        return Example(f"test:{index}", (passage, "Who?"), ("Who?",), None, references=(answer,))

    rows = [row(index, *pair) for index, pair in enumerate(zip(answers, passages, strict=True))]
    train = [row(index, "Tom", "Nothing.") for index in range(3)]
    task = experiment.read_task("question_answering")
    return replace(
        task, train=Split("train", train, "made up"), report=Split("test", rows, "made up")
    )


NAMES = [f"Ann{index}." for index in range(40)]


@pytest.mark.parametrize(
    ("answers", "passages", "of", "centre"),
    [
        (["Tom"] * 30 + NAMES[:10], ["Nothing."] * 40, "one answer to all rows", 0.75),
        (NAMES, [f"{name} Ben." for name in NAMES[:30]] + ["Eve."] * 10, "first", 0.75),
        (NAMES, [f"Eve. {name}" for name in NAMES], "the last sentence copied", 1.0),
        (["Ann", "Ben"] * 20, ["Nothing."] * 40, "answers of other rows", 0.5),
    ],
)
def test_band_of_an_open_task_reaches_to_the_best_answer_without_understanding(
    experiment: ModuleType, answers: list[str], passages: list[str], of: str, centre: float
) -> None:
    band = experiment.chance_band(open_task(experiment, answers, passages))
    assert of in band.of
    assert band.low == 0
    assert band.centre == pytest.approx(centre, abs=0.12)
    assert centre < band.high <= 1 or centre == band.high == 1


def test_best_constant_need_not_be_the_most_frequent_answer(experiment: ModuleType) -> None:
    """Of ``Eve`` three times, and ``Tom Ann``, ``Tom Ben``, ``Tom`` twice each, ``Tom`` shares most words with all."""
    texts = ["Eve"] * 3 + ["Tom Ann", "Tom Ben", "Tom"] * 2
    task = open_task(experiment, ["Tom"], ["Nothing."])
    rows = [Example(f"train:{i}", (), (), None, references=(t,)) for i, t in enumerate(texts)]
    task = replace(task, train=Split("train", rows, "made up"))
    assert experiment.best_constant(task) == "Tom"


def test_other_answers_are_never_those_of_the_row_itself(experiment: ModuleType) -> None:
    rows = [Example(f"test:{index}", (), (), None, references=(str(index),)) for index in range(15)]
    answers = experiment.other_answers(rows)
    for index, own in enumerate(answers):
        assert len(own) == len({answer.value for answer in own}) == experiment.OTHERS
        assert str(index) not in {answer.value for answer in own}


def measured(values: dict[str, dict[str, float]], seeds: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """A result with scores by arm and task, each of them 0.05 to both sides."""
    tasks = list(next(iter(values.values())))
    return {
        "arms": list(values),
        "seeds": list(seeds),
        "tasks": {
            task: {
                "metric": "accuracy",
                "kind": "classification",
                "rows": 500,
                "band": {"low": 0.4, "high": 0.6},
            }
            for task in tasks
        },
        "runs": [
            {
                "arm": arm,
                "rate": float(arm.split(" ")[0]) / 100,
                "permuted": arm.endswith("permuted"),
                "seed": seed,
                "scores": {
                    task: {
                        "accuracy": {
                            "value": value + 0.1 * seed,
                            "low": value - 0.05 + 0.1 * seed,
                            "high": value + 0.05 + 0.1 * seed,
                        },
                        "invalid_share": {"value": 0.25},
                    }
                    for task, value in scores.items()
                },
            }
            for seed in seeds
            for arm, scores in values.items()
        ],
    }


HOLDS = {
    "0 %": {"sentiment": 0.5, "pronoun": 0.61, "entailment": 0.45},
    "10 %": {"sentiment": 0.7, "pronoun": 0.5, "entailment": 0.5},
    "100 %": {"sentiment": 0.9, "pronoun": 0.66, "entailment": 0.64},
    "100 % permuted": {"sentiment": 0.3, "pronoun": 0.5, "entailment": 0.65},
}


def test_verdict_when_the_claim_holds(experiment: ModuleType) -> None:
    """Above the band is not enough: the lower end of the interval must be."""
    found = experiment.verdict(measured(HOLDS))
    assert found == {
        "above": {
            "0 %": [],
            "10 %": ["sentiment"],
            "100 %": ["sentiment", "pronoun"],
            "100 % permuted": [],
        },
        # 0.85 > 0.35 and 0.61 > 0.55, but 0.59 < 0.70
        "above_control": {"100 %": ["sentiment", "pronoun"]},
        "starts_at_chance": True,
        "rises": 2,
        "control_stays": True,
        "holds": True,
    }


def test_an_open_task_is_compared_with_its_control_alone(experiment: ModuleType) -> None:
    """0.45 to 0.55 lies above the control's 0.1 to 0.2, and not above the band, which ends at 0.6."""
    result = measured({"100 %": {"sentiment": 0.5}, "100 % permuted": {"sentiment": 0.15}})
    assert experiment.verdict(result)["above_control"] == {"100 %": []}
    result["tasks"]["sentiment"]["kind"] = "generation"
    found = experiment.verdict(result)
    assert found["above_control"] == {"100 %": ["sentiment"]}
    assert found["above"]["100 %"] == []


@pytest.mark.parametrize(
    ("arm", "value", "broken"),
    [
        ("0 %", 0.7, ("starts_at_chance", False)),
        ("100 % permuted", 0.7, ("control_stays", False)),
        ("100 %", 0.6, ("rises", 1)),
    ],
)
def test_verdict_when_a_part_of_the_claim_fails(
    experiment: ModuleType, arm: str, value: float, broken: tuple[str, Any]
) -> None:
    values = {**HOLDS, arm: {**HOLDS[arm], "pronoun": value}}
    found = experiment.verdict(measured(values))
    assert found[broken[0]] == broken[1]
    assert not found["holds"]


def test_clearly_above_needs_every_seed(experiment: ModuleType) -> None:
    found = experiment.verdict(measured({"0 %": {"sentiment": 0.62}, "100 %": {"sentiment": 0.7}}))
    assert found["above"] == {"0 %": [], "100 %": ["sentiment"]}
    both = measured({"0 %": {"sentiment": 0.62}, "100 %": {"sentiment": 0.7}}, seeds=(0, 1))
    assert experiment.verdict(both)["above"] == {"0 %": [], "100 %": ["sentiment"]}


def test_table_shows_means_and_marks(experiment: ModuleType) -> None:
    result = measured(HOLDS, seeds=(0, 1))
    result["verdict"] = experiment.verdict(result)
    lines = experiment.table(result).splitlines()
    rows = {line.split()[0]: line.split() for line in lines[1:4]}
    assert rows["sentiment"] == [
        "sentiment",
        "(accuracy)",
        "0.400",
        "0.600",
        "0.550",
        "0.750*",
        "0.950*",
        "0.350",
    ]
    assert rows["pronoun"] == [
        "pronoun",
        "(accuracy)",
        "0.400",
        "0.600",
        "0.660",
        "0.550",
        "0.710*",
        "0.550",
    ]
    assert lines[4].split()[3:] == ["0", "of", "3", "1", "of", "3", "2", "of", "3", "0", "of", "3"]
    assert lines[5].split()[-4:] == ["75%"] * 4
    said = experiment.statement(result)
    assert "at 100 %: 2 of 3 tasks (sentiment, pronoun)" in said
    assert "not learnt at 100 %: entailment" in said
    assert "above the control at 100 %: 2 of 3 tasks (sentiment, pronoun)" in said
    assert said.endswith("the claim is shown on 2 of 3 tasks")


def test_figure_shows_what_was_measured(figure: ModuleType, tmp_path: Path) -> None:
    """An SVG holds the text and the marks as they are; the same numbers give the same picture."""
    drawn = figure.draw(measured(HOLDS), tmp_path / "figure.svg").read_text()
    words = set(re.findall(r"<!-- (.*?) -->", drawn))
    assert {"sentiment", "pronoun", "entailment", "0", "10", "100"} <= words
    again = figure.draw(measured(HOLDS), tmp_path / "again.svg").read_text()
    assert _marks(again) == _marks(drawn)
    other = {**HOLDS, "100 %": {**HOLDS["100 %"], "pronoun": 0.9}}
    assert _marks(figure.draw(measured(other), tmp_path / "other.svg").read_text()) != _marks(drawn)


def _marks(drawn: str) -> list[str]:
    return re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', drawn)  # type: ignore[return-value]


def test_figure_is_small_and_follows_the_background(figure: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    corners = []
    for dark in (False, True):
        path = figure.draw(measured(HOLDS), tmp_path / f"{dark}.png", dark=dark)
        assert path.stat().st_size < 200_000
        corners.append(np.asarray(Image.open(path).convert("L"))[0, 0])
    assert corners[0] == 255
    assert corners[1] < 40


def test_zero_stands_one_place_before_the_smallest_rate(figure: ModuleType) -> None:
    assert figure.positions([0, 0.01, 0.1, 1]) == {0: -3, 0.01: -2, 0.1: -1, 1: 0}
    assert figure.positions([0.1, 1]) == {0.1: -1, 1: 0}
    assert figure.positions([0]) == {0: 0}


def test_without_demonstrations_no_task_is_shown() -> None:
    """The wording around a row, as the task files have it, stands in no document at rate 0, and in many at rate 1."""
    fixed = set()
    for path in sorted((ROOT / "configs/task").glob("microworld_*.yaml")):
        prompt = " ".join(yaml.safe_load(path.read_text())["prompt"])
        fixed |= {part.strip() for part in re.split(r"\{\{.*?\}\}", prompt)} - {"", "Answer:"}
    assert len(fixed) == 9  # pronoun has two
    plain = "\n".join(documents(demonstrations=0))
    shown = "\n".join(documents(demonstrations=1, count=400))
    assert [part for part in fixed if part in plain] == []
    assert all(part in shown for part in fixed)


def test_a_rate_that_is_none_is_said(experiment: ModuleType) -> None:
    for words, said in (
        ({"rates": "0,2"}, "'2' is not a share from 0 to 1"),
        ({"controls": "0"}, "'0' is not a share above 0 to 1"),
        ({"rates": "", "controls": ""}, "no arm is left"),
    ):
        with pytest.raises(experiment.UserError, match=said):
            experiment.read_arms({**experiment.DEFAULTS, **words})
    with pytest.raises(experiment.UserError, match="sentiment"):
        experiment.read_tasks({**experiment.DEFAULTS, "tasks": "sentimant"})


def test_runs_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Two small arms; the second time they are there already, and the numbers are the same."""
    words = (
        "tasks=sentiment,question_answering rates=0 controls=1 rows=20 tokens=3000 batch=512 documents=60"
        f" decoder=micro vocabulary=400 jobs=1 runs={tmp_path / 'runs'} out={tmp_path / 'out.json'}"
    ).split()
    found = []
    for _ in range(2):
        process = elsewhere.python(SCRIPT, *words, timeout=200)
        assert process.returncode == 0, process.stderr
        assert "0 % permuted" in process.stdout
        found.append(json.loads((tmp_path / "out.json").read_text()))
    first, second = found
    assert first["arms"] == ["0 %", "100 % permuted"]
    assert [run["permuted"] for run in first["runs"]] == [False, True]
    assert len({run["steps"] for run in first["runs"]}) <= 2
    for run in first["runs"]:
        assert 3000 <= run["tokens"] < 3000 + 512
        assert set(run["scores"]) == {"sentiment", "question_answering"}
        assert 0 < run["commonest_answer_share"]["sentiment"] <= 1
    assert first["tasks"]["sentiment"]["rows"] == 20
    assert [run["scores"] for run in first["runs"]] == [run["scores"] for run in second["runs"]]
    for name in ("out.png", "out-dark.png"):
        assert (tmp_path / name).is_file()
