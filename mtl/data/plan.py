"""The plan of batches: which rows of which tasks stand in which step, as a pure function of (seed, step).

Nothing is drawn while training runs, so the position in the data is one number: the step. Resuming and several
devices follow from that.

Legend: K tasks, n_k rows of task k, N rows of all tasks that are drawn, S steps of an epoch.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mtl.config.errors import UserError
from mtl.data.cutting import cut, evenly, grouped_by_length, rearrange

Composition = Literal["one_task", "every_task", "mixed"]

BLOCK_ROWS = 4096
"""Permutations of a task smaller than this are drawn several at once."""


@dataclass(frozen=True)
class Step:
    """The rows of one optimizer step, over all devices and accumulated pieces; n of them."""

    index: int
    """Number of the step since the start of training."""
    epoch: int
    """Number of the epoch it belongs to."""
    tasks: np.ndarray
    """(n,) int64: index of each row's task."""
    rows: np.ndarray
    """(n,) int64: position of each row in its task's split."""
    lengths: np.ndarray
    """(n,) int64: tokens of each row."""
    tokens_before: int
    """Tokens of all steps before this one."""

    @property
    def tokens(self) -> int:
        """Tokens of this step."""
        return int(self.lengths.sum())


@dataclass(frozen=True)
class _Epoch:
    """All draws of an epoch in the order of its steps; step s is ``bounds[s]`` to ``bounds[s + 1]``."""

    tasks: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray
    bounds: np.ndarray

    def step_tokens(self) -> np.ndarray:
        return np.add.reduceat(self.lengths, self.bounds[:-1])


@dataclass(frozen=True)
class _State:
    """Where an epoch begins."""

    step: int
    tokens: np.ndarray
    """(K,) tokens of each task so far."""
    quota: np.ndarray
    """(K,) draws of each task so far by the mixture."""
    position: np.ndarray
    """(K,) draws of each task so far, with those that ``every_task`` adds."""


