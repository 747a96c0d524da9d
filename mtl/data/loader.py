"""Batches for training and for evaluation, straight from stores and a plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mtl.config.errors import UserError
from mtl.config.schema import BudgetConfig
from mtl.data.batch import Batch, collate, idle_batch
from mtl.data.cutting import cut, shard
from mtl.data.encoding import Encoded
from mtl.data.flat import gathered
from mtl.data.grid import Grid
from mtl.data.plan import Plan, Step
from mtl.data.replay import Replay
from mtl.data.store import EncodedSplit

MOST_AHEAD = 8
"""Batches that are built one right after the other: what builds them is then still in the processor's cache. One by
one, each beside a step of training, they cost twice as much (docs/log.md, 2026-11-27)."""
TOKENS_AHEAD = 32768
"""Tokens after which no further one is: a mask has the square of a row's tokens."""

Arrangement = Literal["together", "apart", "rows_apart"]
"""How the examples of a piece become batches.

- ``together``: one batch.
- ``apart``: a batch for each task, in the order of the tasks; tasks with examples of the same row stay in one batch.
- ``rows_apart``: one batch of the examples that no other one shares its row with; behind it, for each set of tasks with
  examples of the same row, one of these.
"""

Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(n,) terms and (n,) tasks of a whole step's examples to the (n,) weights of their mean losses."""


@dataclass(frozen=True)
class Budgeted:
    """What a budget comes to under a plan."""

    steps: int
    """Optimizer steps."""
    cumulative: np.ndarray
    """(steps,) int64: tokens seen once each step is done."""
    rows_by_task: np.ndarray
    """(K,) int64: planned examples of each task."""
    tokens_by_task: np.ndarray
    """(K,) int64: planned tokens of each task."""

    @property
    def tokens(self) -> int:
        """Tokens of the whole training."""
        return int(self.cumulative[-1])


def planned_totals(plan: Plan, budget: BudgetConfig) -> Budgeted:
    """The steps and tokens of a budget: the last step is the first that reaches it.

    An epoch of the budget is as many draws as there are training rows; half an epoch of the plan (see
    :class:`mtl.data.plan.Plan`) is half of its steps.

    :raises UserError: Where not exactly one of tokens, steps and epochs is given, or it is not above 0.
    """
    written = {"tokens": budget.tokens, "steps": budget.steps, "epochs": budget.epochs}
    given = {name: value for name, value in written.items() if value is not None}
    if len(given) != 1:
        raise UserError(
            f"a budget is one of tokens, steps and epochs, here it is {len(given)} of them",
            where=" ".join(f"budget.{name}={value}" for name, value in given.items()) or "budget",
        )
    ((unit, limit),) = given.items()
    if not (limit > 0 and math.isfinite(limit)):
        raise UserError("a budget is above 0", where=f"budget.{unit}={limit}")
    if unit == "epochs":
        limit *= plan.pass_draws / plan.epoch_draws

    epochs: list[np.ndarray] = []
    steps = tokens = 0
    while True:
        new = plan.step_tokens(len(epochs))
        ends = tokens + np.cumsum(new)
        wanted = {
            "tokens": int(np.searchsorted(ends, limit)) + 1,
            "steps": math.ceil(limit) - steps,
            "epochs": math.ceil(round((limit - len(epochs)) * len(new), 6)),
        }[unit]
        epochs.append(ends[:wanted])
        steps += len(epochs[-1])
        tokens = int(ends[-1])
        if wanted <= len(new):
            break
    rows_by_task, tokens_by_task = plan.exposure(steps)
    return Budgeted(steps, np.concatenate(epochs), rows_by_task, tokens_by_task)


class _Encodings(Sequence[Encoded]):
    """Encodings that are made when somebody asks for one: training reads none of them."""

    def __init__(self, stores: Sequence[EncodedSplit], tasks: Sequence[int], rows: Sequence[int]):
        self._stores, self._tasks, self._rows = stores, tasks, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]  # one, no slices
        return self._stores[self._tasks[index]][self._rows[index]]


