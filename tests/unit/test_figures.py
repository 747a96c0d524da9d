"""The small pieces that figures are made of: axes, places of labels, curves over seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mtl.reporting.figures.curves import POINTS, band
from mtl.reporting.figures.scale import Scale, around, tick_label
from mtl.reporting.figures.spacing import Box, apart, beside
from mtl.reporting.latex import escaped as in_latex
from mtl.reporting.markdown import escaped as in_markdown

NUMBERS = some.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, ["0.0", "0.5", "1.0"]),
        (0.12, 0.31, ["0.15", "0.20", "0.25", "0.30"]),
        (-3, 7, ["\N{MINUS SIGN}2", "0", "2", "4", "6"]),
        (0, 2.4e6, ["0", "500 k", "1.0 M", "1.5 M", "2.0 M"]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[str]) -> None:
    assert [label for _, label in Scale(low, high, 0, 100).labels()] == ticks


def test_ticks_of_whole_numbers_are_whole() -> None:
    assert Scale(1, 3, 0, 100, least=1.0).ticks() == [1, 2, 3]
    assert Scale(1, 1.5, 0, 100, least=1.0).ticks() == [1]


def test_labels_have_the_digits_of_their_step() -> None:
    assert tick_label(1_500_000, 500_000) == "1.5 M"
    assert tick_label(0.30000000000000004, 0.1) == "0.3"
    assert tick_label(-0.0, 0.1) == "0.0"


@given(some.lists(NUMBERS, min_size=1, max_size=20), some.booleans())
def test_all_values_lie_on_their_axis(values: list[float], zero: bool) -> None:
    scale = around(values, 300.0, 20.0, zero=zero)
    for value in [*values, *([0.0] if zero else [])]:
        assert 20.0 <= scale(value) <= 300.0
    assert 1 <= len(scale.ticks()) <= 5


@given(some.lists(some.floats(0, 200), min_size=1, max_size=18))
def test_labels_are_moved_apart_and_keep_their_order(places: list[float]) -> None:
    moved = apart(places, 10.0, 0.0, 200.0)
    order = sorted(range(len(places)), key=places.__getitem__)
    for one, other in itertools.pairwise(order):
        assert moved[other] - moved[one] >= 10.0 - 1e-9
    assert all(-1e-9 <= place <= 200.0 + 1e-9 for place in moved)


def test_labels_with_room_stay_where_they_belong() -> None:
    assert apart([50.0, 10.0, 90.0], 10.0, 0.0, 100.0) == [50.0, 10.0, 90.0]
    assert apart([50.0, 50.0], 10.0, 0.0, 100.0) == [45.0, 55.0]


def test_labels_of_marks_find_room() -> None:
    marks = [(100.0, 20.0 + 12 * index) for index in range(16)]
    places = beside(marks, [16.0] * 16, 11.0, Box(0, 0, 200, 220))
    boxes = [Box(x - 8, y - 5.5, x + 8, y + 5.5) for x, y in places]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.touches(other)


def test_a_curve_over_seeds_is_their_mean_between_lowest_and_highest() -> None:
    found = band([[(100, 1.0), (200, 2.0)], [(110, 3.0), (210, 6.0)]])
    assert found.tokens.tolist() == [105, 205]
    assert found.mean.tolist() == [2.0, 4.0]
    assert found.low.tolist() == [1.0, 2.0]
    assert found.high.tolist() == [3.0, 6.0]
    assert found.seeds == 2


def test_seeds_that_were_logged_at_other_steps_are_read_where_all_have_been() -> None:
    found = band([[(0, 0.0), (100, 1.0), (200, 2.0)], [(50, 10.0), (150, 20.0)]])
    assert found.tokens.tolist() == [100]
    assert found.mean.tolist() == [(1.0 + 15.0) / 2]


def test_a_long_curve_is_put_together_without_losing_any_of_it() -> None:
    values = np.random.default_rng(0).normal(size=10 * POINTS)
    found = band([[(index, float(value)) for index, value in enumerate(values)]])
    assert len(found.tokens) == POINTS
    np.testing.assert_allclose(found.mean, values.reshape(POINTS, 10).mean(axis=1))


def test_signs_are_escaped() -> None:
    assert in_latex("a_b & 50 % {x} ~^\\ [1]") == (
        r"a\_b \& 50 \% \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} {[}1{]}"
    )
    assert in_markdown("a_b|c *d* <e> [0, 1]\n[f](g)") == r"a\_b\|c \*d\* \<e\> [0, 1] [f]\(g)"