class Plan:
    """An endless plan of steps for K tasks.

    - The p-th draw of a task is row ``permutation_e[p mod n_k]`` with ``e = p // n_k``: every row once a pass.
      The permutation depends on the seed, the task's key and e, so a task is read in the same order whichever
      other tasks there are.
    - An epoch is N draws, shared out by the rates to within one draw (counted from the start of training).
    - ``one_task``: the draws of each task, grouped by length, become batches; the batches of all tasks are
      merged and shuffled (MT-DNN algorithm 1).
    - ``mixed``: all draws are shuffled, then cut into steps.
    - ``every_task``: each task's draws are dealt evenly over the steps, at least one to each; a task with fewer
      draws than steps is drawn more often than its rate says.

    A step holds at most ``batch_tokens`` tokens, unless a single row is longer; with ``every_task`` it holds at
    most that many on average.

    :param lengths: (n_k,) tokens of each row, for each task.
    :param rates: Share of draws of each task, see :func:`mtl.data.mixture.rates`; 0 leaves a task out.
    :param keys: Name of each task.
    :raises UserError: Where ``every_task`` cannot have a row of each task within ``batch_tokens``.
    """

    def __init__(
        self,
        lengths: Sequence[np.ndarray],
        rates: Sequence[float],
        *,
        keys: Sequence[str],
        composition: Composition,
        batch_tokens: int,
        seed: int,
    ):
        if not len(lengths) == len(rates) == len(keys) == len(set(keys)):
            raise ValueError("`lengths`, `rates` and `keys` should have one entry for each task.")
        # In the order of the names, so that the order in which tasks are given changes nothing.
        order = sorted(range(len(keys)), key=lambda k: keys[k])
        self._drawn = np.array([k for k in order if rates[k] > 0], dtype=np.int64)
        if not len(self._drawn) or not all(len(lengths[k]) for k in self._drawn):
            raise ValueError(
                "Each task that is drawn should have at least one row, and one be drawn."
            )
        self.tasks = len(keys)
        """Number of tasks K, those with rate 0 included."""
        self.composition = composition
        self.batch_tokens = batch_tokens
        self._seed = seed
        self._keys = [keys[k] for k in self._drawn]
        self._lengths = [np.asarray(lengths[k], dtype=np.int64) for k in self._drawn]
        weights = np.array([rates[k] for k in self._drawn], dtype=np.float64)
        self._rates = weights / weights.sum()
        self._sizes = np.array([len(values) for values in self._lengths], dtype=np.int64)
        self.epoch_draws = int(self._sizes.sum())
        """Draws of an epoch: N."""
        nothing = np.zeros(len(self._drawn), dtype=np.int64)
        self._states = [_State(step=0, tokens=nothing, quota=nothing, position=nothing)]
        self._last: tuple[int, _Epoch] | None = None
        self._lock = threading.RLock()
        if composition == "every_task":
            self._check_room()

    def steps(self, start: int = 0) -> Iterator[Step]:
        """The steps from number ``start`` on, without end."""
        number = self._epoch_of(start)
        while True:
            epoch, state = self._epoch(number), self._states[number]
            tokens = np.concatenate([[0], np.cumsum(epoch.step_tokens())])
            for s in range(max(start - state.step, 0), len(epoch.bounds) - 1):
                here = slice(epoch.bounds[s], epoch.bounds[s + 1])
                yield Step(
                    index=state.step + s,
                    epoch=number,
                    tasks=self._drawn[epoch.tasks[here]],
                    rows=epoch.rows[here],
                    lengths=epoch.lengths[here],
                    tokens_before=int(state.tokens.sum() + tokens[s]),
                )
            number += 1

    def step_tokens(self, epoch: int) -> np.ndarray:
        """(S,) tokens of each step of an epoch."""
        return self._epoch(epoch).step_tokens()

    def exposure(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(K,) rows and (K,) tokens of each task in the first ``steps`` steps."""
        number = self._epoch_of(steps)
        epoch, state = self._epoch(number), self._states[number]
        here = slice(0, epoch.bounds[steps - state.step])
        rows = np.zeros(self.tasks, dtype=np.int64)
        tokens = np.zeros(self.tasks, dtype=np.int64)
        rows[self._drawn] = state.position + np.bincount(
            epoch.tasks[here], minlength=len(self._drawn)
        )
        tokens[self._drawn] = state.tokens + self._tokens_by_task(
            epoch.tasks[here], epoch.lengths[here]
        )
        return rows, tokens

    def _tokens_by_task(self, tasks: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return np.bincount(tasks, lengths, minlength=len(self._drawn)).astype(np.int64)

    def _epoch_of(self, step: int) -> int:
        """The epoch that holds a step; plans as many epochs as that takes."""
        while self._states[-1].step <= step:
            self._epoch(len(self._states) - 1)
        return next(e for e, state in enumerate(self._states[1:]) if state.step > step)

    def _epoch(self, number: int) -> _Epoch:
        with self._lock:  # a loader plans in its own thread
            return self._planned(number)

    def _planned(self, number: int) -> _Epoch:
        while len(self._states) <= number:
            self._epoch(len(self._states) - 1)
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        state = self._states[number]
        quota = _shares(
            self._rates * self.epoch_draws * (number + 1) - state.quota, self.epoch_draws
        )
        if self.composition == "every_task":
            steps = self._every_task_steps(quota)
            draws = np.maximum(quota, steps)
        else:
            draws = quota
        columns = [self._draws(k, int(state.position[k]), int(draws[k])) for k in range(len(draws))]
        tasks = np.repeat(np.arange(len(draws), dtype=np.int32), draws)
        rows = np.concatenate(columns)
        lengths = np.concatenate([self._lengths[k][c] for k, c in enumerate(columns)])
        random = self._random("order", number)
        if self.composition == "every_task":
            order, bounds = evenly(draws, steps)
        elif self.composition == "mixed":
            order = random.permutation(len(rows))
            bounds = cut(lengths[order], self.batch_tokens)
        else:
            order, bounds = self._one_task(lengths, draws, random)
        epoch = _Epoch(tasks[order], rows[order], lengths[order], bounds)
        if len(self._states) == number + 1:
            self._states.append(
                _State(
                    step=state.step + len(bounds) - 1,
                    tokens=state.tokens + self._tokens_by_task(tasks, lengths),
                    quota=state.quota + quota,
                    position=state.position + draws,
                )
            )
        self._last = (number, epoch)
        return epoch

    def _one_task(
        self, lengths: np.ndarray, draws: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        orders, sizes = [], []
        first = 0
        for count in draws.tolist():
            if count == 0:
                continue
            own = lengths[first : first + count]
            order = grouped_by_length(own, self.batch_tokens)
            orders.append(first + order)
            sizes.append(np.diff(cut(own[order], self.batch_tokens)))
            first += count
        merged = np.concatenate(sizes)
        return rearrange(np.concatenate(orders), merged, random.permutation(len(merged)))

    def _draws(self, k: int, first: int, count: int) -> np.ndarray:
        """Rows of the draws ``first`` to ``first + count`` of a task."""
        n = int(self._sizes[k])
        passes = max(1, BLOCK_ROWS // n)
        block_rows = n * passes
        blocks = range(first // block_rows, -(-(first + count) // block_rows))
        drawn = [np.zeros(0, dtype=np.int64)]
        for block in blocks:
            rows = np.tile(np.arange(n), (passes, 1))
            drawn.append(self._random(self._keys[k], block).permuted(rows, axis=1).reshape(-1))
        offset = first - blocks.start * block_rows if count else 0
        return np.concatenate(drawn)[offset : offset + count]

    def _every_task_steps(self, quota: np.ndarray) -> int:
        """The fewest steps that hold at most ``batch_tokens`` on average, with a row of each task in each."""
        means = np.array([values.mean() for values in self._lengths])
        below, above = 0, int(quota.max())
        while above - below > 1:
            middle = (below + above) // 2
            if float(np.maximum(quota / middle, 1) @ means) <= self.batch_tokens:
                above = middle
            else:
                below = middle
        return above

    def _check_room(self) -> None:
        needed = math.ceil(sum(values.mean() for values in self._lengths))
        if needed > self.batch_tokens:
            raise UserError(
                f"a step cannot hold a row of each of the {len(self._drawn)} tasks: "
                f"that takes {needed} tokens on average",
                where=f"batch.tokens={self.batch_tokens}",
                hints=[f"give batch.tokens={needed} or more, or fewer tasks"],
            )

    def _random(self, purpose: str, number: int) -> np.random.Generator:
        name = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
        return np.random.Generator(np.random.PCG64([self._seed, name, number]))


def shard(lengths: np.ndarray, pieces: int) -> list[np.ndarray]:
    """Split a step's rows into ``pieces`` of about equal tokens; all together are exactly the step.

    :param lengths: (n,) tokens of each row of the step.
    :return: For each piece the ascending positions of its rows; a piece is empty where rows are too few.
    """
    owner = np.zeros(len(lengths), dtype=np.int64)
    if pieces > 1:
        load = [0] * pieces
        for i in np.argsort(-lengths, kind="stable").tolist():
            owner[i] = load.index(min(load))
            load[owner[i]] += int(lengths[i])
    return [np.flatnonzero(owner == piece) for piece in range(pieces)]


def _shares(wanted: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near ``wanted`` that sum to ``total`` (largest remainders; of equal ones the first)."""
    wanted = np.maximum(wanted, 0)
    wanted = wanted * (total / wanted.sum())
    shares = np.floor(wanted + 1e-9).astype(np.int64)  # a rate such as 0.1 is not exact
    rest = total - int(shares.sum())
    shares[np.argsort(-np.round(wanted - shares, 9), kind="stable")[:rest]] += 1
    return shares
