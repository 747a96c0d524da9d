"""Freely decoded answers against the answer space, by hand."""

from __future__ import annotations

import pytest

from mtl.config.schema import SourceConfig, TaskConfig, TaskKind
from mtl.scoring.score import average, score_task
from mtl.tasks.task import Answer, Example, Split, Task

SCORES = tuple(f" {value / 4:.2f}" for value in range(21))


def task(kind: TaskKind, metric: str, examples: list[Example]) -> Task:
    config = TaskConfig(
        name="made",
        kind=kind,
        source=SourceConfig(),
        target="",
        labels=["no", "yes"] if kind == "classification" else [],
        range=[0.0, 5.0] if kind == "regression" else [],
        metrics=[metric],
    )
    return Task(config, None, None, Split("validation", examples, ""))


def rows(answers: tuple[str, ...], targets: list[float]) -> list[Example]:
    return [Example(f"v:{i}", (), (), target, answers) for i, target in enumerate(targets)]


def shares(made: Task, answers: list[Answer], resamples: int = 0) -> tuple[float, float]:
    metrics = score_task(made, made.report, answers, resamples=resamples).metrics
    return metrics["decoded_accuracy"].value, metrics["invalid_share"].value


def test_right_wrong_and_invalid_texts_of_a_classification() -> None:
    made = task("classification", "accuracy", rows((" no", " so so"), [0, 0, 1, 1, 1]))
    texts = ["no", "so so", "so so", "No", "so so so"]
    answers = [Answer(value=1, decoded=text) for text in texts]
    assert shares(made, answers) == (2 / 5, 2 / 5)


def test_a_score_is_right_where_it_is_the_nearest_value_as_written() -> None:
    made = task("regression", "pearson", rows(SCORES, [3.3, 3.3, 3.3, 0.0]))
    texts = ["3.25", "3.3", "3.50", "0.00"]
    answers = [Answer(value=1.0, decoded=text) for text in texts]
    assert shares(made, answers) == (2 / 4, 1 / 4)


def test_each_row_of_a_multiple_choice_has_its_own_answers() -> None:
    examples = [
        Example("v:0", (), (), 0, (" of rain", " it was"), ("of rain", "it was")),
        Example("v:1", (), (), 1, (" a", " b", " c"), ("a", "b", "c")),
    ]
    made = task("multiple_choice", "accuracy", examples)
    answers = [Answer(value=0, decoded="of rain"), Answer(value=0, decoded="of rain")]
    assert shares(made, answers) == (1 / 2, 1 / 2)


def test_ranked_metrics_the_primary_one_and_the_average_stay_as_they_are() -> None:
    made = task("classification", "accuracy", rows((" no", " yes"), [0, 1, 1, 0] * 5))
    ranked = [Answer(value=int(i % 3 == 0)) for i in range(20)]
    decoded = [Answer(value=answer.value, decoded="perhaps") for answer in ranked]
    one, two = (score_task(made, made.report, many, resamples=99) for many in (ranked, decoded))
    assert list(two.metrics) == ["accuracy", "decoded_accuracy", "invalid_share"]
    assert two.primary == "accuracy"
    assert two.metrics["accuracy"] == one.metrics["accuracy"]
    assert average([one]) == average([two])


def test_both_have_the_interval_of_a_share_over_rows() -> None:
    made = task("classification", "accuracy", rows((" no", " yes"), [0] * 40))
    answers = [Answer(value=0, decoded="no" if i % 4 else "perhaps") for i in range(40)]
    metrics = score_task(made, made.report, answers, resamples=2000).metrics
    right, invalid = metrics["decoded_accuracy"], metrics["invalid_share"]
    assert (right.value, invalid.value) == (0.75, 0.25)
    # 0.75 plus and minus 1.96 * sqrt(0.75 * 0.25 / 40) = 0.134.
    assert right.low == pytest.approx(0.75 - 0.134, abs=0.03)
    assert right.high == pytest.approx(0.75 + 0.134, abs=0.03)
    assert invalid.low == pytest.approx(0.25 - 0.134, abs=0.03)


def test_answers_that_were_not_decoded_are_scored_without() -> None:
    made = task("classification", "accuracy", rows((" no", " yes"), [0, 1]))
    answers = [Answer(value=0), Answer(value=0)]
    assert list(score_task(made, made.report, answers, resamples=0).metrics) == ["accuracy"]
