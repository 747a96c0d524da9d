"""The one LightningModule: any strategy, its loss, its optimizer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mtl.config.errors import UserError
from mtl.config.schema import OptimizerConfig
from mtl.data.batch import Batch
from mtl.learning.schedule import adamw, multiplier
from mtl.learning.strategy import Strategy


class NonFiniteLossError(UserError):
    """A loss, or the gradient of losses, became infinite or not a number. No update was made with it.

    :param step: Number of finished optimizer steps.
    :param rows: Task and row of every example with such a loss; for a gradient, of the step's examples.
    :param what: ``loss`` or ``gradient``.
    """

    def __init__(self, step: int, rows: Sequence[str], *, what: str = "loss"):
        self.step = step
        self.rows = tuple(rows)
        shown = ", ".join(self.rows[:5])
        more = f" and {len(self.rows) - 5} more" if len(self.rows) > 5 else ""
        super().__init__(
            f"the {what} is not finite after {step} steps, at {shown}{more}",
            hints=[
                "no update was made with it; the last checkpoint stays",
                "a lower optimizer.learning_rate or optimizer.clip may help; or look at these rows",
            ],
        )


class MultiTaskModule(pl.LightningModule):
    """Trains a strategy that was built around its decoder.

    :param strategy: The paradigm, built.
    :param optimizer: AdamW and its schedule.
    :param shares: (steps,) share of the budget that is over after each step; the schedule follows it.
    :param seed: Seeds dropout anew at every step, so that a resumed run draws the same masks.
    :param describe_row: Names a training row for a message, from the index of its task and its position.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        optimizer: OptimizerConfig,
        shares: np.ndarray,
        seed: int,
        describe_row: Callable[[int, int], str],
    ):
        super().__init__()
        self.strategy = strategy
        self._optimizer = optimizer
        self._shares = shares
        self._seed = seed
        self._describe_row = describe_row
        self._names = [task.name for task in strategy.tasks]
        # No buffer: DistributedDataParallel would overwrite each device's sums with those of the first.
        self.loss_sums = torch.zeros(2, len(self._names))
        self._batches: list[Batch] = []

    def on_fit_start(self) -> None:
        self.loss_sums = self.loss_sums.to(self.device)

    def training_step(self, batches: tuple[Batch, ...], batch_index: int) -> Tensor:
        torch.manual_seed(
            self._step_seed(batch_index)
        )  # dropout, and whatever else a strategy draws
        # Weights are those of the whole step; Lightning averages over accumulated pieces and devices.
        pieces = self.trainer.accumulate_grad_batches * self.trainer.world_size
        losses = [self.strategy.losses(batch).float() for batch in batches]
        self._check_finite(batches, losses)
        self._count(batches, losses)
        return (
            torch.stack(
                [(loss * batch.weight).sum() for loss, batch in zip(losses, batches, strict=True)]
            ).sum()
            * pieces
        )

    def _count(self, batches: Sequence[Batch], losses: Sequence[Tensor]) -> None:
        """Remember the batches of the step for messages, and the losses for the record."""
        self._batches.extend(batches)
        with torch.no_grad():
            for batch, loss in zip(batches, losses, strict=True):
                counted = (batch.weight > 0).float()
                self.loss_sums[0].index_add_(0, batch.task, loss.detach() * counted)
                self.loss_sums[1].index_add_(0, batch.task, counted)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = math.inf if gradient_clip_val is None else float(gradient_clip_val)
        sharded = getattr(self.trainer.model, "clip_grad_norm_", None)
        if sharded is not None:
            norm = sharded(limit)
        else:
            whole = [p for group in optimizer.param_groups for p in group["params"]]
            groups = self.strategy.clipping_groups() or [whole]
            norms = [torch.nn.utils.clip_grad_norm_(group, limit) for group in groups]
            norm = torch.stack(norms).max()
        if not torch.isfinite(norm):
            rows = [row for batch in self._batches for row in self._described(batch)]
            raise NonFiniteLossError(self.global_step, rows, what="gradient")
        self._batches.clear()

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        with torch.no_grad():
            self.strategy.after_step(float(optimizer.param_groups[0]["lr"]))

    def _check_finite(self, batches: Sequence[Batch], losses: Sequence[Tensor]) -> None:
        """All devices raise together, each with the rows of all, or none does."""
        finite = [
            torch.isfinite(loss) | (batch.weight == 0)
            for batch, loss in zip(batches, losses, strict=True)
        ]
        world = self.trainer.world_size
        ok = torch.cat(finite).all()
        if world > 1:
            ok = ok.float()
            torch.distributed.all_reduce(ok, torch.distributed.ReduceOp.MIN)
        if ok:
            return
        rows = [
            row
            for batch, fine in zip(batches, finite, strict=True)
            for row in self._described(batch, (~fine).nonzero().squeeze(1).tolist())
        ]
        if world > 1:
            of_all: list[list[str]] = [[]] * world
            torch.distributed.all_gather_object(of_all, rows)
            rows = [row for own in of_all for row in own]
        raise NonFiniteLossError(self.global_step, rows)

    def _described(self, batch: Batch, which: Sequence[int] | None = None) -> list[str]:
        tasks = batch.task.tolist()
        return [
            self._describe_row(tasks[i], batch.rows[i])
            for i in (range(len(batch.rows)) if which is None else which)
        ]

    def pop_losses(self) -> dict[str, float]:
        """Mean loss per task since the last call, over all devices; tasks that were not drawn are absent."""
        totals, counts = self.gathered_loss_sums().sum(0).tolist()
        self.loss_sums.zero_()
        return {
            name: total / count
            for name, total, count in zip(self._names, totals, counts, strict=True)
            if count
        }

    def gathered_loss_sums(self) -> Tensor:
        """(W, 2, K) sums of losses and numbers of examples per task since the last ``pop_losses``, of each of W
        devices."""
        sums = [torch.empty_like(self.loss_sums) for _ in range(self.trainer.world_size)]
        if len(sums) > 1:
            torch.distributed.all_gather(sums, self.loss_sums)
        else:
            sums = [self.loss_sums]
        return torch.stack(sums).cpu()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # A pretrained decoder brings its own shape, which the run's config does not tell.
        checkpoint["decoder"] = asdict(self.strategy.decoder.config)

    def configure_optimizers(self) -> Any:
        optimizer = adamw(self.strategy, self._optimizer, fused=True)
        schedule = LambdaLR(optimizer, self._multiplier)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _multiplier(self, step: int) -> float:
        return multiplier(float(self._shares[min(step, len(self._shares) - 1)]), self._optimizer)

    def _step_seed(self, batch_index: int) -> int:
        text = f"{self._seed}/dropout/{self.global_step}/{batch_index}/{self.global_rank}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
