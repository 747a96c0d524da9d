"""Encodings laid one after the other are those of the objects, whatever is taken of them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtl.data.encoding import Encoded
from mtl.data.flat import Flat, gathered
from mtl.data.store import EncodedSplit
from mtl.tasks.task import Example


@st.composite
def encodings(draw: st.DrawFn) -> list[Encoded]:
    """With and without branches, of any length, some without a label."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        branches = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
        length = draw(st.integers(1, 5)) + sum(branches)
        tokens = draw(st.lists(st.integers(0, 70_000), min_size=length, max_size=length))
        labelled = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        found.append(
            Encoded(
                tokens=np.array(tokens, dtype=np.int32),
                labelled=np.array(labelled, dtype=np.bool_),
                branches=branches,
                target=draw(st.sampled_from([0.0, 3.0, float("nan")])),
            )
        )
    return found


def assert_equal(one: Flat, other: Flat) -> None:
    for field in fields(Flat):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@given(encodings(), st.data())
def test_what_is_taken_is_what_the_objects_give(encoded: list[Encoded], data: st.DataObject):
    order = data.draw(st.lists(st.integers(0, len(encoded) - 1), min_size=1, max_size=8))
    wanted = Flat.of([encoded[i] for i in order])
    assert_equal(Flat.of(encoded).take(np.array(order)), wanted)
    examples = [
        Example(row=str(i), segments=(), prompt=(), target=None) for i in range(len(encoded))
    ]
    store = EncodedSplit.build(examples, lambda example: encoded[int(example.row)])
    assert_equal(store.flat.take(np.array(order)), wanted)


@given(st.lists(encodings(), min_size=1, max_size=4), st.data())
def test_what_is_gathered_of_several_is_what_the_objects_give(
    sources: list[list[Encoded]], data: st.DataObject
):
    every = [(source, row) for source, rows in enumerate(sources) for row in range(len(rows))]
    named = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=8))
    which, rows = np.array(named).T
    found = gathered([Flat.of(source) for source in sources], which, rows)
    assert_equal(found, Flat.of([sources[source][row] for source, row in named]))
