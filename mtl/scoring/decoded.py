"""Answers to closed tasks that were decoded freely: how many are right, and how many are no answer at all.

Ranking an answer space never gives an answer outside it, so that it hides whether a model has learnt what an answer
is. T5 decodes freely and counts whatever is no answer as wrong (section 2.4).

A text is compared with the row's answers as written, capitals included; only blanks at both ends are left out. A score
is right where its text is that of the nearest of the values a score can take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mtl.scoring import statistics, values
from mtl.scoring.metrics import Array, Metric
from mtl.tasks.closed import right_answer
from mtl.tasks.task import Answer, Example, Task


def decoded_metrics(task: Task, answers: Sequence[Answer]) -> tuple[Metric, ...]:
    """``decoded_accuracy`` and ``invalid_share`` of a closed task whose answers were all decoded too; else none.

    No task declares them, and neither is ever a primary metric.
    """
    if task.is_open or any(answer.decoded is None for answer in answers):
        return ()

    def right(answer: Answer, example: Example) -> bool:
        return answer.decoded == example.answers[right_answer(example, task)].strip()

    def invalid(answer: Answer, example: Example) -> bool:
        return answer.decoded not in [text.strip() for text in example.answers]

    return (
        _share("decoded_accuracy", task, right, higher_is_better=True),
        _share("invalid_share", task, invalid, higher_is_better=False),
    )


def _share(
    name: str, task: Task, holds: Callable[[Answer, Example], bool], *, higher_is_better: bool
) -> Metric:
    """The share of rows of which something holds."""

    def prepare(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
        pairs = zip(answers, examples, strict=True)
        return np.array([[holds(answer, example)] for answer, example in pairs], dtype=np.float64)

    return Metric(
        name=name,
        kinds=(task.kind,),
        range=(0.0, 1.0),
        higher_is_better=higher_is_better,
        prepare=prepare,
        library_value=values.mean,
        resampled=statistics.mean,
    )
