"""Evaluation rows that also stand among training rows: of the same task, or of another task with the same origin.

Rows are compared by their segments, normalised: lower case, letters and digits only, speakers' names at the
start of a line left out. Two rows are the same where all their segments are, in any order; or where one of their
identifying segments (``TaskConfig.identifying``: a premise, a question, a passage, a dialogue) of at least 20
characters is, because whoever has read the premise has read most of the row. The only segment of a row is
identifying.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mtl.tasks.splits import make_split
from mtl.tasks.task import Example, Split, Task

SHORTEST = 20
"""Characters that an identifying segment has at least, after normalisation."""

_SPEAKER = re.compile(r"^\s*#?\w+#?\s*:", re.MULTILINE)
_NOISE = re.compile(r"[\W_]+")
_NOISE_ASCII = bytes(code for code in range(128) if not chr(code).isalnum())

Key = str | tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """Evaluation rows of one task that a model sees when it trains on another, or on the same one."""

    evaluation_task: str
    """Task whose evaluation rows were seen."""
    purpose: Literal["selection", "report"]
    """What these rows are for."""
    split: str
    """Published split they come from."""
    train_task: str
    """Task whose training rows show them."""
    rows: tuple[int, ...]
    """Positions of the evaluation rows in their split, ascending."""
    train_rows: tuple[int, ...]
    """Positions of the training rows that show them, ascending."""
    total: int
    """Rows of the evaluation split."""


def find_overlap(tasks: Sequence[Task]) -> list[Overlap]:
    """Every pair of an evaluation split and a train split that have rows in common, in the order of ``tasks``."""
    keys = {
        task.name: [_keys(example, task) for example in task.train.examples]
        for task in tasks
        if task.train
    }
    positions = {name: _positions(of_rows) for name, of_rows in keys.items()}
    found: list[Overlap] = []
    for task in tasks:
        splits: list[tuple[Literal["selection", "report"], Split | None]] = [
            ("report", task.report),
            ("selection", task.selection),
        ]
        for purpose, split in splits:
            if split is None:
                continue
            wanted = [_keys(example, task) for example in split.examples]
            for name, seen in positions.items():
                rows = tuple(
                    row
                    for row, row_keys in enumerate(wanted)
                    if not seen.keys().isdisjoint(row_keys)
                )
                if rows:
                    training = {
                        position
                        for row in rows
                        for key in wanted[row]
                        for position in seen.get(key, ())
                    }
                    found.append(
                        Overlap(
                            evaluation_task=task.name,
                            purpose=purpose,
                            split=split.name,
                            train_task=name,
                            rows=rows,
                            train_rows=tuple(sorted(training)),
                            total=len(wanted),
                        )
                    )
    return found


def exclude_overlap(tasks: Sequence[Task], overlaps: Sequence[Overlap]) -> list[Task]:
    """The tasks without the training rows that show evaluation rows; said in the note of the train split.

    :param overlaps: What :func:`find_overlap` found in these very tasks.
    """
    excluded: dict[str, set[int]] = defaultdict(set)
    for overlap in overlaps:
        excluded[overlap.train_task].update(overlap.train_rows)
    return [
        _without(task, excluded[task.name]) if task.name in excluded else task for task in tasks
    ]


def _without(task: Task, positions: set[int]) -> Task:
    train = task.train
    if train is None or not positions:
        return task
    kept = [example for position, example in enumerate(train.examples) if position not in positions]
    own = f"{len(positions)} rows that overlap evaluation rows removed"
    note = f"{train.note}; {own}" if train.note else own
    return replace(task, train=make_split(train.name, kept, note=note))


def normalise(text: str) -> str:
    """Letters and digits only, lower-cased, without the name of the speaker at the start of each line."""
    if ":" in text:
        text = _SPEAKER.sub("", text)
    text = text.lower()
    if text.isascii():  # several times faster than the expression
        return text.encode().translate(None, _NOISE_ASCII).decode()
    return _NOISE.sub("", unicodedata.normalize("NFKC", text))


def _keys(example: Example, task: Task) -> list[Key]:
    """What a row is recognised by: all its segments together, and each identifying one alone."""
    segments = example.segments or example.references[:1]
    texts = [normalise(segment) for segment in segments]
    if len(texts) == 1:
        return [texts[0]] if texts[0] else []
    alone: list[Key] = [
        texts[index] for index in task.config.identifying if len(texts[index]) >= SHORTEST
    ]
    together = tuple(sorted(texts))
    return [*alone, together] if any(together) else alone


def _positions(keys: Sequence[Sequence[Key]]) -> dict[Key, list[int]]:
    positions: dict[Key, list[int]] = defaultdict(list)
    for position, row_keys in enumerate(keys):
        for key in row_keys:
            positions[key].append(position)
    return dict(positions)
