"""Gradients of each task by itself, over the pieces of a step and over devices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl.decoder.gathering import add_rows
from mtl.learning.strategy import Strategy


class Rows:
    """The gradient of each task's loss: a row on the shared parameters, and its own parameters' beside.

    The rows are those of the whole graph: ``torchjd.autojac.mtl_backward`` would count only the paths through the
    features, and miss that of tied embeddings through the read-out. The first gradient of a step takes the place of
    what is left of the step before.
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
        # (K, parameters): the shared ones first, then the task's own.
        self._places = [
            _split(row, self.shared) + _split(own_row, own)
            for row, own_row, own in zip(self.rows, self.own_rows, self.own, strict=True)
        ]
        self._begun = [[False] * len(places) for places in self._places]

    def clear(self) -> None:
        """Begin a step."""
        self._begun = [[False] * len(places) for places in self._places]

    def close(self) -> None:
        """End a step: what has no gradient in it has 0."""
        unreached = [
            place
            for places, begun in zip(self._places, self._begun, strict=True)
            for place, reached in zip(places, begun, strict=True)
            if not reached
        ]
        if unreached:
            torch._foreach_zero_(unreached)
        shared = len(self.shared)
        of_tasks = zip(*(begun[:shared] for begun in self._begun), strict=True)
        used = [any(begun) for begun in of_tasks]
        self.used = torch.tensor(used).to(self.used)

    def add(self, task: int, loss: Tensor, *, keep_graph: bool = False) -> None:
        """Add the gradient of a part of a task's loss.

        :param loss: () with its graph, which is freed unless ``keep_graph``.
        """
        found = torch.autograd.grad(
            loss, [*self.shared, *self.own[task]], retain_graph=keep_graph, allow_unused=True
        )
        self._add(task, 0, found)

    def add_own(self, tasks: Sequence[int], loss: Tensor) -> None:
        """Differentiate the summed losses of tasks by the own parameters of each. What they share notes its gradients
        itself, see :class:`mtl.learning.balance.one_pass.OnePass`.

        :param loss: () with its graph, which is freed.
        :raises RuntimeError: Part of the gradients of what they share was not noted.
        """
        own = [self.own[task] for task in tasks]
        found = torch.autograd.grad(loss, [*self.shared, *itertools.chain(*own)], allow_unused=True)
        shared = len(self.shared)
        if any(gradient is not None for gradient in found[:shared]):
            raise RuntimeError(
                "A strategy used outside the decoder what tasks share, which it did not with its first batch."
            )
        of_tasks = iter(found[shared:])
        for task, parameters in zip(tasks, own, strict=True):
            self._add(task, shared, tuple(itertools.islice(of_tasks, len(parameters))))

    def _add(self, task: int, first: int, found: Sequence[Tensor | None]) -> None:
        """Add to a task's gradients those found of its parameters from the ``first`` on."""
        places, begun = self._places[task], self._begun[task]
        new, more = dict[int, Tensor](), dict[int, Tensor]()
        for number, gradient in enumerate(found, first):
            if gradient is not None:
                (more if begun[number] else new)[number] = gradient
                begun[number] = True
        if new:
            torch._foreach_copy_([places[number] for number in new], list(new.values()))
        if more:
            torch._foreach_add_([places[number] for number in more], list(more.values()))

    def add_to(self, task: int, parameter: int, gradient: Tensor) -> None:
        """Add to the gradient of one shared parameter."""
        place, begun = self._place(task, parameter)
        place.add_(gradient) if begun else place.copy_(gradient)

    def add_product(self, task: int, parameter: int, left: Tensor, right: Tensor) -> None:
        """Add the product of two matrices, which may be of lower precision, to that of a matrix."""
        place, _ = self._places[task][parameter], self._begun[task][parameter]
        if left.dtype != place.dtype:
            self.add_to(task, parameter, left @ right)
            return
        place, begun = self._place(task, parameter)
        place.addmm_(left, right, beta=int(begun))

    def add_vectors(self, task: int, parameter: int, places: Tensor, vectors: Tensor) -> None:
        """Add (N, D) vectors to the rows ``places`` (N,) of that of an embedding."""
        place, begun = self._place(task, parameter)
        if not begun:
            place.zero_()
        add_rows(place, places, vectors.to(place.dtype))

    def _place(self, task: int, parameter: int) -> tuple[Tensor, bool]:
        """Where a task's gradient of a shared parameter is, and whether the step has put something there already."""
        begun = self._begun[task]
        before, begun[parameter] = begun[parameter], True
        return self._places[task][parameter], before

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
