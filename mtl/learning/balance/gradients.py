"""Methods that make one direction of the tasks' gradients on the parameters they share."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mtl.learning.balance.bargaining import Bargain
from mtl.learning.balance.conflict_averse import ConflictAverse

BLOCK = 8192
"""Columns of a block on a CPU: so many of all rows stay in its cache."""


class Aggregation(nn.Module):
    """One of TorchJD's aggregators over the tasks that a step has.

    A task that is absent, or whose gradient is exactly 0, is left out: it has nothing to say, and would stop methods
    that heed the least gradient. A task that is alone goes its own way. In both cases the state of what is left out
    stays as it is.

    :param aggregator: Draws, where it does, from the global generator: whoever calls seeds it.
    """

    def __init__(self, aggregator: nn.Module):
        super().__init__()
        self.aggregator = aggregator

    @torch.no_grad()
    def direction(self, rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor | None]:
        """What goes into ``.grad``, and the weights it is a combination by.

        :param rows: (K, P) gradient of each task's loss, finite.
        :param present: (K,) bool, the tasks that the step has.
        :return: (P,) direction; (K,) weights, None for a method without.
        """
        gramian = torch.stack([part @ part.T for part in _blocks(rows)]).sum(0)
        heard = present & (gramian.diagonal() > 0)
        count = int(heard.sum())
        if count < 2:
            return rows[heard].sum(0), heard.to(rows.dtype)
        # On the CPU: these are small loops, which a device would run one kernel at a time.
        found = self.weights(gramian[heard][:, heard].cpu(), heard.nonzero().flatten().cpu())
        weights = rows.new_zeros(len(rows))
        weights[heard] = found.to(weights)
        return weights @ rows, weights

    def weights(self, gramian: Tensor, heard: Tensor) -> Tensor:
        """(m,) weights of the rows.

        :param gramian: (m, m) inner products of the rows of the tasks that are heard, m at least 2.
        :param heard: (m,) indices of these tasks.
        """
        found: Tensor = self.aggregator.gramian_weighting(gramian)  # type: ignore[operator]
        return found


class GradientDropout(Aggregation):
    """GradDrop (Chen et al., NeurIPS 2020, algorithm 1): of each coordinate the positive parts of the rows are kept,
    or the negative ones, drawn by their share. TorchJD's, with what is kept summed at once.
    """

    def __init__(self) -> None:
        super().__init__(nn.Identity())

    @torch.no_grad()
    def direction(self, rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor | None]:
        heard = present & (torch.stack(torch._foreach_norm(list(rows))) > 0)
        if int(heard.sum()) < 2:
            return rows[heard].sum(0), heard.to(rows.dtype)
        matrix = rows if bool(heard.all()) else rows[heard]
        return torch.cat([_one_sign(part) for part in _blocks(matrix)]), None


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """The columns of (K, P) in blocks; on a device that is not the CPU all together."""
    return rows.split(BLOCK if rows.device.type == "cpu" else rows.shape[1], dim=1)


def _one_sign(matrix: Tensor) -> Tensor:
    """(n,) sum of the entries of one sign in each column of (m, n), the sign drawn."""
    total, size = matrix.sum(0), matrix.abs().sum(0)
    # Not a number in a column of zeros, which is neither above nor below what is drawn.
    purity = 0.5 * (1 + total / size)
    drawn = torch.rand_like(total)
    negative = torch.where(purity < drawn, total - size, 0)
    return torch.where(purity > drawn, total + size, negative) / 2


class GradientVaccine(Aggregation):
    """Gradient Vaccine (Wang et al., ICLR 2021, algorithm 1); its targets are kept for each pair of tasks.

    :param tasks: Number of tasks K.
    :param beta: Share of a new cosine in the target, 0 to 1.
    """

    targets: Tensor

    def __init__(self, tasks: int, *, beta: float):
        from torchjd.aggregation import GradVac

        super().__init__(GradVac(beta))
        self.register_buffer("targets", torch.zeros(tasks, tasks))

    def weights(self, gramian: Tensor, heard: Tensor) -> Tensor:
        # TorchJD forgets its targets whenever the number of rows changes, so they are lent to it for each call.
        weighting: Any = self.aggregator.gramian_weighting
        pairs = torch.meshgrid(heard, heard, indexing="ij")
        weighting._phi_t = self.targets.cpu()[pairs].to(gramian.dtype)
        weighting._state_key = (len(gramian), gramian.dtype)
        found = super().weights(gramian, heard)
        self.targets[pairs] = weighting._phi_t.to(self.targets)
        self.aggregator.reset()  # type: ignore[operator]
        return found


class ConflictAversion(Aggregation):
    """CAGrad (Liu et al., NeurIPS 2021, algorithm 1).

    :param c: Radius of the ball about the mean, in lengths of the mean.
    """

    def __init__(self, *, c: float):
        super().__init__(nn.Identity())
        # The number of tasks is part of a problem.
        self._problems: dict[int, ConflictAverse] = {}
        self._c = c

    def weights(self, gramian: Tensor, heard: Tensor) -> Tensor:
        count = len(gramian)
        if count not in self._problems:
            self._problems[count] = ConflictAverse(count, self._c)
        weights = self._problems[count].weigh(gramian.double().numpy())
        return torch.from_numpy(weights).to(gramian.dtype)


class Nash(Aggregation):
    """Nash-MTL (Navon et al., ICML 2022, algorithm 1); each solution starts from the last one of its tasks.

    :param tasks: Number of tasks K.
    :param max_norm: Longest direction; 0 for no limit.
    """

    last: Tensor

    def __init__(self, tasks: int, *, max_norm: float):
        super().__init__(nn.Identity())
        # The number of tasks is part of a problem: one for each number, all starting from what is kept here.
        self._bargains: dict[int, Bargain] = {}
        self._max_norm = max_norm
        self.register_buffer("last", torch.ones(tasks, dtype=torch.float64))

    def weights(self, gramian: Tensor, heard: Tensor) -> Tensor:
        count = len(gramian)
        if count not in self._bargains:
            self._bargains[count] = Bargain(count)
        exact, last = gramian.double(), self.last.cpu()[heard]
        with warnings.catch_warnings():
            # Of cvxpy, on how exactly it solves.
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            alpha = torch.from_numpy(self._bargains[count].strike(exact.numpy(), last.numpy()))
        self.last[heard] = alpha.to(self.last)
        norm = float(alpha @ exact @ alpha) ** 0.5
        if 0 < self._max_norm < norm:
            alpha = alpha * (self._max_norm / norm)
        return alpha.to(gramian.dtype)
