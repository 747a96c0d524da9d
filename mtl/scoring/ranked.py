"""Candidates that a language model ranked: which one is the answer, and what other forms of likelihood would answer.

A sum of log-probabilities favours short candidates, a mean long ones; lm-evaluation-harness reports the sum (``acc``)
and the mean over characters (``acc_norm``) beside each other, and so is done here for every form that can be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mtl.scoring import statistics, values
from mtl.scoring.metrics import Array, Metric
from mtl.tasks.task import Answer, Example, Task

Form = Literal["sum", "token", "character", "byte", "mutual_information"]
FORMS: tuple[Form, ...] = ("sum", "token", "character", "byte", "mutual_information")
"""Values of ``protocol.rank_by``."""


def best_candidate(answer: Answer, example: Example, rank_by: Form) -> int:
    """Index of the candidate that is likeliest in one form of likelihood; of equal ones the first.

    ``sum``: all tokens; ``token``, ``character``, ``byte``: that sum over the candidate's length in these, its leading
    blank not counted, as lm-evaluation-harness divides; ``mutual_information``: less the unconditional one.
    """
    values = answer.scores
    if rank_by == "mutual_information":
        values = tuple(a - b for a, b in zip(values, answer.unconditional, strict=True))
    elif rank_by == "token":
        values = tuple(score / count for score, count in zip(values, answer.tokens, strict=True))
    elif rank_by in ("character", "byte"):
        texts = [text.removeprefix(" ") for text in example.answers]
        sizes = [len(text if rank_by == "character" else text.encode()) for text in texts]
        values = tuple(score / size for score, size in zip(values, sizes, strict=True))
    return max(range(len(values)), key=values.__getitem__)


def ranked_metrics(task: Task, answers: Sequence[Answer]) -> tuple[Metric, ...]:
    """``accuracy_by_<form>`` of a closed task whose candidates were all ranked by likelihood, for every form but the
    one that decides; else none. Bytes are left out where they do not decide: they differ from characters in few texts.

    No task declares them, and none is ever a primary metric.
    """
    if (
        task.is_open
        or task.kind == "regression"
        or not all(answer.scores and len(answer.tokens) == len(answer.scores) for answer in answers)
    ):
        return ()
    left_out = {task.config.protocol.rank_by, "byte"}
    if not all(answer.unconditional for answer in answers):
        left_out.add("mutual_information")
    return tuple(_accuracy(form, task) for form in FORMS if form not in left_out)


def _accuracy(form: Form, task: Task) -> Metric:
    def prepare(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
        pairs = zip(answers, examples, strict=True)
        return np.array(
            [(best_candidate(answer, example, form), example.target) for answer, example in pairs],
            dtype=np.float64,
        )

    return Metric(
        name=f"accuracy_by_{form}",
        kinds=(task.kind,),
        range=(0.0, 1.0),
        prepare=prepare,
        library_value=values.accuracy,
        resampled=statistics.accuracy,
    )
