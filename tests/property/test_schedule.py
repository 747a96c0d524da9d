"""Mixtures that change over training: what is drawn is the integral of the rates, in every composition."""

import itertools
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.config.schema import BudgetConfig, MixtureConfig, MixtureGroup, MixturePoint
from mtl.data.loader import planned_totals
from mtl.data.mixture import Schedule, rates, schedule
from mtl.data.pacing import EPOCHS
from mtl.data.plan import Composition, Plan

NAMES = ["sst2", "rte", "copa"]
SIZES = {"sst2": 900, "rte": 90, "copa": 30}
BUDGETS = [BudgetConfig(tokens=60_000), BudgetConfig(steps=500), BudgetConfig(epochs=5.5)]


def made(weights: np.ndarray, at: list[float]) -> Schedule:
    return Schedule(tuple(NAMES), np.array(at), weights / weights.sum(axis=1, keepdims=True))


def plan_of(changing: Any, composition: Composition, budget: BudgetConfig, **other: Any) -> Plan:
    random = np.random.default_rng(0)
    return Plan(
        [random.integers(5, 16, SIZES[name]) for name in NAMES],
        changing,
        keys=NAMES,
        composition=composition,
        batch_tokens=120,
        seed=0,
        budget=budget,
        **other,
    )


def test_points_are_linear_between_and_constant_after() -> None:
    config = MixtureConfig(
        name="proportional",
        schedule=[MixturePoint(at=0.5, rule="equal"), MixturePoint(at=0.8, rule="temperature")],
        temperature=2.0,
    )
    found = schedule(SIZES, config)
    proportional = np.array(list(rates(SIZES, MixtureConfig(name="proportional")).values()))
    hot = rates(SIZES, MixtureConfig(name="temperature", temperature=2.0))
    assert not found.is_constant
    assert found.rates_at(0.0).tolist() == proportional.tolist()
    assert found.rates_at(0.25) == pytest.approx((proportional + 1 / 3) / 2)
    assert found.rates_at(0.5) == pytest.approx([1 / 3] * 3)
    assert found.rates_at(0.9) == pytest.approx(list(hot.values()))
    mean = (proportional + 1 / 3) / 2 * 0.5 + (np.array(list(hot.values())) + 1 / 3) / 2 * 0.3
    mean += np.array(list(hot.values())) * 0.2
    assert found.mean() == pytest.approx(dict(zip(NAMES, mean, strict=True)))


def test_a_point_at_the_start_replaces_the_mixture_and_fields_are_inherited() -> None:
    config = MixtureConfig(
        name="temperature",
        temperature=3.0,
        cap=100,
        schedule=[MixturePoint(at=0, temperature=1.0), MixturePoint(at=1, cap=50)],
    )
    found = schedule(SIZES, config)
    assert found.at.tolist() == [0.0, 1.0]
    first, last = (
        rates(SIZES, MixtureConfig(name="temperature", temperature=t, cap=cap))
        for t, cap in ((1.0, 100), (3.0, 50))
    )
    assert found.rates.tolist() == [list(first.values()), list(last.values())]


def test_a_schedule_of_groups_changes_the_rates_between_them() -> None:
    groups = {"large": MixtureGroup(tasks=["sst2"]), "small": MixtureGroup(tasks=["rte", "copa"])}
    config = MixtureConfig(
        name="nested",
        groups=groups,
        rates={"large": 1, "small": 1},
        schedule=[MixturePoint(at=1, rates={"large": 0, "small": 1})],
    )
    found = schedule(SIZES, config)
    assert found.rates.tolist() == [
        pytest.approx([0.5, 0.375, 0.125]),
        pytest.approx([0, 0.75, 0.25]),
    ]


