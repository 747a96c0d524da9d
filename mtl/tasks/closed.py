"""Closed tasks: what the answers of a score stand for, and which answer is right."""

from __future__ import annotations

import numpy as np

from mtl.tasks.task import Example, Task


def score_values(task: Task, count: int) -> np.ndarray:
    """(count,) the scores that the answers of a regression task stand for, evenly spaced over its range.

    With 21 answers over 1 to 5 these are T5's steps of 0.2 (T5, section 2.4).
    """
    low, high = task.config.range
    return np.linspace(low, high, count)


def right_answer(example: Example, task: Task) -> int:
    """Index of the right answer of a closed task; for a score, of the answer nearest to it."""
    assert example.target is not None
    if task.kind == "regression":
        return int(np.abs(score_values(task, len(example.answers)) - example.target).argmin())
    return int(example.target)
