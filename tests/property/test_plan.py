"""The plan of batches: what is promised of it for any tasks, rates and seeds."""

import itertools
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.data.cutting import cut, shard
from mtl.data.plan import Composition, Plan, Step

compositions = st.sampled_from(get_args(Composition))
NAMES = ["sst2", "rte", "copa", "trec"]
LIMIT = 120
PINNED = [[2, 0, 7], [4, 1, 3], [6, 5]]


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    lengths = [random.integers(1, 30, draw(st.integers(1, 60))) for _ in range(count)]
    weights = np.array([draw(st.floats(0.05, 1)) for _ in range(count)])
    return {"lengths": lengths, "rates": list(weights / weights.sum()), "keys": NAMES[:count]}


def make(tasks: dict[str, Any], composition: Composition, seed: int = 0, **other: Any) -> Plan:
    return Plan(**{**tasks, "batch_tokens": LIMIT, **other}, composition=composition, seed=seed)


def take(plan: Plan, steps: int, start: int = 0) -> list[Step]:
    return list(itertools.islice(plan.steps(start), steps))


def plain(step: Step) -> tuple[Any, ...]:
    return (
        step.index,
        step.epoch,
        step.tasks.tolist(),
        step.rows.tolist(),
        step.lengths.tolist(),
        step.tokens_before,
    )


@settings(deadline=None)
@given(tasks(), compositions, st.integers(0, 3), st.integers(0, 40))
def test_starting_later_is_the_same(
    t: dict[str, Any], composition: Composition, seed: int, start: int
) -> None:
    whole = take(make(t, composition, seed), start + 5)
    resumed = take(make(t, composition, seed), 5, start)
    assert [plain(s) for s in resumed] == [plain(s) for s in whole[start:]]
    used = make(t, composition, seed)
    take(used, 3, start + 7)
    assert [plain(s) for s in take(used, 5, start)] == [plain(s) for s in resumed]
    assert [s.index for s in whole] == list(range(start + 5))
    for before, after in itertools.pairwise(whole):
        assert after.tokens_before == before.tokens_before + before.tokens


@settings(deadline=None)
@given(tasks(), compositions)
def test_every_row_once_a_pass_and_lengths_are_its_own(
    t: dict[str, Any], composition: Composition
) -> None:
    plan = make(t, composition)
    steps = list(itertools.takewhile(lambda s: s.epoch < 3, plan.steps()))
    for k, lengths in enumerate(t["lengths"]):
        rows = np.concatenate([s.rows[s.tasks == k] for s in steps])
        counts = np.bincount(rows, minlength=len(lengths))
        # An epoch of `one_task` or `mixed` reorders its draws, so only counts can be told, not the order.
        assert counts.max() - counts.min() <= 1
    for step in steps:
        assert step.lengths.tolist() == [
            int(t["lengths"][k][r]) for k, r in zip(step.tasks, step.rows, strict=True)
        ]


@settings(deadline=None)
@given(tasks(), st.sampled_from(["one_task", "mixed"]), st.integers(1, 5))
def test_realised_mix_is_the_rates_to_within_rounding(
    t: dict[str, Any], composition: Composition, epochs: int
) -> None:
    plan = make(t, composition)
    steps = list(itertools.takewhile(lambda s: s.epoch < epochs, plan.steps()))
    drawn = np.bincount(np.concatenate([s.tasks for s in steps]), minlength=len(t["keys"]))
    n = sum(len(lengths) for lengths in t["lengths"])
    assert drawn.sum() == epochs * n
    assert np.abs(drawn - np.array(t["rates"]) * epochs * n).max() < 1 + 1e-6
    rows, tokens = plan.exposure(len(steps))
    assert rows.tolist() == drawn.tolist()
    assert tokens.sum() == steps[-1].tokens_before + steps[-1].tokens


@settings(deadline=None)
@given(tasks(), compositions, st.randoms(use_true_random=False))
def test_the_order_in_which_tasks_are_given_changes_nothing(
    t: dict[str, Any], composition: Composition, random: Any
) -> None:
    order = list(range(len(t["keys"])))
    random.shuffle(order)
    shuffled = {name: [values[k] for k in order] for name, values in t.items()}
    for one, other in zip(
        take(make(t, composition), 8), take(make(shuffled, composition), 8), strict=True
    ):
        assert [t["keys"][k] for k in one.tasks] == [shuffled["keys"][k] for k in other.tasks]
        assert one.rows.tolist() == other.rows.tolist()


@settings(deadline=None)
@given(tasks(), compositions)
def test_composition(t: dict[str, Any], composition: Composition) -> None:
    plan = make(t, composition)
    steps = list(itertools.takewhile(lambda s: s.epoch < 2, plan.steps()))
    for step in steps:
        if composition == "one_task":
            assert len(set(step.tasks.tolist())) == 1
        if composition == "every_task":
            assert set(step.tasks.tolist()) == set(range(len(t["keys"])))
        else:
            assert step.tokens <= LIMIT or len(step.rows) == 1


