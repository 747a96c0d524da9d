"""Batches of few shapes hold what batches of any shape hold."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl.data.batch import Batch, collate, idle_batch
from mtl.data.encoding import Encoded
from mtl.data.grid import Grid, read_on_grid
from mtl.data.loader import TrainLoader
from mtl.data.plan import Composition, Plan
from mtl.data.store import EncodedSplit
from mtl.tasks.task import Example


def test_numbers_of_rows() -> None:
    counts = range(1, 1025)
    rows = [Grid.rows(count) for count in counts]
    assert rows[:32] == list(range(1, 33))
    assert rows[32:36] == [34, 34, 36, 36]
    assert rows[64:72] == [68] * 4 + [72] * 4
    assert all((row - count) / row < 1 / 17 for row, count in zip(rows, counts, strict=True))
    # Sixteen from one power of two to the next.
    assert len(set(rows)) == 32 + 16 * 5


@pytest.mark.parametrize(
    ("read", "tokens", "wanted"),
    [(0, 100, 64), (3, 100, 64), (64, 100, 64), (65, 500, 128), (65, 100, 100), (9, 20, 20)],
)
def test_numbers_of_tokens_that_are_read(read: int, tokens: int, wanted: int) -> None:
    only = torch.arange(tokens).flip(0)[:read]
    padded = read_on_grid(only, tokens)
    assert len(padded) == wanted
    assert padded[:read].equal(only)
    assert padded.bincount().max() <= 2  # none is read over and over
    assert padded.max() < tokens


def encode(example: Example) -> Encoded:
    number = int(example.target or 0)
    prefix, branches = 3 + number * 7 % 13, (2, 1 + number % 3) if number % 4 == 0 else ()
    labelled = np.zeros(prefix + sum(branches), dtype=np.bool_)
    labelled[prefix - number % 2 - 1 :] = number % 3 > 0
    return Encoded(
        tokens=np.full(len(labelled), number + 1, np.int32),
        labelled=labelled,
        branches=branches,
        target=number,
    )


STORES = [
    EncodedSplit.build(
        [Example(row=f"train:{i}", segments=(), prompt=(), target=i) for i in range(n)], encode
    )
    for n in (200, 120, 35)
]


def batches(
    composition: Composition, grid: Grid | None, *, start: int = 0, apart: bool = False
) -> list[Batch]:
    plan = Plan(
        [store.lengths for store in STORES],
        [0.5, 0.3, 0.2],
        keys=["a", "b", "c"],
        composition=composition,
        batch_tokens=4500,
        seed=3,
    )
    loader = TrainLoader(
        STORES, plan, steps=40, start=start, arrangement="apart" if apart else "together", grid=grid
    )
    return [one for piece in loader for one in piece]


def seen_by(batch: Batch, index: Tensor) -> list[list[tuple[int, int]]]:
    """For some tokens what each sees: tokens and positions."""
    rows, width = batch.tokens.shape
    mask = torch.ones(rows, 1, width, width, dtype=torch.bool).tril()
    mask = mask if batch.mask is None else batch.mask
    found = []
    for row, column in zip((index // width).tolist(), (index % width).tolist(), strict=True):
        seen = mask[row, 0, column]
        pairs = zip(batch.tokens[row][seen], batch.positions[row][seen], strict=True)
        found.append([(int(token), int(position)) for token, position in pairs])
    return found


@pytest.mark.parametrize("composition", get_args(Composition))
@pytest.mark.parametrize("apart", [False, True])
def test_batches_on_the_grid(composition: Composition, apart: bool) -> None:
    grid = Grid.of(STORES)
    assert grid == Grid(128)
    loose, fixed = (batches(composition, g, apart=apart) for g in (None, grid))
    assert len(loose) == len(fixed) >= 40
    for one, other in zip(loose, fixed, strict=True):
        rows, width = other.tokens.shape
        assert (width, rows) == (128, Grid.rows(rows))
        assert (one.on_grid, other.on_grid) == (False, True)
        assert (one.rows, one.real_tokens) == (other.rows, other.real_tokens)
        assert int((other.tokens > 0).sum()) == other.real_tokens
        for name in ("task", "target", "terms", "weight", "label_tokens", "label_branches"):
            assert getattr(one, name).equal(getattr(other, name))
        for name in ("label_sources", "branch_ends"):
            assert seen_by(one, getattr(one, name)) == seen_by(other, getattr(other, name))
    assert len({one.tokens.shape for one in fixed}) < len({one.tokens.shape for one in loose})


def test_batches_on_the_grid_are_the_same_after_a_stop() -> None:
    unbroken, later = (batches("mixed", Grid.of(STORES), start=start) for start in (0, 25))
    for one, other in zip(unbroken[25:], later, strict=True):
        for field in fields(Batch):
            first, second = getattr(one, field.name), getattr(other, field.name)
            assert (
                first.equal(second)
                if isinstance(first, Tensor)
                else field.name == "encoded" or (first == second)
            )


def test_rows_of_nothing_need_no_mask() -> None:
    """One unbranched example a row, in 33 rows and one empty one: plain causal attention says the same."""
    rows = [Encoded(tokens=np.arange(1, 61), labelled=np.zeros(60, dtype=np.bool_))] * 33
    batch = collate(rows, tasks=[0] * 33, rows=range(33), grid=Grid(64))
    assert batch.tokens.shape == (34, 64)
    assert batch.mask is None
    idle = idle_batch(Grid(64))
    assert (idle.tokens.shape, idle.real_tokens) == ((1, 64), 0)
