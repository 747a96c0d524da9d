"""Gradients of each task by itself, over the pieces of a step and over devices."""

from __future__ import annotations

import itertools
import operator

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
        self.shared = shared_parameters(strategy)
        where = self.shared[0] if self.shared else next(strategy.parameters())
        self.rows = where.new_zeros(len(self.own), sum(p.numel() for p in self.shared))
        self.own_rows = [where.new_zeros(sum(p.numel() for p in own)) for own in self.own]
        self.used = where.new_zeros(len(self.shared))
        self._begun: set[int] = set()

    def clear(self) -> None:
        """Begin a step. The first gradient of a task takes the place of what is left of the step before."""
        self._begun.clear()
        self.used.zero_()

    def close(self) -> None:
        """End a step: tasks without a gradient in it have 0."""
        for task in set(range(len(self.own))) - self._begun:
            self.rows[task].zero_()
            self.own_rows[task].zero_()

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
        gradients = list(itertools.compress(found, reached))
        targets = list(itertools.compress(places, reached))
        if task in self._begun:
            torch._foreach_add_(targets, gradients)
        else:
            torch._foreach_copy_(targets, gradients)
            for place in itertools.compress(places, map(operator.not_, reached)):
                place.zero_()
            self._begun.add(task)
        self.used += torch.tensor(reached[: len(self.shared)]).to(self.used)

    def reduce(self) -> None:
        """Sum over devices."""
        for tensor in (self.rows, *self.own_rows, self.used):
            if tensor.numel():
                torch.distributed.all_reduce(tensor)

    def finite(self) -> bool:
        """Whether all gradients are, and their norms."""
        norms = torch._foreach_norm([t for t in (*self.rows, *self.own_rows) if t.numel()])
        return bool(torch.isfinite(torch.stack(norms)).all())

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
            parts = _split(self.own_rows[task].mul_(own[task]), self.own[task])
            for parameter, part in zip(self.own[task], parts, strict=True):
                parameter.grad = part


def shared_parameters(strategy: Strategy) -> list[nn.Parameter]:
    """What is trained and no task owns alone."""
    alone = {id(p) for task in strategy.tasks for p in strategy.own_parameters(task)}
    return [p for p in strategy.parameters() if p.requires_grad and id(p) not in alone]


def _split(vector: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    parts = vector.split([p.numel() for p in parameters]) if parameters else ()
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