def test_every_task_deals_evenly_within_the_limit_on_average() -> None:
    lengths = [np.full(1000, 10), np.full(100, 10)]
    plan = make({"lengths": lengths, "rates": [0.9, 0.1], "keys": NAMES[:2]}, "every_task")
    steps = list(itertools.takewhile(lambda s: s.epoch < 1, plan.steps()))
    dealt = Counter(tuple(np.bincount(s.tasks).tolist()) for s in steps)
    # 1100 draws of 10 tokens in steps of 120 tokens: 92 steps, 990 and 110 draws.
    assert len(steps) == 92
    assert set(dealt) <= {(10, 1), (11, 1), (10, 2), (11, 2)}
    assert sum(s.tokens for s in steps) == 11000


def test_a_task_with_too_few_draws_stands_in_every_step_nevertheless() -> None:
    lengths = [np.full(1000, 10), np.full(3, 10)]
    plan = make({"lengths": lengths, "rates": [0.99, 0.01], "keys": NAMES[:2]}, "every_task")
    steps = list(itertools.takewhile(lambda s: s.epoch < 1, plan.steps()))
    assert all(np.bincount(s.tasks)[1] == 1 for s in steps)
    assert np.mean([s.tokens for s in steps]) <= LIMIT


def test_a_task_is_read_in_the_same_order_whatever_stands_beside_it() -> None:
    lengths = np.random.default_rng(0).integers(1, 20, 50)
    alone = {"lengths": [lengths], "rates": [1.0], "keys": ["sst2"]}
    beside = {"lengths": [np.ones(9), lengths], "rates": [0.3, 0.7], "keys": ["rte", "sst2"]}

    def draws(t: dict[str, Any]) -> list[int]:
        k = t["keys"].index("sst2")
        return [int(r) for s in take(make(t, "every_task"), 60) for r in s.rows[s.tasks == k]][:120]

    assert draws(alone) == draws(beside)
    assert sorted(draws(alone)[:50]) == sorted(draws(alone)[50:100]) == list(range(50))
    assert draws(alone)[:50] != draws(alone)[50:100]


def test_seeds_differ_and_the_stream_is_pinned() -> None:
    t = {"lengths": [np.full(8, 40)], "rates": [1.0], "keys": ["sst2"]}
    rows = [s.rows.tolist() for s in take(make(t, "mixed", seed=0), 3)]
    assert rows != [s.rows.tolist() for s in take(make(t, "mixed", seed=1), 3)]
    assert rows == PINNED, "numpy's random streams changed: old runs can no longer be resumed"


def test_a_task_of_rate_zero_is_left_out() -> None:
    t = {"lengths": [np.full(5, 10), np.full(7, 10)], "rates": [0.0, 1.0], "keys": NAMES[:2]}
    plan = make(t, "mixed")
    assert plan.epoch_draws == 7
    assert plan.exposure(4)[0][0] == 0


def test_every_task_without_room_is_refused() -> None:
    t = {"lengths": [np.full(5, 80), np.full(7, 60)], "rates": [0.5, 0.5], "keys": NAMES[:2]}
    with pytest.raises(UserError) as raised:
        make(t, "every_task")
    assert str(raised.value) == (
        "a step cannot hold a row of each of the 2 tasks: that takes 140 tokens on average "
        "(batch.tokens=120)\n  give batch.tokens=140 or more, or fewer tasks"
    )


def test_rows_of_about_the_same_length_stand_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 2000)
    t = {"lengths": [lengths], "rates": [1.0], "keys": ["sst2"]}
    steps = take(make(t, "one_task", batch_tokens=600), 80)
    spread = [int(s.lengths.max() - s.lengths.min()) for s in steps]
    assert np.median(spread) <= 6
    assert {tuple(sorted(s.rows)) for s in steps}.isdisjoint(
        tuple(sorted(s.rows)) for s in take(make(t, "one_task", batch_tokens=600, seed=1), 80)
    )


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(5, 60))
def test_cut_is_even_and_uses_the_fewest_steps(lengths: list[int], limit: int) -> None:
    bounds = cut(np.array(lengths), limit)
    steps = [lengths[a:b] for a, b in itertools.pairwise(bounds.tolist())]
    assert list(itertools.chain(*steps)) == lengths
    assert all(len(s) == 1 or 0 < sum(s) <= limit for s in steps)
    fewest, room = 0, 0
    for n in lengths:
        fewest, room = (fewest, room - n) if n <= room else (fewest + 1, limit - n)
    assert len(steps) == fewest


def test_the_last_step_is_no_remainder() -> None:
    assert np.diff(cut(np.full(11, 10), 100)).tolist() == [6, 5]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(1, 9))
def test_shards_are_the_step_and_balanced(lengths: list[int], pieces: int) -> None:
    found = shard(np.array(lengths), pieces)
    assert len(found) == pieces
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in piece) for piece in found]
    assert max(loads) - min(loads) <= max(lengths)
    assert all(piece.tolist() == sorted(piece.tolist()) for piece in found)
