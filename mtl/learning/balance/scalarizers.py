"""Methods that make one loss of the tasks' losses; the weight of a task is the derivative by its loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

SMALLEST = 1e-8
"""Losses below this many nats count as this many, where a method takes logarithms or ratios."""


class Scalarizer(nn.Module):
    """One of TorchJD's scalarizers over the tasks that a step has.

    A task without an example in a step has no influence on it, and its state stays as it is.

    :param tasks: Number of tasks K.
    """

    trained: ClassVar[bool] = False
    """Its parameters are trained by the run's optimizer."""
    looks_back: ClassVar[bool] = False
    """:meth:`look_back` wants the losses of the step's examples after the update."""

    def __init__(self, tasks: int):
        super().__init__()
        self.tasks = tasks

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        """(K,) derivative of the combined loss by each task's loss; 0 for absent tasks.

        :param losses: (K,) loss of each task in nats, without a graph.
        :param present: (K,) bool, the tasks that the step has; at least one.
        """
        with torch.enable_grad():
            given = losses.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.combined(given, present), given)
        return torch.where(present, found, 0)

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        """() combined loss."""
        raise NotImplementedError

    def finish(self, losses: Tensor, present: Tensor) -> None:
        """Called once a step, before the update, with the losses of the whole step."""

    def look_back(self, losses: Tensor, present: Tensor) -> None:
        """Called once a step after the update, with the losses of the same examples; only where ``looks_back``."""


class Fixed(Scalarizer):
    """Given weights: those of the tasks present are scaled to the sum 1.

    Where every step has one task, that would undo them: there they are scaled to the mean 1 over all tasks.

    :param weights: (K,) weights, none negative, not all 0.
    :param one_task: Every step has one task.
    """

    def __init__(self, weights: Sequence[float], *, one_task: bool):
        super().__init__(len(weights))
        self.register_buffer("given", torch.tensor(weights, dtype=torch.float32), persistent=False)
        self.one_task = one_task

    given: Tensor

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        from torchjd.scalarization import Constant

        chosen = self.given[present]
        total = self.given.mean() if self.one_task else chosen.sum()
        return Constant(chosen / total if total > 0 else chosen)(losses[present])


class Random(Scalarizer):
    """Weights drawn anew each step, softmax of normal noise (Lin et al., 2111.10603, algorithm 2).

    Draws from the global generator: whoever calls seeds it.
    """

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        from torchjd.scalarization import Random as Drawn

        # On the CPU, so that a step draws the same weights wherever it runs.
        return Drawn()(losses[present].cpu())


class GeometricMean(Scalarizer):
    """Geometric mean of the losses (Chennupati et al., CVPRW 2019, equation 2)."""

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        from torchjd.scalarization import GeometricMean as Mean

        chosen = losses[present]
        return Mean()(chosen + (chosen.clamp_min(SMALLEST) - chosen).detach())


class Tchebycheff(Scalarizer):
    """Smooth maximum of the losses, each divided by the number of tasks present (Lin et al., 2402.19078, equation 3).

    :param mu: Smoothing: towards 0 only the largest loss counts, towards infinity all count the same.
    """

    def __init__(self, tasks: int, *, mu: float):
        super().__init__(tasks)
        self.mu = mu

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        from torchjd.scalarization import STCH

        return STCH(self.mu)(losses[present])


class Learned(Scalarizer):
    """A method with one learned number for each task, and a combined loss that is a sum over tasks.

    Each task has a scalarizer of its own: the optimizer passes over a parameter without a gradient, but would move
    the entry of an absent task in a shared vector by its momentum.
    """

    trained = True

    def __init__(self, tasks: int, kind: str):
        super().__init__(tasks)
        import torchjd.scalarization

        each = getattr(torchjd.scalarization, kind)
        self.of_task = nn.ModuleList(each(1) for _ in range(tasks))

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        parts = [self.of_task[k](losses[k : k + 1]) for k in present.nonzero().flatten().tolist()]
        return torch.stack(parts).sum()

    def finish(self, losses: Tensor, present: Tensor) -> None:
        chosen = [self.of_task[k] for k in present.nonzero().flatten().tolist()]
        parameters = [parameter for one in chosen for parameter in one.parameters()]
        with torch.enable_grad():
            found = torch.autograd.grad(self.combined(losses.detach(), present), parameters)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient


