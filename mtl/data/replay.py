"""One task's rows exactly as another run's plan dealt them: the same exposure, without the other tasks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from mtl.data.plan import Plan, Step


class Replay:
    """The steps of a plan that hold rows of one task, with those rows alone.

    :param plan: The plan of the run that is replayed.
    :param task: Index of the task in that plan.
    :param steps: Steps that run made.
    :param lengths: (n,) tokens of each row of the task, as it is read now.
    """

    tasks = 1

    def __init__(self, plan: Plan, task: int, steps: int, lengths: np.ndarray):
        rows, tokens = [], []
        done = 0
        for step in itertools.islice(plan.steps(), steps):
            done = step.tokens_before + step.tokens
            own = step.rows[step.tasks == task]
            if len(own):
                rows.append(own)
                tokens.append(done)
        self._bounds = np.concatenate([[0], np.cumsum([len(own) for own in rows])]).astype(int)
        self._rows = np.concatenate([*rows, np.zeros(0, dtype=np.int64)])
        self._lengths = np.asarray(lengths, dtype=np.int64)[self._rows]
        self._tokens = np.concatenate([[0], np.cumsum(self._lengths)])
        self.shares = np.array(tokens, dtype=np.float64) / max(done, 1)
        """(S,) share of the replayed run that was over after each step; its learning rate followed this."""

    def __len__(self) -> int:
        """Steps S."""
        return len(self._bounds) - 1

    @property
    def cumulative(self) -> np.ndarray:
        """(S,) int64: tokens after each step."""
        return self._tokens[self._bounds[1:]]

    def steps(self, start: int = 0) -> Iterator[Step]:
        """The steps from number ``start`` on."""
        for index in range(start, len(self)):
            here = slice(self._bounds[index], self._bounds[index + 1])
            rows = self._rows[here]
            yield Step(
                index=index,
                epoch=0,
                tasks=np.zeros(len(rows), dtype=np.int64),
                rows=rows,
                lengths=self._lengths[here],
                tokens_before=int(self._tokens[self._bounds[index]]),
            )

    def exposure(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(1,) rows and (1,) tokens of the task in the first ``steps`` steps."""
        end = self._bounds[steps]
        return np.array([end]), self._tokens[end : end + 1]
