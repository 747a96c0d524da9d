"""The one LightningModule: any strategy, its loss, its optimizer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl.config.errors import UserError
from mtl.config.schema import OptimizerConfig
from mtl.data.batch import Batch
from mtl.learning.balance.methods import Balance, parameters_to_train
from mtl.learning.balance.scalarizers import Scalarizer
from mtl.learning.balance.step import BalancedStep
from mtl.learning.schedule import adamw, multiplier
from mtl.learning.seeding import reseed
from mtl.learning.sharding import drop_gradients_of_nothing, is_sharded, shard, whole_value
from mtl.learning.strategy import Strategy

MOST_UNCOUNTED = 64
"""Batches whose losses are kept before they are added to the sums, however seldom the record is written."""


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
    :param balance: How the losses of the tasks become one update; None adds them as the batches weigh them.
    :param separate: Whether the gradients of each task are kept by themselves, from the number of pieces of a step.
    :param one_pass: These gradients may come from one pass over all tasks, see :mod:`mtl.learning.balance.one_pass`.
    :param tasks_from: The tasks of every step from a step on; only with a balance.
    :param before_pass: Called before the forward pass of every piece of a step.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        optimizer: OptimizerConfig,
        shares: np.ndarray,
        seed: int,
        describe_row: Callable[[int, int], str],
        balance: Balance | None = None,
        separate: Callable[[int], bool] | None = None,
        one_pass: bool = False,
        tasks_from: Callable[[int], Iterator[np.ndarray]] | None = None,
        before_pass: Callable[[], None] = lambda: None,
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
        # Of batches that are not in the sums yet: task, weight, terms and loss of their examples.
        self._uncounted: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._clipped: list[list[nn.Parameter]] | None = None
        self.balance = balance
        self._separate_for = separate
        self._separate = False
        self.one_pass = one_pass
        self._tasks_from = tasks_from
        self._before_pass = before_pass
        self._balanced: BalancedStep | None = None
        # Of the step: each piece with the number that seeded it.
        self._pieces: list[tuple[int, tuple[Batch, ...]]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the name of the hook it is in, 46 times a step; a module looks whether it is a parameter.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def passed_once(self) -> bool:
        """Whether gradients of tasks, where they are kept by themselves, came from one pass."""
        return self._balanced is not None and self._balanced.one_pass

    def configure_model(self) -> None:
        if self.device_mesh is not None and not is_sharded(self.strategy):
            shard(self.strategy, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        self.loss_sums = self.loss_sums.to(self.device)

    def transfer_batch_to_device(
        self, batch: tuple[Batch, ...], device: torch.device, dataloader_idx: int
    ) -> tuple[Batch, ...]:
        return tuple(one.to(device, non_blocking=device.type == "cuda") for one in batch)

    def on_train_start(self) -> None:
        if self.balance is None:
            return
        assert self._tasks_from is not None
        assert self._separate_for is not None
        pieces = self.trainer.accumulate_grad_batches * self.trainer.world_size
        self._separate = self._separate_for(pieces)
        self._step_tasks = self._tasks_from(self.global_step)
        self._balanced = BalancedStep(
            self.balance, self.strategy, separate=self._separate, one_pass=self.one_pass
        )
        if self._separate and self.trainer.world_size > 1:
            # Gradients of tasks are summed over devices before they become one; there is nothing left to average.
            self.trainer.model.require_backward_grad_sync = False  # type: ignore[union-attr]

    def training_step(self, batches: tuple[Batch, ...], batch_index: int) -> Tensor:
        seed = self._step_seed(batch_index)
        reseed(seed, self.device)
        self._before_pass()
        first = not self._pieces
        self._pieces.append((seed, batches))
        # Weights are those of the whole step; Lightning averages over accumulated pieces and devices.
        pieces = self.trainer.accumulate_grad_batches * self.trainer.world_size
        step = self._balanced
        if step is not None and first:
            step.begin(next(self._step_tasks).tolist())
        if step is not None and self._separate:
            losses = step.separately(batches)
        else:
            losses = [self.strategy.losses(batch).float() for batch in batches]
        sums = [(loss * batch.weight).sum() for loss, batch in zip(losses, batches, strict=True)]
        total = sums[0] if len(sums) == 1 else torch.stack(sums).sum()
        self._check_finite(total, batches, losses)
        self._count(batches, losses)
        if step is not None and self._separate:
            return step.losses.sum()
        if step is not None:
            total = step.weighed(batches, losses, seed=self._balance_seed())
        return total if pieces == 1 else total * pieces

    def backward(self, loss: Tensor, *arguments: Any, **named: Any) -> None:
        """The gradients of a piece; with the last piece of a step under a balance, those of the step."""
        if not self._separate:
            super().backward(loss, *arguments, **named)
        if len(self._pieces) < self.trainer.accumulate_grad_batches:
            return
        world = self.trainer.world_size
        if not self._separate and (world > 1 or self._was_idle()):
            drop_gradients_of_nothing(self.strategy)
        step = self._balanced
        if step is not None and not step.finish(seed=self._balance_seed(), world=world):
            raise NonFiniteLossError(self.global_step, self._rows_of_step(), what="gradient")

    def _was_idle(self) -> bool:
        """Whether a piece of the step had no example, and so passed through the head of a task that it stands for."""
        return any(batch.real_tokens == 0 for _, batches in self._pieces for batch in batches)

    def _count(self, batches: Sequence[Batch], losses: Sequence[Tensor]) -> None:
        """Keep the losses for the record; they are summed when it is written, not in every step."""
        for batch, loss in zip(batches, losses, strict=True):
            self._uncounted.append((batch.task, batch.weight, batch.terms, loss.detach()))
        if len(self._uncounted) >= MOST_UNCOUNTED:
            self._add_up()

    def _add_up(self) -> None:
        """Sums of the losses kept: of running text every token counts the same, as in its held-out loss."""
        if not self._uncounted:
            return
        task, weight, terms, loss = map(torch.cat, zip(*self._uncounted, strict=True))
        self._uncounted.clear()
        counted = (weight > 0).float()
        if self.strategy.reads == "corpus":
            counted *= terms
        self.loss_sums[0].index_add_(0, task, loss * counted)
        self.loss_sums[1].index_add_(0, task, counted)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if self._clipped is None:
            self._clipped = self._clipping_groups(optimizer)
        norms = [_clip(group, gradient_clip_val) for group in self._clipped]
        norm = norms[0] if len(norms) == 1 else torch.stack(norms).max()
        if not math.isfinite(norm.item()):
            raise NonFiniteLossError(self.global_step, self._rows_of_step(), what="gradient")

    def _clipping_groups(self, optimizer: Optimizer) -> list[list[nn.Parameter]]:
        """Parameters whose gradients are clipped together; the size of a balance's own is not that of the model's."""
        aside = {id(p) for p in parameters_to_train(self.balance)}
        whole = [
            p for group in optimizer.param_groups for p in group["params"] if id(p) not in aside
        ]
        return self.strategy.clipping_groups() or [whole]

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        # Set here: a scheduler keeps a state that a resumed run would have to find again, and costs more calls.
        share = float(self._shares[self.global_step])
        rate = self._optimizer.learning_rate * multiplier(share, self._optimizer)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        super().optimizer_step(*arguments, **named)
        with torch.no_grad():
            self.strategy.after_step(rate)
            self._look_back()
        self._pieces.clear()

    def _look_back(self) -> None:
        """For a balance that compares the losses before and after the update: the same examples, the same dropout."""
        step = self._balanced
        if step is None or not (isinstance(self.balance, Scalarizer) and self.balance.looks_back):
            return
        again = torch.zeros_like(step.losses)
        for seed, batches in self._pieces:
            reseed(seed, self.device)
            with self.trainer.precision_plugin.train_step_context():
                losses = [self.strategy.losses(batch).float() for batch in batches]
            again += step.of_tasks(batches, losses)
        step.look_back(again, world=self.trainer.world_size)

    def _check_finite(
        self, total: Tensor, batches: Sequence[Batch], losses: Sequence[Tensor]
    ) -> None:
        """All devices raise together, each with the rows of all, or none does."""
        world = self.trainer.world_size
        if world == 1 and math.isfinite(total.item()):
            return  # then so is each loss that counts
        finite = [
            torch.isfinite(loss) | (batch.weight == 0)
            for batch, loss in zip(batches, losses, strict=True)
        ]
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

    def _rows_of_step(self) -> list[str]:
        return [
            row for _, batches in self._pieces for one in batches for row in self._described(one)
        ]

    def _described(self, batch: Batch, which: Sequence[int] | None = None) -> list[str]:
        tasks = batch.task.tolist()
        return [
            self._describe_row(tasks[i], batch.rows[i])
            for i in (range(len(batch.rows)) if which is None else which)
        ]

    def pop_losses(self) -> dict[str, float]:
        """Mean loss per task since the last call, over all devices; tasks that were not drawn are absent. It is one
        over examples, of running text one over tokens (nats per token)."""
        totals, counts = self.gathered_loss_sums().sum(0).tolist()
        self.loss_sums.zero_()
        return {
            name: total / count
            for name, total, count in zip(self._names, totals, counts, strict=True)
            if count
        }

    def task_weights(self) -> dict[str, float]:
        """Weights of the latest step by ``balance/<task>_weight``, for the tasks it had; none for a balance without."""
        if self._balanced is None or self._balanced.weights is None:
            return {}
        of_step = zip(
            self._names,
            self._balanced.weights.tolist(),
            self._balanced.present.tolist(),
            strict=True,
        )
        return {f"balance/{name}_weight": weight for name, weight, present in of_step if present}

    def gathered_loss_sums(self) -> Tensor:
        """(W, 2, K) sums of losses and numbers of what they are of (examples, tokens of running text) per task since
        the last ``pop_losses``, of each of W devices."""
        self._add_up()
        sums = [torch.empty_like(self.loss_sums) for _ in range(self.trainer.world_size)]
        if len(sums) > 1:
            torch.distributed.all_gather(sums, self.loss_sums)
        else:
            sums = [self.loss_sums]
        return torch.stack(sums).cpu()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # A pretrained decoder brings its own shape, which the run's config does not tell.
        checkpoint["decoder"] = asdict(self.strategy.decoder.config)

    def configure_optimizers(self) -> Optimizer:
        trained = nn.ModuleList([self.strategy])
        trained.extend([nn.ParameterList(parameters_to_train(self.balance))])
        return adamw(trained, self._optimizer, fused=True)

    def _balance_seed(self) -> int:
        """The same in all pieces of a step and on all devices."""
        return _number(f"{self._seed}/balance/{self.global_step}")

    def _step_seed(self, batch_index: int) -> int:
        return _number(f"{self._seed}/dropout/{self.global_step}/{batch_index}/{self.global_rank}")


def _clip(parameters: list[nn.Parameter], limit: int | float | None) -> Tensor:
    """() norm of the gradients before they are clipped; null only measures."""
    if limit is None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        return whole_value(torch.nn.utils.get_total_norm(gradients))
    return whole_value(torch.nn.utils.clip_grad_norm_(parameters, float(limit)))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
