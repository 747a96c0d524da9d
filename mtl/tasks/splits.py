"""Which rows train, which select and which are reported."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from mtl.tasks.task import Example, Split


def fingerprint(examples: Sequence[Example]) -> str:
    """Content hash of examples in their order: the first 16 hexadecimal digits of a sha256."""
    digest = hashlib.sha256()
    for e in examples:
        content: tuple[object, ...] = (
            *(e.row, e.segments, e.prompt, e.target, e.answers, e.choices, e.references),
            *(part for part in (e.given, e.original) if part),
        )
        digest.update(repr(content).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def make_split(name: str, examples: Sequence[Example], *, note: str = "") -> Split:
    """A split with its fingerprint."""
    return Split(name, tuple(examples), fingerprint(examples), note)


def selection_size(rows: int, *, at_most: int, share: float) -> int:
    """Rows to cut from ``rows`` training rows for selection; at least one is cut and one is left."""
    return max(1, min(at_most, int(share * rows), rows - 1))


def cut_selection(examples: Sequence[Example], size: int, *, task: str, seed: int) -> list[int]:
    """Positions of ``size`` rows that select, in ascending order; all other rows go on training.

    The order in which rows are taken depends on the seed and the name of the task alone, so a smaller cut is
    part of a larger one and every strategy of a comparison sees the same cut. Rows that share their first
    segment (a premise, a passage, a repeated sentence) are taken together, so that at most the last
    passage taken stands on both sides.
    """
    groups: dict[str, list[int]] = {}
    for position, example in enumerate(examples):
        key = example.segments[0] if example.segments else example.references[0]
        groups.setdefault(key, []).append(position)
    members = list(groups.values())
    chosen: list[int] = []
    for index in generator(task, seed).permutation(len(members)):
        chosen += members[index]
        if len(chosen) >= size:
            break
    return sorted(chosen[:size])


def subsample(examples: Sequence[Example], share: float, *, task: str, seed: int) -> list[int]:
    """Positions of ``ceil(share * n)`` of n rows, in ascending order.

    Rows are ranked by a hash of the seed, the name of the task and the name of the row, and the first are taken: a
    smaller share is part of a larger one, and a row keeps its rank whatever other rows there are.

    :param share: More than 0 and at most 1.
    """
    # Rounded, because 0.07 * 100 is a little more than 7.
    count = math.ceil(round(share * len(examples), 6))
    if count >= len(examples):
        return list(range(len(examples)))
    rank = [
        hashlib.sha256(f"fraction/{seed}/{task}/{example.row}".encode()).digest()
        for example in examples
    ]
    return sorted(sorted(range(len(examples)), key=rank.__getitem__)[: max(count, 1)])


def generator(name: str, seed: int) -> np.random.Generator:
    """A random stream of its own for each (name, seed)."""
    digest = hashlib.sha256(f"{name}:{seed}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
