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
from mtl.config.schema import BudgetConfig
from mtl.data.cutting import cut, evenly, grouped_by_length, rearrange, whole_shares
from mtl.data.mixture import Schedule
from mtl.data.pacing import pacing

Composition = Literal["one_task", "every_task", "mixed"]
Packing = Literal["every_epoch", "once"]

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
    """(n,) int64: tokens of each row; where examples share a row, each one's part of it."""
    tokens_before: int
    """Tokens of all steps before this one."""
    draws: np.ndarray | None = None
    """(n,) int64, ascending from 0: examples of the same draw are of one row, which is computed once. None where each
    has a row of its own."""

    @property
    def tokens(self) -> int:
        """Tokens of this step."""
        return int(self.lengths.sum())

    @property
    def row_lengths(self) -> np.ndarray:
        """(D,) int64: tokens of the row of each draw."""
        if self.draws is None:
            return self.lengths
        return np.bincount(self.draws, self.lengths).astype(np.int64)


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
    rows: np.ndarray
    """(K,) rows of each task so far."""
    wanted: np.ndarray
    """(K,) float64: draws of each task so far as the rates would have them."""
    quota: np.ndarray
    """(K,) draws of each task so far by the mixture."""
    position: np.ndarray
    """(K,) draws of each task so far, with those that ``every_task`` adds; batches, where packed once."""


