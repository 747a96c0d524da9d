"""Answers of one task to the numbers that are reported, and several tasks' numbers to one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtl.scoring.baselines import answer_space, chance, majority
from mtl.scoring.decoded import decoded_metrics
from mtl.scoring.intervals import Value, bootstrap, generator
from mtl.scoring.metrics import METRICS, Metric, WindowPolicy
from mtl.scoring.ranked import ranked_metrics
from mtl.tasks.task import Answer, Example, Split, Task

AVERAGE_OF = "primary metrics rescaled so that chance = 0 and perfect = 1"


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """Every metric of one task on one split, between what chance and what perfection would get."""

    task: str
    split: str
    """Published split the rows come from."""
    rows: int
    primary: str
    """Reported name of the task's first metric."""
    chance: float
    """Expected value of the primary metric for uniformly random answers."""
    perfect: float = 1.0
    """Value of the primary metric where every answer is right."""
    majority: float | None
    """Primary metric of always giving the most frequent training answer; None where there is none."""
    metrics: Mapping[str, Value]
    """By reported name (:meth:`mtl.scoring.metrics.Metric.reported_name`)."""
    lower_is_better: tuple[str, ...] = ()
    """Reported names of the metrics that improve as they fall."""

    def as_summary(self) -> dict[str, Any]:
        """The task's entry in ``summary.json``."""
        return {
            "split": self.split,
            "rows": self.rows,
            "primary": self.primary,
            "chance": self.chance,
            "majority": self.majority,
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
            **({"lower_is_better": list(self.lower_is_better)} if self.lower_is_better else {}),
        }


def score_task(
    task: Task,
    split: Split,
    answers: Sequence[Answer],
    *,
    resamples: int,
    windows: WindowPolicy = "disjoint",
) -> TaskScore:
    """Score the answers to a split with every metric of its task, and beside them what other forms of likelihood
    would have answered, and what was decoded freely, where there is any.

    The result does not depend on the order of the rows: resamples are drawn over rows sorted by identity.

    :param answers: One per example of the split, in its order.
    :param resamples: Bootstrap resamples of each interval; 0 for no intervals.
    :param windows: How documents were divided to be scored; it stands in the names of what depends on it.
    :raises ValueError: There are no rows, not one answer per example, or an answer outside its space.
    """
    if len(answers) != len(split.examples):
        raise ValueError(f"task {task.name}: {len(answers)} answers to {len(split.examples)} rows")
    _check_answers(task, split, answers)
    pairs = sorted(zip(split.examples, answers, strict=True), key=lambda pair: pair[0].row)
    examples = [example for example, _ in pairs]
    ordered = [answer for _, answer in pairs]
    primary = METRICS[task.config.metrics[0]]
    metrics = {
        metric.reported_name(windows): metric
        for metric in (
            *(METRICS[name] for name in task.config.metrics),
            *ranked_metrics(task, ordered),
            *decoded_metrics(task, ordered),
        )
    }
    return TaskScore(
        task=task.name,
        split=split.name,
        rows=len(examples),
        primary=primary.reported_name(windows),
        chance=chance(task, primary.name, split),
        perfect=primary.perfect,
        majority=majority(task, primary.name, split),
        metrics={
            name: _value(task.name, metric, ordered, examples, resamples)
            for name, metric in metrics.items()
        },
        lower_is_better=tuple(n for n, metric in metrics.items() if not metric.higher_is_better),
    )


def rescaled(score: TaskScore) -> float:
    """The primary metric on the scale where chance is 0 and perfect is 1; below 0 is worse than chance.

    For bits per byte that is (8 - value) / 8. Where chance is already perfect the scale has no length, and it is 0.
    """
    room = score.perfect - score.chance
    return (score.metrics[score.primary].value - score.chance) / room if room else 0.0


def average(scores: Iterable[TaskScore]) -> dict[str, Any]:
    """The mean of :func:`rescaled` over tasks, as ``summary.json`` holds it.

    :raises ValueError: There are no scores.
    """
    values = [rescaled(score) for score in scores]
    if not values:
        raise ValueError("the average of no tasks")
    return {"value": math.fsum(values) / len(values), "of": AVERAGE_OF}


def _check_answers(task: Task, split: Split, answers: Sequence[Answer]) -> None:
    if task.is_open or task.kind == "regression":
        return
    for example, answer in zip(split.examples, answers, strict=True):
        if answer.value not in range(answer_space(task, example)):
            raise ValueError(
                f"task {task.name}, row {example.row}: {answer.value!r} is not one of "
                f"{answer_space(task, example)} answers"
            )


def _value(
    task: str, metric: Metric, answers: list[Answer], examples: list[Example], resamples: int
) -> Value:
    rows = metric.rows(answers, examples)
    value = metric.library_value(rows)
    if resamples == 0 or len(rows) == 1:
        return Value(value)
    low, high = bootstrap(metric, rows, resamples=resamples, random=generator(task, metric.name))
    return Value(value, low, high)
