"""Runs of words that occur more than once in a document, counted for one length after the other.

A run of n + 1 words can repeat only where its first n do. So each length looks only at the places that the one before
left, which in prose are few after some words, and a document costs little more than the count of its pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class RepeatedRuns:
    """The runs of n words that occur at least twice; n is 1 to begin with.

    :param words: The words of a document in their order.
    """

    def __init__(self, words: Sequence[str]):
        known: dict[str, int] = {}
        ids = (known.setdefault(word, len(known)) for word in words)
        self._words = np.fromiter(ids, np.int64, len(words))
        ends = np.cumsum([0, *map(len, words)])
        self._ends = ends
        self.n = 1
        self._places, self._runs = _repeated(np.arange(len(words)), self._words)

    def lengthen(self) -> None:
        """To runs of one word more."""
        fits = self._places + self.n < len(self._words)
        places, runs = self._places[fits], self._runs[fits]
        follower = self._words[places + self.n]
        self.n += 1
        self._places, self._runs = _repeated(places, runs * (len(self._words) + 1) + follower)

    def top_characters(self) -> int:
        """Characters in all occurrences of the most frequent run, blanks between its words included.

        Of equally frequent runs the first counts. Occurrences may overlap.
        """
        if len(self._words) < self.n:
            return 0
        if not len(self._places):
            return self._length(0) + self.n - 1
        _, first, counts = np.unique(self._runs, return_index=True, return_counts=True)
        first = first[counts == counts.max()].min()
        return (self._length(self._places[first]) + self.n - 1) * int(counts.max())

    def repeated_characters(self) -> int:
        """Characters in runs that occurred before, without blanks; a run that is counted is stepped over."""
        seen: set[int] = set()
        characters = free = 0
        for place, run in zip(self._places.tolist(), self._runs.tolist(), strict=True):
            if place < free:
                continue
            if run in seen:
                characters += self._length(place)
                free = place + self.n
            else:
                seen.add(run)
        return characters

    def _length(self, place: int) -> int:
        return int(self._ends[place + self.n] - self._ends[place])


def _repeated(places: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places whose run occurs again, and the runs there, numbered anew."""
    _, inverse, counts = np.unique(runs, return_inverse=True, return_counts=True)
    again = counts[inverse] > 1
    return places[again], inverse[again].astype(np.int64)
