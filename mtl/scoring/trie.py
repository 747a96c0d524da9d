"""Sequences of tokens as a trie, and its cheapest division into rows: a prefix that many share is computed once.

Sequences stand in lexicographic order, so that whatever shares a prefix stands together and how much a sequence shares
with the one before it says the whole trie.

Legend: S sequences, T tokens of a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PREFIX = 32
"""Fewest shared tokens that are worth looking at as a prefix of their own."""
WORTH = 256
"""A prefix is computed on its own where that saves as much as this many tokens cost: two more passes do too."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a pass costs, in any unit."""

    token: float
    """Of each token."""
    pair: float
    """Of each token that a token may see."""
    longest: int
    """Most tokens of a row of several sequences."""

    def rows(self, tokens: Any, depth: int) -> Any:
        """Cost of rows of so many tokens (a number or an array) behind ``depth`` others.

        Attention computes what a mask hides, too.
        """
        return tokens * (self.token + self.pair * (tokens + depth))


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a row before it is laid."""

    tokens: int
    plain: bool
    """Whether no node branches, so that every token sees all before it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Some neighbouring sequences of a trie, each node laid once, a node's descendants behind it."""

    sequences: range
    tokens: np.ndarray
    """(T,) int64."""
    positions: np.ndarray
    """(T,) int64: depth in the trie."""
    ends: np.ndarray
    """(T,) int64: one past a node's last descendant. So i may see k where k <= i < ends[k]."""
    paths: tuple[np.ndarray, ...]
    """Of each sequence, the nodes it goes through."""

    @property
    def plain(self) -> bool:
        """Whether no node branches, see :class:`Shape`."""
        return bool((self.ends == len(self.tokens)).all())


@dataclass(frozen=True, slots=True)
class Plan:
    """How neighbouring sequences that go on from the same tokens are computed."""

    rows: tuple[range, ...]
    """Sequences of each row."""
    prefixes: tuple[tuple[range, int], ...]
    """Sequences that first get their shared prefix computed, and the depth to which it reaches."""


