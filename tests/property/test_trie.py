"""Tries of token sequences: every sequence lies on its path, sees itself alone, and rows cost as little as they can."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.scoring import trie
from mtl.scoring.trie import Cost, Trie

SEQUENCES = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), min_size=1, max_size=9
)


@given(SEQUENCES)
def test_sequences_are_kept_once_and_in_order(given_: list[tuple[int, ...]]) -> None:
    found = Trie([[token + 300 for token in sequence] for sequence in given_])
    expected = sorted(set(given_))
    assert [tuple(tokens - 300) for tokens in found.tokens] == expected
    assert [expected[number] for number in found.number] == given_


@given(SEQUENCES, st.data())
def test_a_token_sees_its_own_sequence_alone(
    given_: list[tuple[int, ...]], data: st.DataObject
) -> None:
    found = Trie(given_)
    begin = data.draw(st.integers(0, len(found.tokens) - 1))
    sequences = range(begin, data.draw(st.integers(begin + 1, len(found.tokens))))
    row, shape = found.row(sequences, 0), found.shape(sequences, 0)
    assert shape.tokens == len(row.tokens)
    assert shape.plain == row.plain
    assert len(row.tokens) == len(
        {found.tokens[i][: n + 1].tobytes() for i in sequences for n in range(found.lengths[i])}
    )
    number = np.arange(len(row.tokens))
    sees = (number[None] <= number[:, None]) & (number[:, None] < row.ends)
    for sequence, path in zip(sequences, row.paths, strict=True):
        assert row.tokens[path].tolist() == found.tokens[sequence].tolist()
        assert row.positions[path].tolist() == list(range(len(path)))
        for depth, node in enumerate(path):
            assert np.flatnonzero(sees[node]).tolist() == path[: depth + 1].tolist()
    assert row.plain == bool((sees == np.tri(len(number), dtype=bool)).all())


@given(SEQUENCES, st.sampled_from([0.0, 0.1, 1.0, 10.0]), st.integers(1, 30))
def test_no_other_division_costs_less(
    given_: list[tuple[int, ...]], pair: float, longest: int
) -> None:
    found, cost = Trie(given_), Cost(1.0, pair, longest)
    count = len(found.tokens)

    def price(rows: list[range]) -> float:
        sizes = [found.shape(row, 0).tokens for row in rows]
        if any(size > longest and len(row) > 1 for size, row in zip(sizes, rows, strict=True)):
            return np.inf
        return sum(float(cost.rows(size, 0)) for size in sizes)

    divisions = [
        [range(a, b) for a, b in itertools.pairwise([0, *inner, count])]
        for number in range(count)
        for inner in itertools.combinations(range(1, count), number)
    ]
    plan = found.plan(range(count), 0, cost, prefixes=False)
    assert [i for row in plan.rows for i in row] == list(range(count))
    assert price(list(plan.rows)) == pytest.approx(min(map(price, divisions)))


@given(SEQUENCES)
def test_every_sequence_is_in_a_row_or_behind_a_prefix(given_: list[tuple[int, ...]]) -> None:
    found, cost = Trie(given_), Cost(1.0, 1.0, 30)
    with patch.object(trie, "PREFIX", 1), patch.object(trie, "WORTH", 0):
        plan = found.plan(range(len(found.tokens)), 0, cost, prefixes=True)
    parts = [*plan.rows, *(part for part, _ in plan.prefixes)]
    assert sorted(i for part in parts for i in part) == list(range(len(found.tokens)))
    for part, reach in plan.prefixes:
        assert len({found.tokens[i][:reach].tobytes() for i in part}) == 1
        assert len(found.below(part, reach)) >= len(part) - 1 > 0
        assert all(found.lengths[i] > reach for i in found.below(part, reach))
