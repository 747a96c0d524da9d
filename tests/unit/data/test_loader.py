"""Loaders: all devices together do the single-device step, budgets, and threads that end."""

import dataclasses
import gc
import itertools
import threading
from typing import get_args

import numpy as np
import pytest
import torch

from mtl.config.errors import UserError
from mtl.config.schema import BudgetConfig
from mtl.data.batch import Batch
from mtl.data.encoding import Encoded
from mtl.data.loader import TrainLoader, evaluation_batches, planned_totals
from mtl.data.plan import Composition, Plan
from mtl.data.store import EncodedSplit
from mtl.tasks.task import Example

SIZES = (40, 25, 7)


def encode(example: Example) -> Encoded:
    number = int(example.target or 0)
    n = 3 + number * 7 % 13
    labelled = np.zeros(n, dtype=np.bool_)
    labelled[n - number % 2 - 1 :] = number % 3 > 0
    return Encoded(tokens=np.full(n, number, np.int32), labelled=labelled, target=number)


STORES = [
    EncodedSplit.build(
        [Example(row=f"train:{i}", segments=(), prompt=(), target=i) for i in range(n)], encode
    )
    for n in SIZES
]


def plan(composition: Composition = "mixed", batch_tokens: int = 100) -> Plan:
    return Plan(
        [store.lengths for store in STORES],
        [0.5, 0.3, 0.2],
        keys=["a", "b", "c"],
        composition=composition,
        batch_tokens=batch_tokens,
        seed=3,
    )


def weigh(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    weights: np.ndarray = terms / terms.sum() + tasks
    return weights


def examples_of(batches: list[Batch]) -> list[tuple[int, int, float]]:
    """Task, row and weight of each example that counts, in no order."""
    return sorted(
        (int(task), row, round(float(weight), 6))
        for batch in batches
        for task, row, weight in zip(batch.task, batch.rows, batch.weight, strict=True)
        if row >= 0
    )


def whole(loader: TrainLoader) -> list[Batch]:
    """The batches of a loader whose pieces are one batch each."""
    pieces = list(loader)
    assert {len(piece) for piece in pieces} == {1}
    return [batch for (batch,) in pieces]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_apart_each_task_of_a_piece_has_a_batch_of_its_own(accumulate: int) -> None:
    mixed = TrainLoader(STORES, plan("mixed"), steps=9, accumulate=accumulate, weigh=weigh)
    apart = TrainLoader(
        STORES, plan("mixed"), steps=9, accumulate=accumulate, weigh=weigh, arrangement="apart"
    )
    for together, batches in zip(whole(mixed), apart, strict=True):
        assert all(len(batch.task.unique()) == 1 for batch in batches)
        order = [int(batch.task[0]) for batch in batches]
        assert order == sorted(set(together.task.tolist()))
        assert examples_of(batches) == examples_of([together])


@pytest.mark.parametrize("composition", get_args(Composition))
@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 3), (2, 2), (5, 4)])
def test_all_pieces_together_are_the_single_device_step(
    composition: Composition, world: int, accumulate: int
) -> None:
    single = whole(TrainLoader(STORES, plan(composition), steps=12, weigh=weigh))
    assert len(single) == 12
    devices = [
        whole(
            TrainLoader(
                STORES,
                plan(composition),
                steps=12,
                rank=rank,
                world=world,
                accumulate=accumulate,
                weigh=weigh,
            )
        )
        for rank in range(world)
    ]
    assert {len(batches) for batches in devices} == {12 * accumulate}
    for step, alone in enumerate(single):
        here = slice(step * accumulate, (step + 1) * accumulate)
        pieces = [batch for batches in devices for batch in batches[here]]
        assert examples_of(pieces) == examples_of([alone])
        assert sum(batch.real_tokens for batch in pieces) == alone.real_tokens


def test_batches_carry_the_rows_of_the_stores_and_the_weights_of_the_step() -> None:
    step, batch = (
        next(plan().steps()),
        whole(TrainLoader(STORES, plan(), steps=1, weigh=weigh))[0],
    )
    assert (batch.rows, batch.task.tolist()) == (tuple(step.rows.tolist()), step.tasks.tolist())
    terms = np.array([STORES[k][r].terms for k, r in zip(step.tasks, step.rows, strict=True)])
    np.testing.assert_allclose(batch.weight, weigh(terms, step.tasks), rtol=1e-6)
    for encoded, k, r in zip(batch.encoded, step.tasks, step.rows, strict=True):
        np.testing.assert_array_equal(encoded.tokens, STORES[k][int(r)].tokens)
    (unweighed,) = whole(TrainLoader(STORES, plan(), steps=1))
    assert unweighed.weight.tolist() == pytest.approx([1 / len(step.rows)] * len(step.rows))


def test_starting_later_goes_on_as_if_it_had_never_stopped() -> None:
    unbroken = whole(TrainLoader(STORES, plan(), steps=15, accumulate=2))
    later = TrainLoader(STORES, plan(), steps=15, accumulate=2, start=9)
    assert len(later) == 30
    assert [b.rows for b in whole(later)] == [b.rows for b in unbroken[18:]]
    assert [b.rows for b in whole(later)] == [b.rows for b in unbroken[18:]], (
        "it can be gone through again"
    )
    assert list(TrainLoader(STORES, plan(), steps=15, start=15)) == []