def test_without_points_nothing_changes() -> None:
    config = MixtureConfig(name="temperature", temperature=2.0)
    found = schedule(SIZES, config)
    assert found.is_constant
    assert found.mean() == rates(SIZES, config)
    scheduled = plan_of(found, "mixed", BUDGETS[0])
    plain = plan_of(list(rates(SIZES, config).values()), "mixed", BUDGETS[0])
    for one, other in zip(
        itertools.islice(scheduled.steps(), 200), itertools.islice(plain.steps(), 200), strict=True
    ):
        assert (one.epoch, one.rows.tolist()) == (other.epoch, other.rows.tolist())


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(0, 1), min_size=9, max_size=9),
    st.floats(0.1, 0.9),
    st.sampled_from(["one_task", "mixed"]),
    st.sampled_from(BUDGETS),
)
def test_what_is_drawn_is_the_integral_of_the_rates_to_within_an_epoch(
    weights: list[float], middle: float, composition: Composition, budget: BudgetConfig
) -> None:
    changing = made(np.array(weights).reshape(3, 3) + 1e-3, [0, middle, 1])
    plan = plan_of(changing, composition, budget)
    planned = planned_totals(plan, budget)
    drawn = planned.rows_by_task.sum()
    assert plan.epoch_draws <= drawn / 6
    for parts in (1, 2, 3, 4):
        steps = planned.steps * parts // 4
        done = planned.cumulative[steps - 1] / planned.tokens
        if budget.steps is not None:
            done = steps / planned.steps
        if budget.epochs is not None:
            done = plan.exposure(steps)[0].sum() / drawn
        grid = np.linspace(0, done, 400)
        integral = np.trapezoid([changing.rates_at(float(at)) for at in grid], grid, axis=0)
        rows = plan.exposure(steps)[0]
        # Tokens of a draw change with the mixture by a few percent, the progress that rates follow with them.
        assert np.abs(rows - integral / done * rows.sum()).max() <= plan.epoch_draws + 0.03 * drawn


@pytest.mark.parametrize("composition", get_args(Composition))
@pytest.mark.parametrize("budget", BUDGETS)
def test_starting_later_is_the_same(composition: Composition, budget: BudgetConfig) -> None:
    changing = made(np.array([[1.0, 0, 0], [1, 1, 1]]), [0, 1])

    def plain(start: int, count: int) -> list[Any]:
        steps = itertools.islice(plan_of(changing, composition, budget).steps(start), count)
        return [(s.index, s.tasks.tolist(), s.rows.tolist(), s.tokens_before) for s in steps]

    whole = plain(0, 120)
    for start in (1, 60, 117):
        assert plain(start, 3) == whole[start : start + 3]


def test_a_task_of_rate_zero_is_absent_until_its_time() -> None:
    changing = made(np.array([[1.0, 1, 0], [1, 1, 0], [1, 1, 1]]), [0, 0.5, 1])
    budget = BudgetConfig(tokens=100_000)
    for composition in get_args(Composition):
        plan = plan_of(changing, composition, budget)
        planned = planned_totals(plan, budget)
        seen = [
            s.tokens_before / planned.tokens
            for s in itertools.islice(plan.steps(), planned.steps)
            if 2 in s.tasks
        ]
        assert 0.5 - 1 / EPOCHS - 0.01 < seen[0] < 0.6
        assert seen[-1] > 0.95


@pytest.mark.parametrize("at", [[0.5, 0.2], [0.5, 0.5], [-0.1, 0.8], [0.2, 1.1]])
def test_points_that_do_not_ascend_within_the_budget_are_refused(at: list[float]) -> None:
    config = MixtureConfig(name="equal", schedule=[MixturePoint(at=moment) for moment in at])
    with pytest.raises(UserError) as raised:
        schedule(SIZES, config)
    assert str(raised.value) == (
        "the points of a schedule ascend within 0 to 1, the share of the budget that is spent "
        f"(mixture.schedule, at {at[0]}, {at[1]})"
    )


def test_a_schedule_without_a_budget_is_a_fault() -> None:
    changing = made(np.array([[1.0, 0, 0], [1, 1, 1]]), [0, 1])
    for budget in (BudgetConfig(), BudgetConfig(tokens=5, steps=5)):
        with pytest.raises(ValueError, match="A schedule should have one budget"):
            plan_of(changing, "mixed", budget)
