"""The cut rule against the rule as it is stated, one token at a time."""

from hypothesis import given
from hypothesis import strategies as st

from mtl.data.fitting import fit


def one_by_one(pieces: list[list[int]], room: int) -> list[list[int]]:
    pieces = [list(piece) for piece in pieces]
    while sum(map(len, pieces)) > room:
        max(pieces, key=len).pop()  # max returns the earliest of the longest
    return pieces


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=6), st.integers(0, 40))
def test_equals_the_stated_rule(pieces: list[list[int]], room: int) -> None:
    kept, cut = fit(pieces, room)
    assert kept == one_by_one(pieces, room)
    assert cut == sum(map(len, pieces)) - sum(map(len, kept))


def test_known_answers() -> None:
    assert fit([[1, 2, 3, 4, 5], [6, 7]], 5) == ([[1, 2, 3], [6, 7]], 2)
    assert fit([[1, 2, 3], [4, 5, 6]], 5) == ([[1, 2], [4, 5, 6]], 1)
    assert fit([[1], [2]], 2) == ([[1], [2]], 0)
