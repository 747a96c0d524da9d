"""Gradients of each task by itself, over the pieces of a step and over devices."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from mtl.learning.strategy import Strategy


class Rows:
    """The gradient of each task's loss: a row on the shared parameters, and its own parameters' beside.

    One task's graph is alive at a time. The rows are those of the whole graph: ``torchjd.autojac.mtl_backward`` would
    count only the paths through the features, and miss that of tied embeddings through the read-out.
    """

    def __init__(self, strategy: Strategy):
        self.own = [
            [p for p in strategy.own_parameters(task) if p.requires_grad] for task in strategy.tasks
        ]
        alone = {id(parameter) for own in self.own for parameter in own}
        self.shared = [p for p in strategy.parameters() if p.requires_grad and id(p) not in alone]
        where = self.shared[0] if self.shared else next(strategy.parameters())
        self.rows = where.new_zeros(len(self.own), sum(p.numel() for p in self.shared))
        self.own_rows = [where.new_zeros(sum(p.numel() for p in own)) for own in self.own]
        self.used = where.new_zeros(len(self.shared))

    def clear(self) -> None:
        """Begin a step."""
        for tensor in self._all():
            tensor.zero_()

    def add(self, task: int, loss: Tensor, *, keep_graph: bool = False) -> None:
        """Add the gradient of a part of a task's loss.

        :param loss: () with its graph, which is freed unless ``keep_graph``.
        """
        own = self.own[task]
        found = torch.autograd.grad(
            loss, [*self.shared, *own], retain_graph=keep_graph, allow_unused=True
        )
        places = _split(self.rows[task], self.shared) + _split(self.own_rows[task], own)
        reached = [gradient is not None for gradient in found]
        torch._foreach_add_(
            list(itertools.compress(places, reached)), list(itertools.compress(found, reached))
        )
        self.used += torch.tensor(reached[: len(self.shared)]).to(self.used)

    def reduce(self) -> None:
        """Sum over devices."""
        for tensor in self._all():
            torch.distributed.all_reduce(tensor)

    def finite(self) -> bool:
        """Whether all gradients are."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self._all())

    def write(self, direction: Tensor, own: Tensor, present: Tensor) -> None:
        """Put a direction, and the own gradients, into ``.grad``. What no task present uses has none.

        :param direction: (P,) on the shared parameters.
        :param own: (K,) factor of the gradient on each task's own parameters.
        :param present: (K,) bool, the tasks that the step has.
        """
        reached = self.used.tolist()
        for parameter, part, used in zip(
            self.shared, _split(direction, self.shared), reached, strict=True
        ):
            parameter.grad = part if used else None
        for task in present.nonzero().flatten().tolist():
            parts = _split(self.own_rows[task] * own[task], self.own[task])
            for parameter, part in zip(self.own[task], parts, strict=True):
                parameter.grad = part

    def _all(self) -> list[Tensor]:
        return [t for t in (self.rows, *self.own_rows, self.used) if t.numel()]


def _split(vector: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    parts = vector.split([p.numel() for p in parameters]) if parameters else ()
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