class TrainLoader:
    """The pieces of one device: ``accumulate`` of them for each optimizer step of the plan, each of one batch or more.

    A step's rows are dealt to ``world * accumulate`` pieces of about equal tokens, so that all devices together
    do exactly the single-device step; weights are computed over the whole step. A piece without rows is
    :func:`mtl.data.batch.idle_batch`. While some batches are used the next ones are built in a background thread,
    which ends with the iteration.

    :param stores: Encoded training split of each task, in the order of the plan's tasks.
    :param steps: Step at which training ends, see :func:`planned_totals`.
    :param start: First step; after ``start`` steps the loader goes on as if it had never stopped.
    :param weigh: Weights of a whole step's examples; null is 1/n each.
    :param row_tokens: Tokens of a packed row at least, see :func:`mtl.data.batch.collate`.
    :param tight: Whether rows may be longer where fewer places stay empty then.
    :param arrangement: The batches of a piece.
    :param pin: Whether batches lie where a GPU reads them by itself.
    :param grid: Of whose shapes all batches are, see :func:`mtl.data.batch.collate`; null packs each as well as it can.
    """

    def __init__(
        self,
        stores: Sequence[EncodedSplit],
        plan: Plan | Replay,
        *,
        steps: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        weigh: Weigh | None = None,
        row_tokens: int = 0,
        tight: bool = False,
        arrangement: Arrangement = "together",
        pin: bool = False,
        grid: Grid | None = None,
    ):
        if not 0 <= rank < world or accumulate < 1:
            raise ValueError(
                "`rank` should be from 0 to below `world`, `accumulate` at least 1. "
                f"Found {rank}, {world}, {accumulate}."
            )
        self.start = start
        self.steps = steps
        self._stores = stores
        self._flats = [store.flat for store in stores]
        self._plan = plan
        self._pieces = world * accumulate
        self._own = range(rank * accumulate, (rank + 1) * accumulate)
        self._weigh = weigh
        self._row_tokens = row_tokens
        self._tight = tight
        self._arrangement = arrangement
        self._pin = pin
        self._grid = grid

    def __len__(self) -> int:
        """Batches of the whole training, those before ``start`` included: a trainer that goes on counts them too."""
        return self.steps * len(self._own)

    def __iter__(self) -> Iterator[tuple[Batch, ...]]:
        pieces = self._batches()
        with ThreadPoolExecutor(1, thread_name_prefix="mtl-loader") as executor:
            ahead = executor.submit(_some, pieces)
            while built := ahead.result():
                ahead = executor.submit(_some, pieces)
                yield from built

    def _batches(self) -> Iterator[tuple[Batch, ...]]:
        for step in self._plan.steps(self.start):
            if step.index >= self.steps:
                return
            for piece in self._pieces_of(step):
                yield tuple(batch.pin_memory() for batch in piece) if self._pin else piece

    def _pieces_of(self, step: Step) -> Iterator[tuple[Batch, ...]]:
        pieces = shard(step.row_lengths, self._pieces)
        weights = self._weights(step)
        for draws in (pieces[i] for i in self._own):
            piece = draws
            if step.draws is not None:
                piece = np.flatnonzero(np.isin(step.draws, draws))
            if len(piece) == 0:
                yield (idle_batch(self._grid),)
            else:
                yield tuple(
                    self._collated(step, examples, weights)
                    for examples in arranged(step, piece, self._arrangement)
                )

    def _collated(self, step: Step, piece: np.ndarray, weights: np.ndarray) -> Batch:
        tasks, rows = step.tasks[piece], step.rows[piece]
        draws = None
        if step.draws is not None:
            draws = np.unique(step.draws[piece], return_inverse=True)[1]
        return collate(
            _Encodings(self._stores, tasks.tolist(), rows.tolist()),
            flat=gathered(self._flats, tasks, rows),
            tasks=tasks,
            rows=rows,
            weights=weights[piece],
            row_tokens=self._row_tokens,
            tight=self._tight,
            draws=draws,
            grid=self._grid,
        )

    def _weights(self, step: Step) -> np.ndarray:
        if self._weigh is None:
            return np.full(len(step.rows), 1.0 / len(step.rows))
        terms = np.empty(len(step.rows), dtype=np.int64)
        for k in np.unique(step.tasks).tolist():
            own = step.tasks == k
            terms[own] = self._stores[k].terms[step.rows[own]]
        return self._weigh(terms, step.tasks)


def _some(pieces: Iterator[tuple[Batch, ...]]) -> list[tuple[Batch, ...]]:
    """The next few of them; none at the end."""
    built: list[tuple[Batch, ...]] = []
    tokens = 0
    for piece in itertools.islice(pieces, MOST_AHEAD):
        built.append(piece)
        tokens += sum(batch.real_tokens for batch in piece)
        if tokens >= TOKENS_AHEAD:
            break
    return built


def arranged(step: Step, piece: np.ndarray, arrangement: Arrangement) -> list[np.ndarray]:
    """The examples of each batch of a piece.

    :param piece: (n,) which of the step's examples are its own, at least one.
    """
    if arrangement == "together":
        return [piece]
    parts = []
    if arrangement == "rows_apart":
        alone = read_alone(step, piece)
        parts = [piece[alone]] if alone.any() else []
        piece = piece[~alone]
    first = _first_of_those_joined(step, piece)
    return parts + [piece[first == leader] for leader in np.unique(first)]


def read_alone(step: Step, piece: np.ndarray) -> np.ndarray:
    """(n,) bool: no other example of the piece is of the same row.

    :param piece: (n,) which of the step's examples are its own.
    """
    if step.draws is None:
        return np.ones(len(piece), dtype=np.bool_)
    _, which, counts = np.unique(step.draws[piece], return_inverse=True, return_counts=True)
    return counts[which] == 1


def _first_of_those_joined(step: Step, piece: np.ndarray) -> np.ndarray:
    """(n,) for each example the lowest task of those joined with its own by rows they share in the piece."""
    tasks = step.tasks[piece]
    if step.draws is None or not len(piece):
        return tasks
    first, before = tasks, None
    while before is None or not np.array_equal(first, before):
        before = first
        for owner in (step.draws[piece], tasks):
            lowest = np.full(int(owner.max()) + 1, int(tasks.max()))
            np.minimum.at(lowest, owner, first)
            first = lowest[owner]
    return first


def evaluation_batches(
    store: EncodedSplit,
    task: int,
    batch_tokens: int,
    *,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """All rows of a split once, grouped by length, the longest first so that memory runs out at once or never.

    What stands in a batch depends only on the store and ``batch_tokens``; device ``rank`` takes every
    ``world``-th batch.

    :param task: Index of the task in the run's list of tasks.
    :param batch_tokens: Tokens of a batch at most, but for a single longer row.
    """
    order = np.argsort(-store.lengths, kind="stable")
    bounds = cut(store.lengths[order], batch_tokens) if len(order) else np.zeros(1, dtype=np.int64)
    for number in range(rank, len(bounds) - 1, world):
        rows = order[bounds[number] : bounds[number + 1]]
        yield collate([store[i] for i in rows.tolist()], tasks=[task] * len(rows), rows=rows)
