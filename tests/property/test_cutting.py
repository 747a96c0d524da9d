"""Steps are as few and as even as they can be, whatever the rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtl.data.cutting import cut


def filled(lengths: list[int], limit: int) -> list[int]:
    """Bounds of steps that are each filled as far as they go."""
    bounds, held = [0], 0
    for i, length in enumerate(lengths):
        if i > bounds[-1] and held + length > limit:
            bounds.append(i)
            held = 0
        held += length
    return [*bounds, len(lengths)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 100))
def test_the_lowest_limit_with_as_few_steps(lengths: list[int], limit: int) -> None:
    fewest = len(filled(lengths, limit))
    lowest = next(m for m in range(1, limit + 1) if len(filled(lengths, m)) == fewest)
    assert cut(np.array(lengths), limit).tolist() == filled(lengths, lowest)
