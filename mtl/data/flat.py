"""Encodings laid one after the other: what a batch is built of, without an object for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mtl.data.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Flat:
    """B encodings. Legend: N tokens of all of them, M branches."""

    tokens: np.ndarray
    """(N,) int."""
    labelled: np.ndarray
    """(N,) bool, or 0 and 1; see :class:`mtl.data.encoding.Encoded`."""
    lengths: np.ndarray
    """(B,) int64: tokens of each."""
    starts: np.ndarray
    """(B,) int64: where the tokens of each begin."""
    branches: np.ndarray
    """(M,) int: tokens of each branch."""
    branch_counts: np.ndarray
    """(B,) int64: branches of each; 0 for a prefix alone."""
    branch_starts: np.ndarray
    """(B,) int64: where the branches of each begin."""
    target: np.ndarray
    """(B,) float32."""

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, encoded: Sequence[Encoded]) -> Flat:
        """Of encodings that are objects, in their order; at least one."""
        lengths = np.array([len(e.tokens) for e in encoded], dtype=np.int64)
        counts = np.array([len(e.branches) for e in encoded], dtype=np.int64)
        return cls(
            tokens=np.concatenate([e.tokens for e in encoded]),
            labelled=np.concatenate([e.labelled for e in encoded]).astype(np.bool_),
            lengths=lengths,
            starts=lengths.cumsum() - lengths,
            branches=np.array([n for e in encoded for n in e.branches], dtype=np.int64),
            branch_counts=counts,
            branch_starts=counts.cumsum() - counts,
            target=np.array([e.target for e in encoded], dtype=np.float32),
        )

    def take(self, order: np.ndarray) -> Flat:
        """Those at (n,) positions, in that order."""
        return gathered([self], np.zeros(len(order), dtype=np.int64), order)


def gathered(sources: Sequence[Flat], which: np.ndarray, rows: np.ndarray) -> Flat:
    """Encodings of several sources, in the order in which they are named; at least one.

    :param which: (n,) the source of each.
    :param rows: (n,) its position there.
    """
    lengths, starts, counts, branch_starts = np.zeros((4, len(rows)), dtype=np.int64)
    target = np.empty(len(rows), dtype=np.float32)
    for source, own in _each(sources, which):
        chosen = rows[own]
        lengths[own], starts[own] = source.lengths[chosen], source.starts[chosen]
        target[own] = source.target[chosen]
        if len(source.branches):
            counts[own] = source.branch_counts[chosen]
            branch_starts[own] = source.branch_starts[chosen]
    places = ranges(starts, lengths)
    tokens = np.empty(len(places), dtype=np.int64)
    labelled = np.empty(len(places), dtype=np.bool_)
    for source, own in _each(sources, which.repeat(lengths)):
        chosen = places[own]
        tokens[own], labelled[own] = source.tokens[chosen], source.labelled[chosen]
    branch_places = ranges(branch_starts, counts)
    branches = np.empty(len(branch_places), dtype=np.int64)
    if len(branches):
        for source, own in _each(sources, which.repeat(counts)):
            branches[own] = source.branches[branch_places[own]]
    return Flat(
        tokens=tokens,
        labelled=labelled,
        lengths=lengths,
        starts=lengths.cumsum() - lengths,
        branches=branches,
        branch_counts=counts,
        branch_starts=counts.cumsum() - counts,
        target=target,
    )


def _each(sources: Sequence[Flat], which: np.ndarray) -> Iterator[tuple[Flat, np.ndarray | slice]]:
    """Each source that is named, and where."""
    present = np.bincount(which).nonzero()[0].tolist()
    for source in present:
        yield sources[source], slice(None) if len(present) == 1 else which == source


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``counts[i]`` numbers from ``starts[i]`` on, for each i."""
    ends = counts.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    found: np.ndarray = np.arange(total) + (starts - (ends - counts)).repeat(counts)
    return found
