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
    """(N,) bool, or 0 and 1; see :class:`mtl.data.encoding.Encoded`."""
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

    def take(
        self,
        order: np.ndarray,
        starts: np.ndarray | None = None,
        branch_starts: np.ndarray | None = None,
    ) -> Flat:
        """Those at (n,) positions, in that order.

        :param starts: (B,) where the tokens of each begin, where that is known already.
        :param branch_starts: (B,) where its branches begin.
        """
        if starts is None:
            starts = np.cumsum(self.lengths) - self.lengths
        if branch_starts is None:
            branch_starts = np.cumsum(self.branch_counts) - self.branch_counts
        lengths, counts = self.lengths[order], self.branch_counts[order]
        where = ranges(starts[order], lengths)
        return Flat(
            tokens=self.tokens[where],
            labelled=self.labelled[where].astype(np.bool_),
            lengths=lengths,
            branches=self.branches[ranges(branch_starts[order], counts)],
            branch_counts=counts,
            target=self.target[order],
        )

    @classmethod
    def joined(cls, parts: Sequence[Flat]) -> Flat:
        """Of several, one after the other; at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__slots__))


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``counts[i]`` numbers from ``starts[i]`` on, for each i."""
    before = np.cumsum(counts) - counts
    found: np.ndarray = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return found
