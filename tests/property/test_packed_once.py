"""Batches packed once (MT-DNN, Algorithm 1): the same contents in every epoch, in another order."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.schema import BudgetConfig, MixtureConfig, MixturePoint
from mtl.data.loader import planned_totals
from mtl.data.mixture import schedule
from mtl.data.plan import Plan, Step

NAMES = ["sst2", "rte", "copa", "trec"]
LIMIT = 120
Batch = tuple[int, tuple[int, ...]]


@st.composite
def lengths_of_tasks(draw: st.DrawFn) -> list[np.ndarray]:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return [
        random.integers(1, 30, draw(st.integers(1, 80))) for _ in range(draw(st.integers(1, 4)))
    ]


def make(lengths: list[np.ndarray], rates: Any = None, seed: int = 0, **other: Any) -> Plan:
    return Plan(
        lengths,
        [len(own) for own in lengths] if rates is None else rates,
        keys=NAMES[: len(lengths)],
        composition="one_task",
        packing="once",
        batch_tokens=LIMIT,
        seed=seed,
        **other,
    )


def epochs(plan: Plan, count: int) -> list[list[Step]]:
    steps = itertools.takewhile(lambda s: s.epoch < count, plan.steps())
    return [list(own) for _, own in itertools.groupby(steps, key=lambda s: s.epoch)]


def contents(step: Step) -> Batch:
    assert len(set(step.tasks.tolist())) == 1
    return int(step.tasks[0]), tuple(step.rows.tolist())


@settings(deadline=None)
@given(lengths_of_tasks(), st.integers(0, 3))
def test_every_batch_once_an_epoch_with_the_same_contents(
    lengths: list[np.ndarray], seed: int
) -> None:
    found = [[contents(step) for step in epoch] for epoch in epochs(make(lengths, seed=seed), 4)]
    assert len(set(found[0])) == len(found[0])
    for epoch in found[1:]:
        assert sorted(epoch) == sorted(found[0])
    for k, own in enumerate(lengths):
        rows = [row for task, batch in found[0] for row in batch if task == k]
        assert sorted(rows) == list(range(len(own)))
        for task, batch in found[0]:
            if task == k:
                assert sum(int(own[row]) for row in batch) <= LIMIT or len(batch) == 1


def test_the_order_differs_between_epochs_and_the_contents_between_seeds() -> None:
    lengths = [np.random.default_rng(0).integers(1, 30, n) for n in (300, 200)]
    first, second = ([contents(s) for s in epoch] for epoch in epochs(make(lengths), 2))
    assert first != second
    other = [contents(s) for s in epochs(make(lengths, seed=1), 1)[0]]
    assert set(other).isdisjoint(first)
    # Batches of the tasks alternate rather than stand one task after the other.
    assert sum(a[0] != b[0] for a, b in itertools.pairwise(first)) > len(first) / 4


def test_contents_do_not_depend_on_the_other_tasks() -> None:
    lengths = [np.random.default_rng(0).integers(1, 30, n) for n in (90, 40)]
    alone = {contents(s) for s in epochs(make(lengths[:1]), 1)[0]}
    beside = {contents(s) for s in epochs(make(lengths), 1)[0]}
    assert alone == {batch for batch in beside if batch[0] == 0}


@settings(deadline=None)
@given(lengths_of_tasks(), st.lists(st.floats(0.05, 1), min_size=4, max_size=4))
def test_other_rates_draw_whole_batches_all_before_any_repeats(
    lengths: list[np.ndarray], weights: list[float]
) -> None:
    rates = np.array(weights[: len(lengths)]) / sum(weights[: len(lengths)])
    whole = {contents(s) for s in epochs(make(lengths), 1)[0]}
    found = [[contents(s) for s in epoch] for epoch in epochs(make(lengths, rates), 5)]
    drawn = Counter(batch for epoch in found for batch in epoch)
    assert set(drawn) <= whole
    n = sum(map(len, lengths))
    for k, own in enumerate(lengths):
        batches = [batch for batch in whole if batch[0] == k]
        times = [drawn[batch] for batch in batches]
        assert max(times) - min(times) <= 1
        # Half a batch from the rates, in batches of the average number of rows.
        assert abs(sum(times) - rates[k] * 5 * n * len(batches) / len(own)) <= 0.5 + 1e-6


@settings(deadline=None)
@given(lengths_of_tasks(), st.booleans(), st.integers(0, 40))
def test_a_pure_function_of_seed_and_step(
    lengths: list[np.ndarray], even: bool, start: int
) -> None:
    rates = [1.0] * len(lengths) if even else None

    def take(plan: Plan, count: int, start: int = 0) -> list[tuple[Any, ...]]:
        steps = itertools.islice(plan.steps(start), count)
        return [(s.index, s.epoch, contents(s), s.tokens_before, s.tokens) for s in steps]

    whole = take(make(lengths, rates), start + 5)
    assert take(make(lengths, rates), 5, start) == whole[start:]
    assert [index for index, *_ in whole] == list(range(start + 5))
    plan = make(lengths, rates)
    rows, tokens = plan.exposure(start + 5)
    assert tokens.sum() == whole[-1][3] + whole[-1][4]
    for k in range(len(lengths)):
        batches = [batch for _, _, (task, batch), *_ in whole if task == k]
        assert rows[k] == sum(map(len, batches))
        assert tokens[k] == sum(int(lengths[k][row]) for batch in batches for row in batch)


def test_a_budget_of_one_epoch_is_every_batch_once() -> None:
    lengths = [np.random.default_rng(0).integers(1, 30, n) for n in (60, 25)]
    plan = make(lengths)
    planned = planned_totals(plan, BudgetConfig(epochs=1))
    assert planned.rows_by_task.tolist() == [60, 25]
    assert planned.tokens == sum(int(own.sum()) for own in lengths)
    assert planned.steps == len(epochs(plan, 1)[0])


def test_a_schedule_moves_whole_batches_as_well() -> None:
    lengths = [np.full(400, 10), np.full(400, 10)]
    sizes = dict.fromkeys(NAMES[:2], 400)
    config = MixtureConfig(
        name="explicit",
        rates={"sst2": 1, "rte": 0},
        schedule=[MixturePoint(at=1, rates={"sst2": 0, "rte": 1})],
    )
    budget = BudgetConfig(epochs=8)
    plan = make(lengths, schedule(sizes, config), budget=budget)
    planned = planned_totals(plan, budget)
    tasks = [contents(s)[0] for s in itertools.islice(plan.steps(), planned.steps)]
    assert sum(planned.rows_by_task) == pytest.approx(6400, abs=24)
    assert abs(np.diff(planned.rows_by_task)[0]) <= 24
    half = len(tasks) // 2
    assert np.mean(tasks[:half]) == pytest.approx(0.25, abs=0.03)
    assert np.mean(tasks[half:]) == pytest.approx(0.75, abs=0.03)


def test_only_batches_of_one_task_are_packed_once() -> None:
    with pytest.raises(ValueError, match="Only `one_task` batches are packed once"):
        Plan(
            [np.ones(3)],
            [1.0],
            keys=["sst2"],
            composition="mixed",
            packing="once",
            batch_tokens=LIMIT,
            seed=0,
        )
