"""Answers to a task's entry of summary.json, and the average over tasks."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from mtl.config.schema import SourceConfig, TaskConfig
from mtl.scoring.intervals import Value
from mtl.scoring.metrics import METRICS
from mtl.scoring.score import TaskScore, average, rescaled, score_task
from mtl.tasks.task import Answer, Example, Split, Task


def task(kind, metrics, targets, *, labels=0) -> Task:
    is_open = kind in ("generation", "language_modelling")
    examples = [
        Example(
            row=f"validation:{i}",
            segments=(),
            prompt=(),
            target=None if is_open else target,
            references=(target,) if is_open else (),
        )
        for i, target in enumerate(targets)
    ]
    config = TaskConfig(
        name="made",
        kind=kind,
        source=SourceConfig(),
        segments=[],
        prompt=[],
        target="",
        labels=[str(i) for i in range(labels)],
        metrics=metrics,
    )
    return Task(config, Split("train", examples, ""), None, Split("validation", examples, ""))


def score(primary: str, value: float, chance: float) -> TaskScore:
    return TaskScore(
        task="made",
        split="validation",
        rows=1,
        primary=primary,
        chance=chance,
        perfect=METRICS[primary].perfect,
        majority=None,
        metrics={primary: Value(value)},
    )


def test_the_entry_of_summary_json():
    made = task("classification", ["accuracy", "f1"], [1, 1, 1, 0], labels=2)
    answers = [Answer(value=one) for one in (1, 1, 0, 0)]
    entry = json.loads(
        json.dumps(score_task(made, made.report, answers, resamples=500).as_summary())
    )
    assert list(entry) == ["split", "rows", "primary", "chance", "majority", "metrics"]
    assert entry["split"] == "validation"
    assert entry["rows"] == 4
    assert entry["primary"] == "accuracy"
    assert entry["chance"] == 0.5
    assert entry["majority"] == 0.75
    assert list(entry["metrics"]) == ["accuracy", "f1"]
    assert entry["metrics"]["accuracy"]["value"] == 0.75
    assert entry["metrics"]["accuracy"]["low"] == 0.25
    assert entry["metrics"]["accuracy"]["high"] == 1.0
    assert entry["metrics"]["f1"]["value"] == pytest.approx(0.8)


@pytest.mark.parametrize("windows", ["disjoint", "strided"])
def test_running_text_is_reported_with_its_windows(windows):
    names = ["bits_per_byte", "perplexity_per_word", "perplexity_per_token"]
    made = task("language_modelling", names, ["a bc", "d " * 30, "e"])
    answers = [Answer(value=nats, tokens=(n,)) for nats, n in ((9.0, 3), (40.0, 31), (2.0, 2))]
    found = score_task(made, made.report, answers, resamples=200, windows=windows)
    assert found.primary == f"bits_per_byte_{windows}"
    assert list(found.metrics) == [f"{name}_{windows}" for name in names]
    assert found.lower_is_better == tuple(found.metrics)
    assert found.as_summary()["lower_is_better"] == list(found.metrics)
    assert (found.chance, found.perfect) == (8.0, 0.0)
    bits = found.metrics[found.primary]
    assert rescaled(found) == pytest.approx((8 - bits.value) / 8)
    assert bits.value == pytest.approx(51 / np.log(2) / 65)
    # The interval is one over documents: each alone has 3, 40/30 and 2 nats a word.
    words = found.metrics[f"perplexity_per_word_{windows}"]
    assert np.exp(40 / 30) <= words.low < words.value < words.high <= np.exp(9 / 2)


def test_the_same_answers_have_the_same_interval_and_others_have_another():
    made = task("classification", ["accuracy"], [0, 1] * 50, labels=2)
    answers = [Answer(value=int(i % 3 == 0)) for i in range(100)]
    first = score_task(made, made.report, answers, resamples=100)
    assert score_task(made, made.report, answers, resamples=100) == first
    assert score_task(made, made.report, answers, resamples=101) != first


@pytest.mark.parametrize(("targets", "resamples"), [([0, 1, 0], 0), ([1], 1000)])
def test_no_interval_without_resamples_or_from_a_single_row(targets, resamples):
    made = task("classification", ["accuracy"], targets, labels=2)
    answers = [Answer(value=target) for target in targets]
    found = score_task(made, made.report, answers, resamples=resamples)
    assert found.metrics["accuracy"] == Value(1.0, None, None)


def test_chance_belongs_to_the_rows_that_were_scored():
    made = task("classification", ["f1"], [1, 1, 1, 1], labels=2)
    rows = task("classification", ["f1"], [0, 0, 0, 1], labels=2).report
    found = score_task(made, rows, [Answer(value=1)] * 4, resamples=0)
    assert found.metrics["f1"].value == found.majority == pytest.approx(0.4)
    assert found.chance < 0.4


def test_answers_that_are_not_in_the_answer_space_are_refused():
    made = task("classification", ["accuracy"], [0, 1], labels=2)
    with pytest.raises(
        ValueError, match=r"^task made, row validation:1: 2 is not one of 2 answers$"
    ):
        score_task(made, made.report, [Answer(value=0), Answer(value=2)], resamples=0)
    with pytest.raises(ValueError, match=r"^task made: 1 answers to 2 rows$"):
        score_task(made, made.report, [Answer(value=0)], resamples=0)


@pytest.mark.parametrize(
    ("primary", "value", "chance", "known"),
    [
        ("accuracy", 0.5, 0.5, 0.0),
        ("accuracy", 0.75, 0.5, 0.5),
        ("accuracy", 0.0, 0.5, -1.0),
        ("matthews", 0.3, 0.0, 0.3),
        ("bits_per_byte", 8.0, 8.0, 0.0),
        ("bits_per_byte", 2.0, 8.0, 0.75),
        ("bits_per_byte", 10.0, 8.0, -0.25),
        ("accuracy", 1.0, 1.0, 0.0),
    ],
)
def test_rescaled_is_0_at_chance_and_1_when_perfect(primary, value, chance, known):
    assert rescaled(score(primary, value, chance)) == pytest.approx(known)


def test_the_average_says_what_it_is_of():
    found = average([score("accuracy", 0.75, 0.5), score("bits_per_byte", 2.0, 8.0)])
    assert found == {
        "value": pytest.approx(0.625),
        "of": "primary metrics rescaled so that chance = 0 and perfect = 1",
    }
    with pytest.raises(ValueError, match="average of no tasks"):
        average([])


def test_seven_metrics_of_1500_rows_take_seconds():
    random = np.random.default_rng(0)
    kinds = [
        ("classification", ["accuracy", "matthews", "macro_f1"], 6),
        ("regression", ["pearson", "spearman"], 0),
        ("generation", ["bleu", "token_f1"], 0),
    ]
    made = []
    for kind, metrics, labels in kinds:
        if kind == "classification":
            targets = random.integers(labels, size=1500).tolist()
        elif kind == "regression":
            targets = random.normal(size=1500).tolist()
        else:
            targets = [" ".join(random.choice(list("abcdefgh"), 10)) for _ in range(1500)]
        made.append((task(kind, metrics, targets, labels=labels), targets[::-1]))
    started = time.perf_counter()
    for one, answers in made:
        score_task(one, one.report, [Answer(value=text) for text in answers], resamples=1000)
    # 0.4 s on one core where this was written; the bound leaves room for slow, shared machines.
    assert time.perf_counter() - started < 15