class DynamicAverage(Scalarizer):
    """Dynamic weight average (Liu et al., CVPR 2019, equation 7), with windows of steps in place of epochs.

    The weights, K together, are those of all tasks, whichever of them a step has. A task counts as standing still
    until it has been seen in two windows; a window without it leaves its averages as they are.

    :param temperature: Above 0; large makes the weights equal.
    :param every: Steps of a window, at least 1.
    """

    sums: Tensor
    counts: Tensor
    averages: Tensor
    windows: Tensor
    steps: Tensor

    def __init__(self, tasks: int, *, temperature: float, every: int):
        super().__init__(tasks)
        self.temperature = temperature
        self.every = every
        self.register_buffer("sums", torch.zeros(tasks))
        self.register_buffer("counts", torch.zeros(tasks))
        self.register_buffer("averages", torch.ones(2, tasks))
        self.register_buffer("windows", torch.zeros(tasks, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        from torchjd.scalarization import DWA

        known = torch.where(self.windows >= 2, self.averages.clamp_min(SMALLEST), 1.0)
        average = DWA(self.temperature)
        for past in known:
            average(past)
            average.step()
        return average(losses)

    @torch.no_grad()
    def finish(self, losses: Tensor, present: Tensor) -> None:
        self.sums += torch.where(present, losses, 0)
        self.counts += present
        self.steps += 1
        if self.steps % self.every == 0:
            seen = self.counts > 0
            newer = torch.where(seen, self.sums / self.counts.clamp_min(1), self.averages[1])
            self.averages[0] = torch.where(seen, self.averages[1], self.averages[0])
            self.averages[1] = newer
            self.windows += seen
            self.sums.zero_()
            self.counts.zero_()


class FAMO(Scalarizer):
    """Fast adaptive multi-task optimization (Liu et al., NeurIPS 2023, algorithm 1): the losses of the step's examples
    before and after the update move the weights.

    :param learning_rate: Of the weights' own Adam.
    :param weight_decay: Of the weights' own Adam: gamma of the paper.
    """

    looks_back = True

    def __init__(self, tasks: int, *, learning_rate: float, weight_decay: float):
        super().__init__(tasks)
        import torchjd.scalarization

        self.adaptive = torchjd.scalarization.FAMO(
            tasks, lr=learning_rate, weight_decay=weight_decay
        )

    def combined(self, losses: Tensor, present: Tensor) -> Tensor:
        with self._without(~present):
            return self.adaptive(torch.where(present, losses, 1.0))

    def look_back(self, losses: Tensor, present: Tensor) -> None:
        with self._without(~present):
            self.adaptive.update(torch.where(present, losses, 1.0))

    @contextmanager
    def _without(self, absent: Tensor) -> Iterator[None]:
        """Logits so low that the softmax gives absent tasks exactly 0; then all that is theirs as it was."""
        # TorchJD keeps logits and optimizer to itself, and has no notion of an absent task.
        logits = self.adaptive._w
        with torch.no_grad():
            before = {name: value.clone() for name, value in self._vectors().items()}
            logits[absent] = -1e9
        yield
        with torch.no_grad():
            for name, value in self._vectors().items():
                value[absent] = before[name][absent] if name in before else 0.0

    def _vectors(self) -> dict[str, Tensor]:
        logits, adam = self.adaptive._w, self.adaptive._optimizer
        moments = {} if adam is None else adam.state[logits]
        return {
            "logits": logits,
            **{name: value for name, value in moments.items() if value.shape == logits.shape},
        }

    def get_extra_state(self) -> dict[str, Any]:
        adam = self.adaptive._optimizer
        return {"adam": None if adam is None else adam.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if state["adam"] is not None:
            of = self.adaptive
            of._optimizer = torch.optim.Adam([of._w], lr=of.lr, weight_decay=of.weight_decay)
            of._optimizer.load_state_dict(state["adam"])
