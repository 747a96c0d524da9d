"""What holds of every metric, whatever the answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.schema import SourceConfig, TaskConfig
from mtl.scoring.metrics import METRICS
from mtl.scoring.score import rescaled, score_task
from mtl.tasks.task import Answer, Example, Split, Task

LABELS = 4
CLOSED = st.integers(0, LABELS - 1)
TEXT = st.lists(st.sampled_from(["a", "the", "cat", "Cats", "ran,", "on"]), max_size=8).map(
    " ".join
)
SCORE = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e-300, 1e300, 2.5])
NATS = st.floats(0, 1e4)
SPACE = {
    "classification": (CLOSED, CLOSED),
    "multiple_choice": (CLOSED, CLOSED),
    "regression": (SCORE, SCORE),
    "generation": (TEXT, TEXT),
    "language_modelling": (NATS, TEXT.map(lambda text: text + ".")),
}


def task_of(kind: str, metrics: list[str], wanted: list) -> Task:
    labels = ["x", "y"] if metrics == ["f1"] else ["w", "x", "y", "z"]
    is_open = kind in ("generation", "language_modelling")
    examples = [
        Example(
            row=f"validation:{i}",
            segments=(),
            prompt=(),
            target=None if is_open else target,
            choices=("w", "x", "y", "z") if kind == "multiple_choice" else (),
            references=(target,) if is_open else (),
        )
        for i, target in enumerate(wanted)
    ]
    config = TaskConfig(
        name="made",
        kind=kind,
        source=SourceConfig(),
        segments=[],
        prompt=[],
        target="",
        labels=labels if kind == "classification" else [],
        metrics=metrics,
    )
    split = Split("validation", examples, "")
    return Task(config, Split("train", examples, ""), None, split)


CASES = [(name, kind) for name, known in METRICS.items() for kind in known.kinds if kind in SPACE]


def declared(name: str) -> list[str]:
    """The metrics of a task that declares this one; one without a chance level is never the first."""
    first = "greedy_accuracy" if METRICS[name].of_target else "bits_per_byte"
    return [name] if METRICS[name].has_chance else [first, name]


def draw_case(data, name: str, kind: str) -> tuple[list, list]:
    answer, target = SPACE[kind]
    if name == "f1":
        answer = target = st.integers(0, 1)
    pairs = data.draw(st.lists(st.tuples(answer, target), min_size=1, max_size=12))
    likely = data.draw(
        st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=12, max_size=12)
    )
    answers = [
        Answer(value=left, tokens=(len(str(right)),), target_nats=nats, target_greedy=greedy)
        for (left, right), (nats, greedy) in zip(pairs, likely, strict=False)
    ]
    return answers, [right for _, right in pairs]


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_values_and_intervals_are_finite_and_in_range(name, kind, data):
    answers, wanted = draw_case(data, name, kind)
    task = task_of(kind, declared(name), wanted)
    score = score_task(task, task.report, answers, resamples=20)
    value = score.metrics[METRICS[name].reported_name("disjoint")]
    lowest, highest = METRICS[name].range
    found = [value.value] if len(answers) == 1 else [value.value, value.low, value.high]
    for number in found:
        assert math.isfinite(number)
        assert lowest <= number <= highest
    assert len(answers) == 1 or value.low <= value.high
    assert math.isfinite(score.chance)
    assert score.majority is None or math.isfinite(score.majority)


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_order_of_the_rows_changes_nothing(name, kind, data):
    answers, wanted = draw_case(data, name, kind)
    task = task_of(kind, declared(name), wanted)
    order = data.draw(st.permutations(range(len(answers))))
    moved = Split("validation", [task.report.examples[i] for i in order], "")
    first = score_task(task, task.report, answers, resamples=20)
    second = score_task(task, moved, [answers[i] for i in order], resamples=20)
    assert first == second
    direct = METRICS[name].value([answers[i] for i in order], moved.examples)
    reported = METRICS[name].reported_name("disjoint")
    assert direct == pytest.approx(first.metrics[reported].value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_right_answers_are_perfect(name, kind, data):
    _, wanted = draw_case(data, name, kind)
    if name in ("matthews", "pearson", "spearman"):
        wanted = [*wanted[:9], 0, 1, 3]
    if name == "f1":
        wanted = [*wanted, 1]
    if name == "bleu" or name.startswith("rouge"):
        wanted = [f"{text} the cat sat on it" for text in wanted]
    task = task_of(kind, declared(name), wanted)
    answers = [
        Answer(
            value=0.0 if kind == "language_modelling" else target,
            tokens=(3,),
            target_nats=0.0,
            target_greedy=True,
        )
        for target in wanted
    ]
    score = score_task(task, task.report, answers, resamples=0)
    reported = METRICS[name].reported_name("disjoint")
    assert score.metrics[reported].value == pytest.approx(METRICS[name].perfect)
    assert rescaled(score) == pytest.approx(1.0)
