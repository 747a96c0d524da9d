"""Weights of the conflict-averse direction, from the inner products of the tasks' gradients."""

from __future__ import annotations

import numpy as np

LEAST_NORM = 1e-4
"""Of the combination of gradients that serves the worst served task, over that of all gradients together: below it the
tasks have nothing left that serves them all."""


class ConflictAverse:
    """Finds the direction within c times the mean's length of the mean that serves the worst served of m tasks best
    (Liu et al., "Conflict-Averse Gradient Descent for Multi-task learning", NeurIPS 2021, equation 4, by its dual).

    The same numbers as TorchJD's ``CAGrad``, which writes the problem anew, and has cvxpy take it apart, for every
    solution; and unlike that one whatever the gradients' length, where it stands still below a norm of 0.01.

    :param tasks: m, at least 2.
    :param c: Radius in lengths of the mean, 0 or more.
    """

    def __init__(self, tasks: int, c: float):
        import cvxpy

        self._c = c
        self._convex = cvxpy.Variable(tasks, nonneg=True)
        self._slope = cvxpy.Parameter(tasks)
        self._scaled_root = cvxpy.Parameter((tasks, tasks))
        self._problem = cvxpy.Problem(
            cvxpy.Minimize(
                self._slope @ self._convex + cvxpy.norm(self._scaled_root @ self._convex, 2)
            ),
            [cvxpy.sum(self._convex) == 1],
        )

    def weigh(self, gramian: np.ndarray) -> np.ndarray:
        """(m,) weights of the gradients, from their (m, m) inner products, of which one is not 0."""
        import cvxpy

        tasks = len(gramian)
        values, vectors = np.linalg.eigh(gramian / np.trace(gramian))
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T  # root.T @ root is the matrix
        mean = root.sum(1) / tasks
        radius = self._c * np.linalg.norm(mean)
        self._slope.value, self._scaled_root.value = mean @ root, radius * root
        # A solver that starts from its last problem gives other digits than one of a run that was resumed.
        self._problem.solve(solver=cvxpy.CLARABEL, warm_start=False)
        convex: np.ndarray = self._convex.value
        norm = np.linalg.norm(root @ convex)
        if norm < LEAST_NORM:
            return np.zeros(tasks)
        weights: np.ndarray = 1 / tasks + radius / norm * convex
        return weights