def test_the_thread_ends_with_the_iteration() -> None:
    before = threading.active_count()
    for number, _ in enumerate(TrainLoader(STORES, plan(), steps=50)):
        if number == 3:
            break
    gc.collect()
    assert threading.active_count() == before
    iterator = iter(TrainLoader(STORES, plan(), steps=50))
    next(iterator)
    assert threading.active_count() == before + 1
    del iterator
    gc.collect()
    assert threading.active_count() == before
    list(TrainLoader(STORES, plan(), steps=3))
    assert threading.active_count() == before


def test_a_fault_in_the_thread_is_raised_where_batches_are_taken() -> None:
    def fail(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
        raise RuntimeError("no weights today")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no weights today"):
        list(TrainLoader(STORES, plan(), steps=3, weigh=fail))
    assert threading.active_count() == before


@pytest.mark.parametrize("composition", get_args(Composition))
def test_a_token_budget_ends_with_the_step_that_reaches_it(composition: Composition) -> None:
    steps = list(itertools.islice(plan(composition).steps(), 40))
    ends = [s.tokens_before + s.tokens for s in steps]
    for limit in (1, ends[0], ends[0] + 1, ends[20] - 1, ends[20], ends[20] + 1):
        planned = planned_totals(plan(composition), BudgetConfig(tokens=limit))
        assert planned.steps == next(i for i, end in enumerate(ends) if end >= limit) + 1
        assert planned.cumulative.tolist() == ends[: planned.steps]
        assert planned.tokens == planned.tokens_by_task.sum() == ends[planned.steps - 1]
        used = np.concatenate([s.tasks for s in steps[: planned.steps]])
        assert planned.rows_by_task.tolist() == np.bincount(used, minlength=3).tolist()


def test_budgets_in_steps_and_epochs() -> None:
    steps = list(itertools.takewhile(lambda s: s.epoch < 3, plan().steps()))
    per_epoch = np.bincount([s.epoch for s in steps])
    for epochs in (1, 2, 3):
        planned = planned_totals(plan(), BudgetConfig(epochs=epochs))
        assert planned.steps == per_epoch[:epochs].sum()
        assert planned.rows_by_task.sum() == epochs * sum(SIZES)
    half = planned_totals(plan(), BudgetConfig(epochs=1.5))
    assert half.steps == per_epoch[0] + -(-per_epoch[1] // 2)
    for number in (1, int(per_epoch[0]), int(per_epoch[0]) + 1):
        planned = planned_totals(plan(), BudgetConfig(steps=number))
        assert planned.steps == len(planned.cumulative) == number
        assert planned.cumulative.tolist() == [s.tokens_before + s.tokens for s in steps[:number]]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            BudgetConfig(),
            "a budget is one of tokens, steps and epochs, here it is 0 of them (budget)",
        ),
        (
            BudgetConfig(tokens=5, epochs=1),
            "a budget is one of tokens, steps and epochs, here it is 2 of them "
            "(budget.tokens=5 budget.epochs=1)",
        ),
        (BudgetConfig(steps=0), "a budget is above 0 (budget.steps=0)"),
    ],
)
def test_budgets_that_are_none(budget: BudgetConfig, message: str) -> None:
    with pytest.raises(UserError) as raised:
        planned_totals(plan(), budget)
    assert str(raised.value) == message


def test_evaluation_goes_over_every_row_once() -> None:
    store = STORES[0]
    whole = list(evaluation_batches(store, 4, 50))
    assert sorted(r for b in whole for r in b.rows) == list(range(len(store)))
    assert all(b.real_tokens <= 50 and set(b.task.tolist()) == {4} for b in whole)
    longest = [max(len(e.tokens) for e in b.encoded) for b in whole]
    assert longest == sorted(longest, reverse=True)
    ranks = [list(evaluation_batches(store, 4, 50, rank=r, world=3)) for r in range(3)]
    for number, batch in enumerate(whole):
        assert ranks[number % 3][number // 3].rows == batch.rows
    assert sum(map(len, ranks)) == len(whole)
    empty = EncodedSplit.build([], encode)
    assert list(evaluation_batches(empty, 0, 50)) == []


def test_batches_for_a_gpu_are_pinned_before_they_are_wanted(monkeypatch):
    """Every tensor, in the loader's thread; what the batch holds stays."""
    pinned = {}

    def pin_memory(tensor):
        copy = tensor.clone()
        pinned[id(copy)] = copy, threading.current_thread().name
        return copy

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    for own, other in zip(
        TrainLoader(STORES, plan(), steps=3, pin=True),
        TrainLoader(STORES, plan(), steps=3),
        strict=True,
    ):
        for one, plain in zip(own, other, strict=True):
            for field in dataclasses.fields(Batch):
                value, expected = getattr(one, field.name), getattr(plain, field.name)
                if isinstance(value, torch.Tensor):
                    assert pinned[id(value)][1].startswith("mtl-loader")
                    assert value.equal(expected)
                elif field.name != "encoded":
                    assert value == expected