class Trie:
    """Distinct sequences, none empty.

    :param sequences: In any order; an equal one is kept once.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]):
        # Big-endian bytes are ordered as the numbers are, and compared much faster than tuples.
        keys = [np.array(tokens, dtype=">u4").tobytes() for tokens in sequences]
        ordered = sorted(set(keys))
        number = {key: i for i, key in enumerate(ordered)}
        self.number = [number[key] for key in keys]
        """Of each given sequence, its place in the order."""
        self.tokens = [np.frombuffer(key, dtype=">u4") for key in ordered]
        self.lengths = np.array([len(tokens) for tokens in self.tokens], dtype=np.int64)
        self.shared = np.zeros(len(ordered), dtype=np.int64)
        """(S,) tokens that a sequence shares with the one before it."""
        for i in range(1, len(ordered)):
            self.shared[i] = _shared(self.tokens[i - 1], self.tokens[i])

    def plan(self, sequences: range, depth: int, cost: Cost, *, prefixes: bool) -> Plan:
        """The cheapest rows for neighbours that share their first ``depth`` tokens, which are computed already.

        :param prefixes: Whether a prefix may be computed before the rows that go on from it.
        """
        rows: list[range] = []
        apart: list[tuple[range, int]] = []
        loose = range(sequences.start, sequences.start)
        for run in self._runs(sequences, depth) if prefixes else [sequences]:
            reach = self._worth_a_pass(run, depth, cost) if prefixes else 0
            if reach:
                rows += self._divide(loose, depth, cost)[0]
                apart.append((run, reach))
                loose = range(run.stop, run.stop)
            else:
                loose = range(loose.start, run.stop)
        rows += self._divide(loose, depth, cost)[0]
        return Plan(tuple(rows), tuple(apart))

    def shape(self, sequences: range, depth: int) -> Shape:
        """Of the row that :meth:`row` lays."""
        inner = slice(sequences.start + 1, sequences.stop)
        before = slice(sequences.start, sequences.stop - 1)
        plain = bool((self.shared[inner] == self.lengths[before]).all())
        return Shape(int(self._sizes(sequences, depth)[-1]), plain)

    def row(self, sequences: range, depth: int) -> Row:
        """Lay neighbours that share their first ``depth`` tokens, without these."""
        total = self._sizes(sequences, depth)[-1]
        tokens, positions, ends = (np.empty(total, dtype=np.int64) for _ in range(3))
        paths: list[np.ndarray] = []
        path, used = np.empty(0, dtype=np.int64), 0
        for i in sequences:
            kept = int(self.shared[i]) - depth if paths else 0
            ends[path[kept:]] = used
            own = np.arange(used, used + int(self.lengths[i]) - depth - kept)
            tokens[own] = self.tokens[i][depth + kept :]
            positions[own] = np.arange(depth + kept, self.lengths[i])
            path = np.concatenate([path[:kept], own])
            paths.append(path)
            used += len(own)
        ends[path] = used
        return Row(sequences, tokens, positions, ends, tuple(paths))

    def prefix(self, sequences: range, depth: int, reach: int) -> Row:
        """What neighbours share from ``depth`` to ``reach``, as a row without branches."""
        path = np.arange(reach - depth)
        return Row(
            sequences,
            self.tokens[sequences.start][depth:reach].astype(np.int64),
            path + depth,
            np.full(len(path), len(path)),
            (path,) * len(sequences),
        )

    def _sizes(self, sequences: range, depth: int) -> np.ndarray:
        """Nodes below ``depth`` of the first sequence, of the first two, and so on."""
        part = slice(sequences.start, sequences.stop)
        own = self.lengths[part] - self.shared[part]
        own[:1] = self.lengths[part][:1] - depth
        sizes: np.ndarray = own.cumsum()
        return sizes

    def _runs(self, sequences: range, depth: int) -> list[range]:
        """Neighbours that share some more tokens, as far as they go."""
        inner = self.shared[sequences.start + 1 : sequences.stop]
        cuts = np.flatnonzero(inner < depth + PREFIX) + sequences.start + 1
        bounds = [sequences.start, *cuts.tolist(), sequences.stop]
        return [range(a, b) for a, b in itertools.pairwise(bounds) if a < b]

    def _worth_a_pass(self, run: range, depth: int, cost: Cost) -> int:
        """The depth of the run's shared prefix if computing that first is cheaper by far, else 0."""
        if len(run) < 2:
            return 0
        size = self._sizes(run, depth)[-1]
        together = float(cost.rows(size, depth))
        if size <= cost.longest and together - size * cost.token < WORTH * cost.token:
            return 0
        reach = int(self.shared[run.start + 1 : run.stop].min())
        first = float(cost.rows(reach - depth, depth))
        split = first + self._divide(self.below(run, reach), reach, cost)[1]
        whole = self._divide(run, depth, cost)[1]
        return reach if whole - split > WORTH * cost.token else 0

    def below(self, sequences: range, depth: int) -> range:
        """Those of neighbours sharing ``depth`` tokens that are longer: all but perhaps the first."""
        return sequences[1:] if self.lengths[sequences.start] == depth else sequences

    def _divide(self, sequences: range, depth: int, cost: Cost) -> tuple[list[range], float]:
        """Rows of neighbours with the least cost in all, and that cost."""
        count = len(sequences)
        if not count:
            return [], 0.0
        part = slice(sequences.start, sequences.stop)
        total = self._sizes(sequences, depth)
        ahead = (
            self.lengths[part] - depth - total
        )  # of a row's first, so that ahead[i] + total[j] is its size
        best = np.zeros(count + 1)
        begins = np.empty(count, dtype=np.int64)
        low = 0
        for j in range(count):
            while low < j and total[j] - total[low] > cost.longest:
                low += 1
            sizes = ahead[low : j + 1] + total[j]
            prices = best[low : j + 1] + cost.rows(sizes, depth)
            prices[:-1][sizes[:-1] > cost.longest] = np.inf
            chosen = int(prices.argmin())
            begins[j], best[j + 1] = low + chosen, prices[chosen]
        rows = []
        j = count
        while j:
            rows.append(range(sequences.start + int(begins[j - 1]), sequences.start + j))
            j = int(begins[j - 1])
        return rows[::-1], float(best[-1])


def _shared(one: np.ndarray, other: np.ndarray) -> int:
    """Tokens at the start that are the same."""
    length = min(len(one), len(other))
    differ = one[:length] != other[:length]
    first = int(differ.argmax()) if length else 0
    return first if length and differ[first] else length
