"""Tasks that read the same rows: what is joined, what is drawn, what is laid."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.schema import BudgetConfig, SourceConfig, TaskConfig
from mtl.data.batch import collate
from mtl.data.encoding import Encoded
from mtl.data.grouping import JointPlan, groups, make_plan
from mtl.data.loader import TrainLoader, arranged, planned_totals
from mtl.data.mixture import Schedule
from mtl.data.plan import Plan, Step
from mtl.data.store import EncodedSplit
from mtl.learning.reduction import example_mean
from mtl.tasks.splits import make_split
from mtl.tasks.task import Example, Task

LIMIT = 100


def task(name: str, rows: list[int], folder: str = "reviews", text: str = "") -> Task:
    config = TaskConfig(
        name=name, kind="classification", source=SourceConfig(folder=folder), target=""
    )
    examples = [Example(f"train:{row}", (f"{text}{row}",), (), row % 2) for row in rows]
    split = make_split("train", examples)
    return Task(config, split, None, split)


def store(task: Task, branched: bool = False) -> EncodedSplit:
    def encode(example: Example) -> Encoded:
        number = sum(map(ord, example.segments[0]))
        tokens = np.full(3 + number % 7, number, np.int32)
        labelled = np.zeros(len(tokens), dtype=np.bool_)
        return Encoded(tokens, labelled, branches=(1, 1) if branched else (), target=1.0)

    assert task.train is not None
    return EncodedSplit.build(task.train.examples, encode)


@st.composite
def worlds(draw: st.DrawFn) -> list[Task]:
    """Two to three tasks on overlapping rows of one source, and up to two on rows of their own."""
    rows = st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True)
    same = [
        task(name, draw(rows)) for name in ("class", "score", "third")[: draw(st.integers(2, 3))]
    ]
    others = [task(name, draw(rows), folder=name) for name in ("cola", "zebra")]
    return draw(st.permutations([*same, *others[: draw(st.integers(0, 2))]]))


def plan_of(tasks: list[Task], rates: list[float] | None = None, seed: int = 0) -> Plan:
    stores = [store(one) for one in tasks]
    weights = rates or [float(len(own)) for own in stores]
    shares = Schedule.constant(dict(zip([one.name for one in tasks], weights, strict=True)))
    return make_plan(
        tasks, stores, shares, joins_rows=True, composition="mixed", batch_tokens=LIMIT, seed=seed
    )


def row_of(tasks: list[Task], k: int, i: int) -> tuple[str, str]:
    split = tasks[k].train
    assert split is not None
    return str(tasks[k].config.source.folder), split.examples[i].row


def epoch(plan: Plan, count: int = 1) -> list[Step]:
    return list(itertools.takewhile(lambda s: s.epoch < count, plan.steps()))


@settings(deadline=None, max_examples=50)
@given(worlds())
def test_rows_with_the_same_name_and_tokens_are_one_row(tasks: list[Task]) -> None:
    found = groups(tasks, [store(one) for one in tasks])
    assert sorted(k for group in found for k in group.tasks) == list(range(len(tasks)))
    for group in found:
        assert [tasks[k].name for k in group.tasks] == sorted(tasks[k].name for k in group.tasks)
        assert len({tasks[k].config.source.folder for k in group.tasks}) == 1
        for k, column in zip(group.tasks, group.rows.T, strict=True):
            split = tasks[k].train
            assert split is not None
            assert sorted(column[column >= 0].tolist()) == list(range(len(split.examples)))
        for members, length in zip(group.rows.tolist(), group.lengths.tolist(), strict=True):
            present = [(k, i) for k, i in zip(group.tasks, members, strict=True) if i >= 0]
            assert len({row_of(tasks, k, i) for k, i in present}) == 1
            assert {int(store(tasks[k]).lengths[i]) for k, i in present} == {length}
    rows = [
        row_of(tasks, g.tasks[m], i)
        for g in found
        for row in g.rows.tolist()
        for m, i in [next((m, i) for m, i in enumerate(row) if i >= 0)]
    ]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    ("other", "branched"),
    [
        (task("score", [0, 1, 2], folder="films"), False),
        (task("score", [0, 1, 2], text="so: "), False),
        (task("score", [7, 8]), False),
        (task("score", [0, 1, 2]), True),
    ],
    ids=["another source", "other segments", "other rows", "with branches"],
)
def test_what_is_not_joined(other: Task, branched: bool) -> None:
    tasks = [task("class", [0, 1, 2]), other]
    stores = [store(one, branched) for one in tasks]
    assert [group.tasks for group in groups(tasks, stores)] == [(0,), (1,)]
    shares = Schedule.constant({"class": 1.0, "score": 1.0})
    joined, plain = (
        make_plan(
            tasks, stores, shares, joins_rows=j, composition="mixed", batch_tokens=LIMIT, seed=0
        )
        for j in (True, False)
    )
    assert type(joined) is type(plain) is Plan
    for one, two in zip(epoch(joined, 3), epoch(plain, 3), strict=True):
        assert (one.tasks.tolist(), one.rows.tolist()) == (two.tasks.tolist(), two.rows.tolist())
        assert one.draws is None


@settings(deadline=None, max_examples=50)
@given(worlds(), st.integers(0, 2))
def test_by_size_every_row_is_drawn_once_a_pass_for_all_its_tasks(
    tasks: list[Task], seed: int
) -> None:
    plan = plan_of(tasks, seed=seed)
    steps = epoch(plan, 2)
    seen = Counter((int(k), int(i)) for s in steps for k, i in zip(s.tasks, s.rows, strict=True))
    if not isinstance(plan, JointPlan):
        return
    times = {}
    for step in steps:
        assert step.draws is not None
        assert step.tokens <= LIMIT
        for draw in range(int(step.draws.max()) + 1):
            own = np.flatnonzero(step.draws == draw)
            rows = {row_of(tasks, int(step.tasks[i]), int(step.rows[i])) for i in own}
            (row,) = rows
            lengths = [int(store(tasks[step.tasks[i]]).lengths[step.rows[i]]) for i in own]
            assert step.lengths[own].sum() == lengths[0] == step.row_lengths[draw]
            assert np.ptp(step.lengths[own]) <= 1
            times[row] = times.get(row, 0) + 1
    assert set(times.values()) == {2}
    assert set(seen.values()) == {2}
    assert len(seen) == sum(len(store(one)) for one in tasks)


def test_rates_are_those_of_examples() -> None:
    tasks = [task("class", list(range(90))), task("score", list(range(90))),
             task("cola", list(range(300)), folder="cola")]  # fmt: skip
    plan = plan_of(tasks, rates=[1.0, 1.0, 1.0])
    rows, tokens = plan.exposure(400)
    assert rows[0] == rows[1]
    assert rows / rows.sum() == pytest.approx([1 / 3] * 3, abs=0.01)
    # A row's tokens are divided evenly, so that they add up to what was laid.
    assert tokens[0] == pytest.approx(tokens[1], rel=0.01)
    assert tokens.sum() == sum(s.tokens for s in itertools.islice(plan.steps(), 400))
    # Where rates differ, the higher one decides: no row leaves a member out.
    rows, _ = plan_of(tasks, rates=[2.0, 1.0, 2.0]).exposure(400)
    assert rows / rows.sum() == pytest.approx([1 / 3] * 3, abs=0.01)


def test_rates_count_the_rows_a_task_lacks() -> None:
    tasks = [task("class", list(range(90))), task("score", list(range(30, 60))),
             task("cola", list(range(300)), folder="cola")]  # fmt: skip
    rows, _ = plan_of(tasks, rates=[90.0, 30.0, 300.0]).exposure(300)
    assert rows / rows.sum() == pytest.approx(np.array([90, 30, 300]) / 420, abs=0.01)


@settings(deadline=None, max_examples=30)
@given(worlds(), st.randoms(use_true_random=False), st.integers(0, 20))
def test_a_pure_function_of_seed_and_step_whatever_the_order_of_tasks(
    tasks: list[Task], random: object, start: int
) -> None:
    def plain(order: list[Task], start: int, count: int) -> list[object]:
        steps = itertools.islice(plan_of(order).steps(start), count)
        return [
            (s.index, s.tokens_before, s.lengths.tolist(),
             [(order[k].name, i) for k, i in zip(s.tasks.tolist(), s.rows.tolist(), strict=True)])
            for s in steps
        ]  # fmt: skip

    whole = plain(tasks, 0, start + 4)
    assert plain(tasks, start, 4) == whole[start:]
    shuffled = list(tasks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plain(shuffled, 0, start + 4) == whole


def test_a_budget_counts_a_row_once() -> None:
    tasks = [task("class", list(range(90))), task("score", list(range(90)))]
    plan = plan_of(tasks)
    planned = planned_totals(plan, BudgetConfig(epochs=1))
    assert planned.rows_by_task.tolist() == [90, 90]
    assert planned.tokens == planned.tokens_by_task.sum() == store(tasks[0]).tokens_total


def loaded(**other: object) -> TrainLoader:
    tasks = [task("class", list(range(90))), task("score", list(range(10, 70))),
             task("cola", list(range(30)), folder="cola")]  # fmt: skip
    stores = [store(one) for one in tasks]
    return TrainLoader(
        stores,
        plan_of(tasks),
        steps=20,
        weigh=example_mean,
        **other,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("apart", [False, True])
def test_pieces_are_the_step_and_keep_rows_whole(world: int, accumulate: int, apart: bool) -> None:
    single = [batch for (batch,) in loaded()]
    devices = [
        list(
            loaded(
                rank=rank,
                world=world,
                accumulate=accumulate,
                arrangement="apart" if apart else "together",
            )
        )
        for rank in range(world)
    ]
    for number, whole in enumerate(single):
        here = slice(number * accumulate, (number + 1) * accumulate)
        batches = [b for pieces in devices for piece in pieces[here] for b in piece]
        examples = [
            sorted(
                (int(k), r, float(w))
                for b in some
                for k, r, w in zip(b.task, b.rows, b.weight, strict=True)
                if r >= 0
            )
            for some in (batches, [whole])
        ]
        assert examples[0] == examples[1]
        # Laid once: the tokens of all pieces are those of the whole step.
        assert sum(b.real_tokens for b in batches) == whole.real_tokens
        assert whole.real_tokens < sum(len(e.tokens) for e in whole.encoded)
        for batch in batches:
            mixed = set(batch.task.tolist())
            assert not apart or mixed <= {0, 1} or mixed == {2}


def test_tokens_are_laid_once_and_both_examples_point_at_them() -> None:
    first = Encoded(np.array([5, 6, 7, 8], np.int32), np.array([0, 0, 1, 1], np.bool_), target=1.0)
    second = replace(first, labelled=np.array([0, 1, 0, 1], np.bool_), target=2.5)
    branched = Encoded(
        np.array([1, 2, 3, 4], np.int32), np.array([0, 0, 1, 1], np.bool_), branches=(1, 1)
    )
    batch = collate(
        [first, second, branched],
        tasks=[0, 1, 2],
        rows=[4, 9, 2],
        draws=np.array([0, 0, 1]),
    )
    flat = batch.tokens.flatten()
    assert batch.real_tokens == 8
    assert sorted(flat[flat > 0].tolist()) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert flat[batch.branch_ends].tolist() == [8, 8, 3, 4]
    assert batch.branch_examples.tolist() == [0, 1, 2, 2]
    assert batch.label_tokens.tolist() == [7, 8, 6, 8, 3, 4]
    assert batch.label_branches.tolist() == [0, 0, 1, 1, 2, 3]
    assert flat[batch.label_sources].tolist() == [6, 7, 5, 7, 2, 2]
    assert batch.target[:2].tolist() == [1.0, 2.5]
    assert batch.terms.tolist() == [2, 2, 2]


def test_examples_of_one_draw_have_the_same_tokens() -> None:
    first = Encoded(np.array([5, 6], np.int32), np.zeros(2, np.bool_))
    with pytest.raises(ValueError, match="Examples of one draw should have the same tokens"):
        collate(
            [first, replace(first, tokens=np.array([5, 7], np.int32))],
            tasks=[0, 1],
            rows=[0, 0],
            draws=np.array([0, 0]),
        )


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=20, unique=True),
    st.data(),
)
def test_examples_that_share_no_row_are_in_one_batch(
    drawn: list[tuple[int, int]], data: st.DataObject
) -> None:
    """And of the others those stand together whose tasks are joined by a row, directly or through others."""
    numbers = {draw: number for number, draw in enumerate(sorted({draw for draw, _ in drawn}))}
    draws, tasks = np.array([(numbers[draw], task) for draw, task in sorted(drawn)]).T
    step = Step(0, 0, tasks, np.zeros_like(tasks), np.ones_like(tasks), 0, draws)
    chosen = data.draw(st.sets(st.sampled_from(range(len(numbers))), min_size=1))
    piece = np.flatnonzero(np.isin(draws, list(chosen)))
    found = arranged(step, piece, "rows_apart")
    assert sorted(np.concatenate(found).tolist()) == piece.tolist()
    of_draw = Counter(draws[piece].tolist())
    alone = [one for one in piece.tolist() if of_draw[draws[one]] == 1]
    if alone:
        assert found.pop(0).tolist() == alone
    owners = [set(tasks[batch].tolist()) for batch in found]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(owners, 2))
    for batch in found:
        assert all(count > 1 for count in Counter(draws[batch].tolist()).values())
