"""Encodings laid one after the other: what a batch is built of, without an object for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtl.data.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Flat:
    """B encodings. Legend: N tokens of all of them, M branches."""

    tokens: np.ndarray
    """(N,) int."""
    labelled: np.ndarray
    """(N,) bool, see :class:`mtl.data.encoding.Encoded`."""
    lengths: np.ndarray
    """(B,) int64: tokens of each."""
    branches: np.ndarray
    """(M,) int: tokens of each branch."""
    branch_counts: np.ndarray
    """(B,) int64: branches of each; 0 for a prefix alone."""
    target: np.ndarray
    """(B,) float32."""

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, encoded: Sequence[Encoded]) -> Flat:
        """Of encodings that are objects, in their order; at least one."""
        return cls(
            tokens=np.concatenate([e.tokens for e in encoded]),
            labelled=np.concatenate([e.labelled for e in encoded]).astype(np.bool_),
            lengths=np.array([len(e.tokens) for e in encoded], dtype=np.int64),
            branches=np.array([n for e in encoded for n in e.branches], dtype=np.int64),
            branch_counts=np.array([len(e.branches) for e in encoded], dtype=np.int64),
            target=np.array([e.target for e in encoded], dtype=np.float32),
        )

    def take(self, order: np.ndarray) -> Flat:
        """Those at (n,) positions, in that order."""
        return gathered(
            order,
            self.tokens,
            self.labelled,
            self.lengths,
            np.cumsum(self.lengths) - self.lengths,
            self.branches,
            self.branch_counts,
            np.cumsum(self.branch_counts) - self.branch_counts,
            self.target,
        )

    @classmethod
    def joined(cls, parts: Sequence[Flat]) -> Flat:
        """Of several, one after the other; at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__slots__))


def gathered(
    order: np.ndarray,
    tokens: np.ndarray,
    labelled: np.ndarray,
    lengths: np.ndarray,
    starts: np.ndarray,
    branches: np.ndarray,
    branch_counts: np.ndarray,
    branch_starts: np.ndarray,
    target: np.ndarray,
) -> Flat:
    """The encodings at (n,) positions of arrays that hold more, in that order.

    :param starts: (B,) where the tokens of each begin.
    :param branch_starts: (B,) where its branches begin.
    """
    own, counts = lengths[order], branch_counts[order]
    where = ranges(starts[order], own)
    return Flat(
        tokens=tokens[where],
        labelled=labelled[where].astype(np.bool_),
        lengths=own,
        branches=branches[ranges(branch_starts[order], counts)],
        branch_counts=counts,
        target=target[order],
    )


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``counts[i]`` numbers from ``starts[i]`` on, for each i."""
    before = np.cumsum(counts) - counts
    found: np.ndarray = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return found
