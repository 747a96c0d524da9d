"""How a sequence of draws is divided into steps.

Bounds are (S + 1,) positions: step s is ``bounds[s]`` to ``bounds[s + 1]``.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

POOL_BATCHES = 32
"""Rows are grouped by length among the draws of about this many batches, so that two rows of the same length do
not meet again in every pass."""


def cut(lengths: np.ndarray, limit: int) -> np.ndarray:
    """Bounds of the fewest consecutive steps of at most ``limit`` tokens, as even as they can be.

    A row longer than the limit is a step alone. Steps are evened out so that the last is no remainder of a few
    rows, which would move the weights as much as a full one.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    bounds = _greedy(ends, limit)
    below, above = 0, limit
    if len(lengths):
        # Steps of fewer tokens than the mean cannot be as few, unless rows longer than that are steps alone.
        fewer = -(-int(ends[-1]) // (len(bounds) - 1)) - 1
        if int(lengths.max()) <= fewer < limit:
            below = fewer
    while above - below > 1:
        middle = (below + above) // 2
        tried = _greedy(ends, middle, most=len(bounds))
        if len(tried) == len(bounds):
            bounds, above = tried, middle
        else:
            below = middle
    return bounds


def grouped_by_length(lengths: np.ndarray, limit: int) -> np.ndarray:
    """An order of the rows in which neighbours are of about the same length; ties keep their order."""
    pool = (np.cumsum(lengths) - lengths) // (limit * POOL_BATCHES)
    return np.lexsort((lengths, pool))


def evenly(draws: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal each task's draws evenly over ``steps``.

    :param draws: (K,) draws of each task, which stand one task after the other.
    :return: Order of all draws in which the steps are consecutive, and their bounds.
    """
    step = np.concatenate(
        [((np.arange(n, dtype=np.int64) * 2 + 1) * steps) // (2 * n) for n in draws.tolist() if n]
    )
    return np.argsort(step, kind="stable"), np.concatenate(
        [[0], np.cumsum(np.bincount(step, minlength=steps))]
    )


def rearrange(
    order: np.ndarray, sizes: np.ndarray, permutation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Consecutive batches of ``order``, of the given sizes, put into another sequence; with their bounds."""
    starts = (np.cumsum(sizes) - sizes)[permutation]
    moved = sizes[permutation]
    bounds = np.concatenate([[0], np.cumsum(moved)])
    within = np.arange(bounds[-1]) - np.repeat(bounds[:-1], moved)
    return order[np.repeat(starts, moved) + within], bounds


def shard(lengths: np.ndarray, pieces: int) -> list[np.ndarray]:
    """Split a step's rows into ``pieces`` of about equal tokens; all together are exactly the step.

    :param lengths: (n,) tokens of each row of the step.
    :return: For each piece the ascending positions of its rows; a piece is empty where rows are too few.
    """
    owner = np.zeros(len(lengths), dtype=np.int64)
    if pieces > 1:
        load = [0] * pieces
        for i in np.argsort(-lengths, kind="stable").tolist():
            owner[i] = load.index(min(load))
            load[owner[i]] += int(lengths[i])
    return [np.flatnonzero(owner == piece) for piece in range(pieces)]


def whole_shares(wanted: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near ``wanted`` that sum to ``total`` (largest remainders; of equal ones the first)."""
    wanted = np.maximum(wanted, 0)
    wanted = wanted * (total / wanted.sum())
    shares = np.floor(wanted + 1e-9).astype(np.int64)  # a rate such as 0.1 is not exact
    rest = total - int(shares.sum())
    shares[np.argsort(-np.round(wanted - shares, 9), kind="stable")[:rest]] += 1
    return shares


def _greedy(ends: np.ndarray, limit: int, most: int | None = None) -> np.ndarray:
    """Fill each step as far as it goes; gives up beyond ``most`` bounds."""
    view = ends.data  # one number of it costs less than one call of numpy
    bounds = [0]
    done = 0
    while bounds[-1] < len(view) and (most is None or len(bounds) <= most):
        begin = bounds[-1]
        bounds.append(max(bisect_right(view, done + limit, lo=begin), begin + 1))
        done = view[bounds[-1] - 1]
    return np.array(bounds, dtype=np.int64)
