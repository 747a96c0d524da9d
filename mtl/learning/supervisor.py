"""What happens between two steps: logging, measuring, scoring, checkpoints, and stopping when asked to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from mtl.config.errors import Interrupted, Stopped
from mtl.learning.interruption import install
from mtl.learning.module import MultiTaskModule

StepDone = Callable[[int, Mapping[str, float], float], None]
"""(finished steps, latest losses per task, learning rate)."""
LAST, BEST = "last.ckpt", "best.ckpt"


def own_checkpoint(folder: Path, step: int) -> Path:
    """Weights after a step that scored best for some task alone."""
    return folder / f"step-{step}.ckpt"


@dataclass(frozen=True)
class Scored:
    """The selection split, scored once."""

    value: float
    """What selects: higher is better."""
    metrics: Mapping[str, float]
    """Everything measured, by name."""
    by_task: Mapping[str, float] = field(default_factory=dict)
    """What would select for a task alone, by task: higher is better."""


def drop_own_checkpoints(folder: Path) -> None:
    """Remove them when they are scored: what a run keeps is its last and its best."""
    for kept in folder.glob("step-*.ckpt"):
        kept.unlink()


class Supervisor(pl.Callback):
    """Logs, measures, scores the selection split, writes checkpoints, and answers signals, in this order after a step.

    ``last.ckpt`` holds all a run needs to go on as if it had never stopped; ``best.ckpt`` holds the weights that
    scored best on the selection split, and where wanted ``step-N.ckpt`` those that scored best for some task alone. All
    are replaced atomically. After SIGINT or SIGTERM the step in progress
    is finished, ``last.ckpt`` is written, and :class:`Interrupted` is raised: whoever trains gives both signals to
    :meth:`signalled`.

    :param folder: Where the checkpoints go.
    :param tokens_after: (steps,) tokens consumed when each step is over.
    :param score: Scores the selection split; called on every device.
    :param score_at: Numbers of finished steps after which ``score`` is called.
    :param log: Receives (finished steps, tokens, values); called on the first device alone.
    :param log_every: Steps between two logs of the losses.
    :param save_every: Steps between two checkpoints.
    :param step_done: Receives (finished steps, latest losses per task, learning rate) after every step on the first
        device.
    :param scored: Receives (finished steps, tokens, what selects) after each scoring on the first device; what it
        raises ends the training before the step is saved.
    :param diagnose: Measures something with the weights as they are after a number of finished steps, by name; called
        on every device, and leaves no trace in training. None measures nothing.
    :param diagnose_every: Steps between two measurements; the last step is one always.
    :param per_task: Keep the weights that scored best for each task alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tokens_after: np.ndarray,
        score: Callable[[], Scored],
        score_at: Collection[int],
        log: Callable[[int, int, Mapping[str, float]], None],
        log_every: int,
        save_every: int,
        step_done: StepDone,
        scored: Callable[[int, int, float], None] | None = None,
        diagnose: Callable[[int], Mapping[str, float]] | None = None,
        diagnose_every: int = 1,
        per_task: bool = False,
    ):
        self._folder = folder
        self._tokens_after = tokens_after
        self._score = score
        self._score_at = frozenset(score_at)
        self._log = log
        self._log_every = log_every
        self._save_every = save_every
        self._step_done = step_done
        self._scored = scored
        self._diagnose = diagnose
        self._diagnose_every = diagnose_every
        self._per_task = per_task
        self._losses: dict[str, float] = {}
        self._loss_sums: torch.Tensor | None = None
        self._steps_seen = 0
        self._rate = 0.0
        self._stepping = False
        self._signal: int | None = None
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self.diagnosing_seconds = 0.0
        """Seconds of measuring so far, which are no seconds of training."""
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.best_by_task: dict[str, tuple[float, int]] = {}
        """Value and step of the best scoring of each task alone."""

    @property
    def seconds(self) -> float:
        """Seconds of training so far, scoring and measuring aside, interrupted stretches included."""
        return self._seconds_before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_value": self.best_value,
            "best_step": self.best_step,
            "best_by_task": dict(self.best_by_task),
            "seconds": self.seconds,
            "diagnosing_seconds": self.diagnosing_seconds,
            "losses": dict(self._losses),
            "loss_sums": self._loss_sums,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.best_step = state_dict["best_step"]
        self.best_by_task = dict(state_dict["best_by_task"])
        self._seconds_before = state_dict["seconds"]
        self.diagnosing_seconds = state_dict["diagnosing_seconds"]
        self._losses = dict(state_dict["losses"])
        self._loss_sums = state_dict["loss_sums"]

    def signalled(self, number: int, frame: FrameType | None = None) -> None:
        """The handler of SIGINT and SIGTERM; remembers them while there is a step to finish.

        :raises Interrupted: at once outside the steps.
        """
        if not self._stepping:
            raise Interrupted(number)
        self._signal = number

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MultiTaskModule)
        if trainer.is_global_zero:
            for stale in self._folder.glob(".*.partial"):  # a process died while it wrote
                stale.unlink()
        self._started = time.monotonic()
        self._steps_seen = trainer.global_step
        if self._loss_sums is not None:
            same = len(self._loss_sums) == trainer.world_size
            if same:
                pl_module.loss_sums.copy_(self._loss_sums[trainer.global_rank])
            elif trainer.is_global_zero:
                pl_module.loss_sums.copy_(self._loss_sums.sum(0))
        self._stepping = True
        install(self.signalled)  # Lightning has just put a handler of its own in its place

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stepping = False
        if self._signal is not None:
            raise Interrupted(self._signal)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        if step == self._steps_seen:
            return  # a piece of an accumulated step
        self._steps_seen = step
        assert isinstance(pl_module, MultiTaskModule)
        first, final = trainer.is_global_zero, step == len(self._tokens_after)
        tokens = int(self._tokens_after[step - 1])
        if step % self._log_every == 0 or final:
            self._losses = pl_module.pop_losses()
            values = {f"{task}/loss": loss for task, loss in self._losses.items()}
            values["learning_rate"] = self._rate
            values |= pl_module.task_weights()
            if first:
                self._log(step, tokens, values)
        if self._diagnose is not None and (final or step % self._diagnose_every == 0):
            before = self._started
            with self._clock_stopped():
                measured = self._diagnose(step)
            self.diagnosing_seconds += self._started - before
            if first:
                self._log(step, tokens, measured)
        if step in self._score_at:
            self._select(trainer, step, tokens)
        stop = self._asked_to_stop(trainer)
        if stop is not None or final or step % self._save_every == 0:
            self._loss_sums = pl_module.gathered_loss_sums()
            self.save(trainer, self._folder / LAST)
        if first:
            self._step_done(step, self._losses, self._rate)
        if stop is not None:
            raise Interrupted(stop)

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """What happens inside is no time of training."""
        began = time.monotonic()
        yield
        self._started += time.monotonic() - began

    def _select(self, trainer: pl.Trainer, step: int, tokens: int) -> None:
        with self._clock_stopped():
            scored = self._score()
        if trainer.is_global_zero:
            self._log(step, tokens, scored.metrics)
        if self.best_value is None or scored.value > self.best_value:
            self.best_value, self.best_step = scored.value, step
            self.save(trainer, self._folder / BEST, weights_only=True)
        if self._per_task:
            self._keep_own(trainer, step, scored.by_task)
        if self._scored is not None and trainer.is_global_zero:
            # Before the step is saved: whoever is killed in between is told again rather than never.
            try:
                self._scored(step, tokens, scored.value)
            except Stopped:
                if self._signal is not None:  # a person who asks to stop means more than this run
                    raise Interrupted(self._signal) from None
                raise

    def _keep_own(self, trainer: pl.Trainer, step: int, by_task: Mapping[str, float]) -> None:
        """Keep the weights of this step if they are the best for a task, and drop those that no longer are."""
        for task, value in by_task.items():
            if task not in self.best_by_task or value > self.best_by_task[task][0]:
                self.best_by_task[task] = (value, step)
        wanted = {own_checkpoint(self._folder, best) for _, best in self.best_by_task.values()}
        if (own := own_checkpoint(self._folder, step)) in wanted:
            self.save(trainer, own, weights_only=True)
        if trainer.is_global_zero:
            for kept in list(self._folder.glob("step-*.ckpt")):
                if kept not in wanted:
                    kept.unlink()

    def save(self, trainer: pl.Trainer, path: Path, *, weights_only: bool = False) -> None:
        """Write a checkpoint beside its place and move it there in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_name(f".{path.name}.partial")
        trainer.save_checkpoint(written, weights_only=weights_only)
        if trainer.is_global_zero:
            with written.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(written, path)
        trainer.strategy.barrier()

    def _asked_to_stop(self, trainer: pl.Trainer) -> int | None:
        """The signal any device received, so that all of them stop after the same step."""
        if trainer.world_size == 1:
            return self._signal
        received = torch.tensor(self._signal or 0, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
        return int(received) or None
