"""Rows of a task: drawn, balanced, distinct and shuffled."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from mtl.config.errors import unknown_name
from mtl.tasks.microworld import (
    acceptability,
    entailment,
    pronoun,
    question_answering,
    sentiment,
    similarity,
    summarisation,
    translation,
)
from mtl.tasks.microworld.draw import SPLITS, Row, stream

TASKS: dict[str, ModuleType] = {
    "sentiment": sentiment,
    "acceptability": acceptability,
    "entailment": entailment,
    "similarity": similarity,
    "question_answering": question_answering,
    "pronoun": pronoun,
    "translation": translation,
    "summarisation": summarisation,
}
SIZES = {"train": 8000, "validation": 400, "test": 500}
"""Rows of each split, the same for every task."""


def rows(task: str, split: str, *, seed: int = 0) -> list[Row]:
    """The rows of one split of a task, as a dataset would hold them; always the same ones.

    :param task: ``sentiment``, ``acceptability``, ``entailment``, ``similarity``, ``question_answering``,
        ``pronoun``, ``translation`` or ``summarisation``.
    :param split: ``train`` (8,000 rows), ``validation`` (400) or ``test`` (500).
    :param seed: The world; another seed gives other people's lives, another language and other splits.
    :raises UserError: for an unknown task or split.
    """
    if task not in TASKS:
        raise unknown_name("microworld task", task, TASKS)
    if split not in SPLITS:
        raise unknown_name("split of the microworld", split, SPLITS)
    return [dict(row) for row in drawn_rows(task, split, seed)]


@lru_cache(maxsize=64)
def drawn_rows(task: str, split: str, seed: int) -> tuple[Row, ...]:
    """As :func:`rows`, shared by all callers: not to be changed."""
    module = TASKS[task]
    chance = stream("microworld", seed, task, split)
    seen: set[tuple[str, ...]] = set()
    drawn: list[Row] = []
    turn = 0
    while len(drawn) < SIZES[split]:
        group = module.draw(chance, seed, split, turn)
        texts = [_input(row, module.TARGET) for row in group]
        # A drawn row that stands there already is drawn again in the same turn: the balance is kept.
        if seen.isdisjoint(texts):
            seen.update(texts)
            drawn += group
            turn += 1
    drawn = drawn[: SIZES[split]]
    stream("microworld", seed, task, split, "order").shuffle(drawn)
    return tuple(drawn)


def _input(row: Row, target: str) -> tuple[str, ...]:
    """Everything a row shows but its target."""
    return tuple(str(value) for column, value in row.items() if column != target)