class Plan:
    """An endless plan of steps for K tasks.

    - The p-th draw of a task is row ``permutation_e[p mod n_k]`` with ``e = p // n_k``: every row once a pass.
      The permutation depends on the seed, the task's key and e, so a task is read in the same order whichever
      other tasks there are.
    - An epoch is N draws, shared out by the rates to within one draw (counted from the start of training). Under a
      schedule it is shorter, and has the rates of its middle.
    - ``one_task``: the draws of each task, grouped by length, become batches; the batches of all tasks are
      merged and shuffled. With ``packing="once"`` the rows of a task become batches once, and an epoch draws whole
      batches, to within half a batch of the rates: the p-th draw of a task is batch ``permutation_e[p mod B_k]`` of its
      B_k, ``e = p // B_k``. With proportional rates that is every batch once an epoch (MT-DNN algorithm 1).
    - ``mixed``: all draws are shuffled, then cut into steps.
    - ``every_task``: each task's draws are dealt evenly over the steps, at least one to each; a task with fewer
      draws than steps is drawn more often than its rate says.

    A step holds at most ``batch_tokens`` tokens, unless a single row is longer; with ``every_task`` it holds at
    most that many on average.

    :param lengths: (n_k,) tokens of each row, for each task.
    :param rates: Share of draws of each task, see :func:`mtl.data.mixture.rates`, or their schedule; 0 leaves a
        task out.
    :param keys: Name of each task.
    :param packing: Whether ``one_task`` batches are packed anew every epoch, or once for all epochs.
    :param budget: What the shares of the budget in a schedule are shares of: its tokens, steps or epochs.
    :raises UserError: Where ``every_task`` cannot have a row of each task within ``batch_tokens``.
    """

    def __init__(
        self,
        lengths: Sequence[np.ndarray],
        rates: Sequence[float] | Schedule,
        *,
        keys: Sequence[str],
        composition: Composition,
        batch_tokens: int,
        seed: int,
        packing: Packing = "every_epoch",
        budget: BudgetConfig | None = None,
    ):
        if not isinstance(rates, Schedule):
            rates = Schedule(tuple(keys), np.zeros(1), np.array([rates], dtype=np.float64))
        if not len(lengths) == rates.rates.shape[1] == len(keys) == len(set(keys)):
            raise ValueError("`lengths`, `rates` and `keys` should have one entry for each task.")
        if packing == "once" and composition != "one_task":
            raise ValueError(f"Only `one_task` batches are packed once. Found {composition}.")
        # In the order of the names, so that the order in which tasks are given changes nothing.
        order = sorted(range(len(keys)), key=lambda k: keys[k])
        highest = rates.rates.max(axis=0)
        self._drawn = np.array([k for k in order if highest[k] > 0], dtype=np.int64)
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
        self._schedule = rates
        self._sizes = np.array([len(values) for values in self._lengths], dtype=np.int64)
        self.pass_draws = int(self._sizes.sum())
        """As many draws as there are rows: N."""
        self.epoch_draws = self.pass_draws
        """Draws of an epoch."""
        self._pacing = None
        if not rates.is_constant:
            means = np.array([values.mean() for values in self._lengths])
            self._pacing = pacing(
                budget,
                tasks=len(self._drawn),
                draw_tokens=float(rates.rates[:, self._drawn].mean(axis=0) @ means),
                pass_draws=self.pass_draws,
                batch_tokens=batch_tokens,
            )
            self.epoch_draws = self._pacing.draws
        nothing = np.zeros(len(self._drawn), dtype=np.int64)
        self._states = [_State(0, nothing, nothing, nothing.astype(np.float64), nothing, nothing)]
        self._last: tuple[int, _Epoch] | None = None
        self._blocks: dict[str, tuple[int, np.ndarray]] = {}
        self._packed = (
            [self._pack(k) for k in range(len(self._drawn))] if packing == "once" else None
        )
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
        number = self._epoch_of(max(steps - 1, 0))  # the epoch after the last step is none of it
        epoch, state = self._epoch(number), self._states[number]
        here = slice(0, epoch.bounds[steps - state.step])
        rows = np.zeros(self.tasks, dtype=np.int64)
        tokens = np.zeros(self.tasks, dtype=np.int64)
        rows[self._drawn] = state.rows + np.bincount(epoch.tasks[here], minlength=len(self._drawn))
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
        rates = self._rates(number, state)
        if self._pacing is None:
            wanted = rates * self.epoch_draws * (number + 1)
        else:
            wanted = state.wanted + rates * self.epoch_draws
        random = self._random("order", number)
        if self._packed is not None:
            epoch, draws = self._whole_batches(self._packed, wanted, state.position, random)
            quota = draws
        else:
            quota = whole_shares(wanted - state.quota, self.epoch_draws)
            epoch, draws = self._rows(quota, rates, state.position, random)
        if len(self._states) == number + 1:
            self._states.append(
                _State(
                    step=state.step + len(epoch.bounds) - 1,
                    tokens=state.tokens + self._tokens_by_task(epoch.tasks, epoch.lengths),
                    rows=state.rows + np.bincount(epoch.tasks, minlength=len(self._drawn)),
                    wanted=wanted,
                    quota=state.quota + quota,
                    position=state.position + draws,
                )
            )
        self._last = (number, epoch)
        return epoch

    def _rates(self, number: int, state: _State) -> np.ndarray:
        """The shares of the drawn tasks in an epoch that begins at ``state``."""
        progress = 0.0
        if self._pacing is not None:
            progress = self._pacing.middle(number, state.step, int(state.tokens.sum()))
        weights = self._schedule.rates_at(progress)[self._drawn]
        shares: np.ndarray = weights / weights.sum()
        return shares

    def _rows(
        self,
        quota: np.ndarray,
        rates: np.ndarray,
        position: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[_Epoch, np.ndarray]:
        """An epoch of single draws, and how many there are of each task."""
        draws = quota
        if self.composition == "every_task":
            steps = self._every_task_steps(quota, rates > 0)
            draws = np.where(rates > 0, np.maximum(quota, steps), quota)
        columns = [
            self._draws(self._keys[k], int(self._sizes[k]), int(position[k]), int(draws[k]))
            for k in range(len(draws))
        ]
        tasks = np.repeat(np.arange(len(draws), dtype=np.int32), draws)
        rows = np.concatenate(columns)
        lengths = np.concatenate([self._lengths[k][c] for k, c in enumerate(columns)])
        if self.composition == "every_task":
            order, bounds = evenly(draws, steps)
        elif self.composition == "mixed":
            order = random.permutation(len(rows))
            bounds = cut(lengths[order], self.batch_tokens)
        else:
            order, bounds = self._one_task(lengths, draws, random)
        return _Epoch(tasks[order], rows[order], lengths[order], bounds), draws

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

    def _pack(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(n_k,) rows of a task batch by batch, and the bounds of its batches: those of its first pass."""
        rows = self._draws(self._keys[k], int(self._sizes[k]), 0, int(self._sizes[k]))
        lengths = self._lengths[k][rows]
        order = grouped_by_length(lengths, self.batch_tokens)
        return rows[order], cut(lengths[order], self.batch_tokens)

    def _whole_batches(
        self,
        packed: Sequence[tuple[np.ndarray, np.ndarray]],
        wanted: np.ndarray,
        position: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[_Epoch, np.ndarray]:
        """An epoch of whole batches, and how many there are of each task."""
        batches = np.array([len(bounds) - 1 for _, bounds in packed])
        missing = wanted * batches / self._sizes - position
        counts = np.maximum(np.floor(missing + 0.5), 0).astype(np.int64)
        if not counts.any():
            counts[np.argmax(missing)] = 1
        rows, tasks, sizes = [], [], []
        for k, (own, bounds) in enumerate(packed):
            purpose = f"batches of {self._keys[k]}"
            for b in self._draws(purpose, int(batches[k]), int(position[k]), int(counts[k])):
                rows.append(own[bounds[b] : bounds[b + 1]])
                tasks.append(k)
                sizes.append(len(rows[-1]))
        of_row = np.repeat(np.array(tasks, dtype=np.int32), sizes)
        whole = np.concatenate(rows)
        lengths = np.concatenate(
            [self._lengths[k][own] for k, own in zip(tasks, rows, strict=True)]
        )
        order, bounds = rearrange(
            np.arange(len(whole)), np.array(sizes), random.permutation(len(sizes))
        )
        return _Epoch(of_row[order], whole[order], lengths[order], bounds), counts

    def _draws(self, purpose: str, n: int, first: int, count: int) -> np.ndarray:
        """(count,) the draws ``first`` to ``first + count`` out of n, each once before any comes again."""
        block_rows = n * max(1, BLOCK_ROWS // n)
        blocks = range(first // block_rows, -(-(first + count) // block_rows))
        drawn = [np.zeros(0, dtype=np.int64)]
        for block in blocks:
            known = self._blocks.get(purpose)
            if known is None or known[0] != block:
                rows = np.tile(np.arange(n), (block_rows // n, 1))
                known = block, self._random(purpose, block).permuted(rows, axis=1).reshape(-1)
                self._blocks[purpose] = known
            drawn.append(known[1])
        offset = first - blocks.start * block_rows if count else 0
        return np.concatenate(drawn)[offset : offset + count]

    def _every_task_steps(self, quota: np.ndarray, present: np.ndarray) -> int:
        """The fewest steps that hold at most ``batch_tokens`` on average, with a row of each present task in each."""
        means = np.array([values.mean() for values in self._lengths])
        below, above = 0, int(quota.max())
        while above - below > 1:
            middle = (below + above) // 2
            if float(np.maximum(quota / middle, present) @ means) <= self.batch_tokens:
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
