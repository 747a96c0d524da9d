"""Tasks that read the same rows: a row is drawn and computed once, and trains all of them.

Two tasks of one source whose segments are the same, such as a class and a score of one row, read the same tokens and
differ only in what is asked. Laid once, the row costs one forward pass for both losses.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtl.config.schema import BudgetConfig
from mtl.data.mixture import Schedule
from mtl.data.plan import Composition, Packing, Plan, Step
from mtl.data.store import EncodedSplit
from mtl.tasks.task import Task


@dataclass(frozen=True)
class Group:
    """m tasks that have rows in common, or one task alone; n different rows."""

    tasks: tuple[int, ...]
    """(m,) indices of the tasks, in the order of their names."""
    rows: np.ndarray
    """(n, m) int64: position of each row in each task's split, -1 where the task has no such row."""
    lengths: np.ndarray
    """(n,) int64: tokens of each row."""


class JointPlan(Plan):
    """A plan that draws the rows of each group, and gives an example of every task that has the row.

    A group is drawn so often that its members get the examples their rates promise; where these differ, the member
    that is promised the most decides, since no row leaves a member out. With proportional rates each row is drawn
    once a pass. The tokens of a row are divided evenly among its examples, so that they add up.

    :param groups: Every task stands in one.
    :param rates: Shares of examples of each task, by index.

    The other parameters are those of :class:`mtl.data.plan.Plan`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        rates: Schedule,
        *,
        composition: Composition,
        batch_tokens: int,
        seed: int,
        packing: Packing = "every_epoch",
        budget: BudgetConfig | None = None,
    ):
        weights = np.stack([_group_rates(group, rates.rates) for group in groups], axis=1)
        names = tuple("+".join(rates.tasks[k] for k in group.tasks) for group in groups)
        super().__init__(
            [group.lengths for group in groups],
            Schedule(names, rates.at, weights / weights.sum(axis=1, keepdims=True)),
            keys=names,
            composition=composition,
            batch_tokens=batch_tokens,
            seed=seed,
            packing=packing,
            budget=budget,
        )
        self.tasks = len(rates.tasks)
        self._groups = groups

    def steps(self, start: int = 0) -> Iterator[Step]:
        return map(self._expanded, super().steps(start))

    def exposure(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.zeros(self.tasks, dtype=np.int64)
        tokens = np.zeros(self.tasks, dtype=np.int64)
        for step in itertools.islice(self.steps(), steps):
            np.add.at(rows, step.tasks, 1)
            np.add.at(tokens, step.tasks, step.lengths)
        return rows, tokens

    def _expanded(self, step: Step) -> Step:
        """Every draw as an example of each task that has the row."""
        parts = []
        for g in np.unique(step.tasks).tolist():
            group = self._groups[g]
            draws = np.flatnonzero(step.tasks == g)
            members = group.rows[step.rows[draws]]
            present = members >= 0
            i, j = np.nonzero(present)
            count = present.sum(axis=1)[i]
            # What is left of the division goes to another member with every draw.
            turn = ((present.cumsum(axis=1) - 1)[i, j] + draws[i] + step.index) % count
            lengths = (step.lengths[draws][i] + turn) // count
            parts.append((draws[i], np.array(group.tasks)[j], members[i, j], lengths))
        draws, tasks, rows, lengths = (
            np.concatenate(columns) for columns in zip(*parts, strict=True)
        )
        order = np.argsort(draws, kind="stable")
        return replace(
            step,
            tasks=tasks[order],
            rows=rows[order],
            lengths=lengths[order],
            draws=draws[order],
        )


def make_plan(
    tasks: Sequence[Task],
    stores: Sequence[EncodedSplit],
    rates: Schedule,
    *,
    joins_rows: bool,
    composition: Composition,
    batch_tokens: int,
    seed: int,
    packing: Packing = "every_epoch",
    budget: BudgetConfig | None = None,
) -> Plan:
    """The plan of a training, in which a row that several tasks read is drawn for all of them if ``joins_rows``.

    :param stores: Encoded training rows of each task.
    :param rates: Shares of draws, of the tasks in their order.

    The other parameters are those of :class:`mtl.data.plan.Plan`.
    """
    names = tuple(task.name for task in tasks)
    if rates.tasks != names:
        raise ValueError(f"`rates` should be of the tasks {names}. Found {rates.tasks}.")
    found = groups(tasks, stores) if joins_rows else []
    if any(len(group.tasks) > 1 for group in found):
        return JointPlan(
            found,
            rates,
            composition=composition,
            batch_tokens=batch_tokens,
            seed=seed,
            packing=packing,
            budget=budget,
        )
    return Plan(
        [store.lengths for store in stores],
        rates,
        keys=names,
        composition=composition,
        batch_tokens=batch_tokens,
        seed=seed,
        packing=packing,
        budget=budget,
    )


def groups(tasks: Sequence[Task], stores: Sequence[EncodedSplit]) -> list[Group]:
    """The tasks, with those together that have rows in common.

    A row is the same where two tasks have the same source and encode its row of the same name to the same tokens,
    without branches.

    :param stores: Encoded training rows of each task.
    """
    order = sorted(range(len(tasks)), key=lambda k: tasks[k].name)
    sources = [_source(task) for task in tasks]
    keys = {k: _row_keys(tasks[k], stores[k]) for k in order if sources.count(sources[k]) > 1}
    found: list[list[int]] = []
    for k in order:
        own = set(keys.get(k, ()))
        shares = [any(not own.isdisjoint(keys.get(m, ())) for m in members) for members in found]
        joined = [m for members, share in zip(found, shares, strict=True) if share for m in members]
        found = [members for members, share in zip(found, shares, strict=True) if not share]
        found.append(sorted([*joined, k], key=order.index))
    return [
        _group(members, [keys[k] for k in members], stores)
        if len(members) > 1
        else _alone(members[0], stores[members[0]])
        for members in found
    ]


def _alone(task: int, store: EncodedSplit) -> Group:
    return Group((task,), np.arange(len(store))[:, None], store.lengths)


def _group(
    members: Sequence[int], keys: Sequence[Sequence[object]], stores: Sequence[EncodedSplit]
) -> Group:
    place: dict[object, int] = {}
    for own in keys:
        for key in own:
            place.setdefault(key, len(place))
    rows = np.full((len(place), len(members)), -1, dtype=np.int64)
    lengths = np.zeros(len(place), dtype=np.int64)
    for m, (k, own) in enumerate(zip(members, keys, strict=True)):
        at = [place[key] for key in own]
        rows[at, m] = np.arange(len(own))
        lengths[at] = stores[k].lengths
    return Group(tuple(members), rows, lengths)


def _row_keys(task: Task, store: EncodedSplit) -> list[object]:
    """(N,) what a row must have in common with another task's to be the same, different for each row."""
    assert task.train is not None
    times = np.bincount(store.examples)
    keys: list[object] = []
    for i, example in enumerate(store.examples.tolist()):
        encoded = store[i]
        if encoded.branches or times[example] > 1:
            keys.append((task.name, i))
        else:
            tokens = hashlib.blake2b(encoded.tokens.tobytes(), digest_size=16).digest()
            keys.append((task.train.examples[example].row, tokens))
    return keys


def _source(task: Task) -> object:
    """Where the training rows of a task come from."""
    source = task.config.source
    return source.folder, source.hub, source.microworld, source.train, source.documents


def _group_rates(group: Group, rates: np.ndarray) -> np.ndarray:
    """(P,) relative rates of a group at P points, from those of its tasks: (P, K)."""
    shares = (group.rows >= 0).mean(axis=0)
    highest: np.ndarray = (rates[:, list(group.tasks)] / shares).max(axis=1)
    return highest
