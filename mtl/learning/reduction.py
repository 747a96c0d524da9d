"""How the losses of a step's examples become one loss: the weight of each example.

The loss of a step is ``sum_i weight_i * loss_i`` with ``loss_i`` the mean over the example's own terms (its labelled
tokens, or one for a head). Weights follow from counts alone, so they are known before the forward pass, and are
computed over the whole step: devices and accumulated pieces then agree by construction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mtl.config.errors import unknown_name

Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(terms (B,), tasks (B,)) -> weights (B,), float32, of one whole step."""


def token_mean(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Every term counts the same, whatever its example or task."""
    return (terms / terms.sum()).astype(np.float32)


def example_mean(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Every example counts the same, however many terms it has."""
    return np.full(len(terms), 1 / len(terms), dtype=np.float32)


def task_token_mean(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Mean over the tasks present of each task's token mean."""
    of_task = np.bincount(tasks, weights=terms)
    return (terms / of_task[tasks] / np.count_nonzero(of_task)).astype(np.float32)


def task_example_mean(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Mean over the tasks present of each task's example mean."""
    of_task = np.bincount(tasks)
    return (1 / of_task[tasks] / np.count_nonzero(of_task)).astype(np.float32)


def task_example_sum(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Sum over the tasks present of each task's example mean: the tasks' models are apart, each on its own loss."""
    return (1 / np.bincount(tasks)[tasks]).astype(np.float32)


REDUCTIONS: dict[str, Weigh] = {
    "token_mean": token_mean,
    "example_mean": example_mean,
    "task_token_mean": task_token_mean,
    "task_example_mean": task_example_mean,
    "task_example_sum": task_example_sum,
}


def reduction(name: str) -> Weigh:
    """The reduction of that name.

    :raises UserError: no reduction has the name.
    """
    if name not in REDUCTIONS:
        raise unknown_name("reduction", name, REDUCTIONS)
    return REDUCTIONS[name]
