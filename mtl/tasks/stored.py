"""Documents on disk as examples: each is read when it is asked for, so that memory does not grow with the corpus."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np

from mtl.storage.texts import StoredTexts
from mtl.tasks.task import Example, Split


class Stored(Protocol):
    """Texts on disk that know the names of their rows."""

    texts: StoredTexts

    def row(self, index: int) -> str:
        """``<source>:<row>`` of a text."""
        ...


class StoredExamples(Sequence[Example]):
    """Some documents of a store, in the order of ``positions``.

    :param positions: (n,) int64 positions of the documents in the store.
    """

    def __init__(self, store: Stored, positions: np.ndarray):
        self.store = store
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def bytes_total(self) -> int:
        """UTF-8 bytes of the documents."""
        return int(self.store.texts.lengths[self._positions].sum())

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> StoredExamples: ...
    def __getitem__(self, index: int | slice) -> Example | StoredExamples:
        if isinstance(index, slice):
            return StoredExamples(self.store, self._positions[index])
        position = int(self._positions[index])
        text = self.store.texts[position]
        return Example(self.store.row(position), (), (), None, references=(text,))

    def at(self, indices: np.ndarray) -> StoredExamples:
        """The documents at these indices."""
        return StoredExamples(self.store, self._positions[indices])

    def split(self, name: str, note: str) -> Split:
        """These documents as a split, named by their content."""
        content = hashlib.sha256(self.store.texts.digests[self._positions].tobytes())
        return Split(name, self, content.hexdigest()[:16], note)


SAMPLE_BYTES = 64 << 20
"""Enough text to learn a vocabulary from."""


def sample(examples: Sequence[Example], most: int = SAMPLE_BYTES) -> Sequence[Example]:
    """Every k-th of stored documents, with k so large that they have about ``most`` bytes; all of them where they have
    no more. Documents in memory are all taken."""
    if not isinstance(examples, StoredExamples):
        return examples
    return examples[:: max(1, math.ceil(examples.bytes_total / most))]


def divide(
    digests: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the documents that train, that select and that are reported, each in ascending order.

    A document's place depends on its content and the seed alone: equal documents stand on one side, and a corpus that
    grows moves none of them. Where a side would have none it gets the document nearest to its border.

    :param digests: (N,) digests of the documents; at least three of them differ.
    :param share: Share of the documents that are held out, half of them for each purpose.
    """
    name = hashlib.sha256(f"held out/{seed}".encode()).digest()
    odd = np.uint64(int.from_bytes(name[:8], "little") | 1)
    # Multiply-shift hashing of digests that are random already: the product wraps around.
    rank = np.frombuffer(digests.tobytes(), dtype=np.uint64)[::2] * odd
    values = np.unique(rank)
    select = min(max(int(np.searchsorted(values, _border(share / 2))), 1), len(values) - 2)
    report = min(max(int(np.searchsorted(values, _border(share))), select + 1), len(values) - 1)
    selects = rank < values[select]
    reported = ~selects & (rank < values[report])
    return (
        np.flatnonzero(~selects & ~reported),
        np.flatnonzero(selects),
        np.flatnonzero(reported),
    )


def _border(share: float) -> np.uint64:
    return np.uint64(min(int(share * 2**64), 2**64 - 1))
