"""One optimizer step under a balance, in as many pieces and on as many devices as it comes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mtl.data.batch import Batch
from mtl.learning.balance.gradients import Aggregation
from mtl.learning.balance.methods import Balance
from mtl.learning.balance.one_pass import OnePass, shares_rows
from mtl.learning.balance.rows import Rows
from mtl.learning.balance.scalarizers import Scalarizer
from mtl.learning.seeding import reseed
from mtl.learning.strategy import Strategy


class BalancedStep:
    """Gathers the losses of each task over the pieces of a step, weighs them, and sees to the gradients.

    Batches carry weights that sum to 1 over each task of the whole step, see
    :func:`mtl.learning.balance.methods.within_tasks`. Where weights follow from the losses of the whole step and the
    step comes in pieces, and for gradient methods, the gradients of each task are kept by themselves (``separate``);
    otherwise the weighted losses of a piece have one backward pass.

    :param strategy: Built, on the device that trains it.
    :param separate: The gradients of each task by themselves.
    :param one_pass: Take those of a batch of several tasks from one pass (:mod:`mtl.learning.balance.one_pass`), unless
        it turns out with the first batch that the strategy uses what tasks share outside the decoder.
    """

    def __init__(
        self, balance: Balance, strategy: Strategy, *, separate: bool, one_pass: bool = False
    ):
        self.balance = balance
        self.strategy = strategy
        self.rows = Rows(strategy) if separate else None
        self.one_pass = one_pass
        self._watch = True  # the first batch
        self._device = next(strategy.parameters()).device
        self.present = torch.zeros(len(strategy.tasks), dtype=torch.bool, device=self._device)
        self.losses = torch.zeros(len(strategy.tasks), device=self._device)
        self.weights: Tensor | None = None

    def begin(self, tasks: Sequence[int]) -> None:
        """A new step.

        :param tasks: The tasks of the whole step.
        """
        self.present = torch.zeros_like(self.present)
        self.present[torch.as_tensor(tasks, device=self._device)] = True
        self.losses = torch.zeros_like(self.losses)
        if self.rows is not None:
            self.rows.clear()

    def weighed(self, batches: Sequence[Batch], losses: Sequence[Tensor], *, seed: int) -> Tensor:
        """() weighted loss of a piece, to be summed over the pieces and devices.

        :param losses: (B,) losses in nats of each batch of the piece, with their graph.
        :param seed: The same in all pieces of a step.
        """
        assert isinstance(self.balance, Scalarizer)
        of_task = self.of_tasks(batches, losses)
        self.losses += of_task.detach()
        reseed(seed, self._device)
        self.weights = self.balance.weights(of_task.detach(), self.present)
        return (self.weights * of_task).sum()

    def separately(self, batches: Sequence[Batch]) -> list[Tensor]:
        """(B,) losses of each batch of a piece, whose gradients are kept task by task."""
        found = []
        for batch in batches:
            tasks = batch.task[batch.weight > 0].unique().tolist()
            losses = None
            if self.one_pass and len(tasks) > 1 and not shares_rows(batch):
                losses = self._at_once(batch, tasks)
            if losses is None:
                losses = self._one_by_one(batch, tasks)
            found.append(losses)
            self.losses += self.of_tasks([batch], [losses])
        return found

    def _at_once(self, batch: Batch, tasks: Sequence[int]) -> Tensor | None:
        """(B,) losses; None, and nothing done, where the gradients cannot be told apart in one pass."""
        assert self.rows is not None
        watch, self._watch = self._watch, False
        with OnePass(self.rows, self.strategy.decoder, batch, watch=watch) as one:
            losses = self.strategy.losses(batch).float()
        if one.missed:
            self.one_pass = not one.outside
            reseed(torch.initial_seed(), self._device)
            return None
        self.rows.add_own(tasks, (losses * batch.weight).sum())
        return losses.detach()

    def _one_by_one(self, batch: Batch, tasks: Sequence[int]) -> Tensor:
        """(B,) losses."""
        assert self.rows is not None
        losses = self.strategy.losses(batch).float()
        weighed = losses * batch.weight
        for task in tasks:
            own = weighed if len(tasks) == 1 else weighed[batch.task == task]
            self.rows.add(task, own.sum(), keep_graph=task != tasks[-1])
        return losses.detach()

    def finish(self, *, seed: int, world: int) -> bool:
        """Put the gradients of the whole step into ``.grad``; the plain backward pass, where there is one, is done.

        :param seed: The same on all devices.
        :return: False, and nothing put anywhere, where a gradient of a task is not finite; on all devices alike.
        """
        if self.rows is not None:
            self.rows.close()
        if world > 1:
            torch.distributed.all_reduce(self.losses)
            if self.rows is not None:
                self.rows.reduce()
        if self.rows is not None:
            if not self.rows.finite():
                return False
            reseed(seed, self._device)
            self._combine(self.rows)
        if isinstance(self.balance, Scalarizer):
            self.balance.finish(self.losses, self.present)
        return True

    def _combine(self, rows: Rows) -> None:
        if isinstance(self.balance, Aggregation):
            direction, self.weights = self.balance.direction(rows.rows, self.present)
            own = torch.ones_like(self.losses)
        else:
            own = self.weights = self.balance.weights(self.losses, self.present)
            direction = own @ rows.rows
        rows.write(direction, own, self.present)

    def look_back(self, losses: Tensor, *, world: int) -> None:
        """After the update.

        :param losses: (K,) :meth:`of_tasks` again, of this device's pieces together.
        """
        if world > 1:
            torch.distributed.all_reduce(losses)
        assert isinstance(self.balance, Scalarizer)
        self.balance.look_back(losses, self.present)

    def of_tasks(self, batches: Sequence[Batch], losses: Sequence[Tensor]) -> Tensor:
        """(K,) each task's share of its loss over the step."""
        parts = [
            (one_hot(batch.task, len(self.losses)) * (loss * batch.weight)[:, None]).sum(0)
            for batch, loss in zip(batches, losses, strict=True)
        ]
        return torch.stack(parts).sum(0)
