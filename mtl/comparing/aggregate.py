"""Many tasks and many seeds as one number: what Agarwal et al. 2021 (2108.13264, rliable) recommend for few runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.comparing.answer import Interval
from mtl.comparing.paired import LEVEL, RESAMPLES, stream
from mtl.scoring.intervals import draws

Array = NDArray[np.float64]


def interquartile_mean(scores: Array) -> float:
    """Mean of the middle half of all scores: the lowest and the highest quarter are left out.

    :param scores: (N, K) of N runs on K tasks; as ``scipy.stats.trim_mean`` with a quarter at both ends.
    """
    flat = np.sort(scores, axis=None)
    cut = len(flat) // 4
    return float(flat[cut : len(flat) - cut].mean())


def interquartile_interval(scores: Array, name: str) -> Interval:
    """The interquartile mean with the 95 % percentile interval of a bootstrap that draws runs anew within each task.

    :param scores: (N, K) of N runs on K tasks.
    """
    value = interquartile_mean(scores)
    runs, tasks = scores.shape
    if runs < 2:
        return Interval(value=value)
    drawn = stream("iqm", name).integers(runs, size=(RESAMPLES, runs, tasks))
    flat = np.sort(scores[drawn, np.arange(tasks)].reshape(RESAMPLES, -1), axis=1)
    cut = flat.shape[1] // 4
    return _between(value, flat[:, cut : flat.shape[1] - cut].mean(axis=1))


def probability_of_improvement(ours: Array, theirs: Array) -> float:
    """Mean over tasks of the share of pairs of runs in which ours scores higher, a tie counting half.

    :param ours: (N, K) of N runs on K tasks.
    :param theirs: (M, K).
    """
    return float(_wins(ours, theirs).mean())


def probability_interval(ours: Array, theirs: Array, name: str) -> Interval:
    """The same with its interval, runs of both drawn anew within each task."""
    value = probability_of_improvement(ours, theirs)
    if len(ours) < 2 or len(theirs) < 2:
        return Interval(value=value)
    random, wins = stream("improvement", name), _wins(ours, theirs)
    shares = []
    for won in np.moveaxis(wins, 2, 0):
        # How often each run was drawn: (R, N) and (R, M), instead of all pairs of every resample.
        one, other = (draws(len(runs), RESAMPLES, random) for runs in (ours, theirs))
        shares.append(((one @ won) * other).sum(axis=1) / won.size)
    return _between(value, np.mean(shares, axis=0))


def expected_best(values: Sequence[float], *, falls: bool = False) -> list[tuple[int, float]]:
    """Expected best of n trials drawn without replacement from those that were made, n = 1 to all of them.

    Dodge et al. 2019 (1909.03004, "Show Your Work") plot expected validation performance over the number of trials;
    this is its unbiased form (Tang et al. 2020, 2004.13705): the i-th smallest of N is the best of n in C(i-1, n-1) of
    the C(N, n) choices. Both take trials for independent draws, which those of a sampler that learns are not.

    :param falls: Whether the lowest value is the best.
    """
    from math import comb

    ordered = sorted(values, reverse=falls)
    total = len(ordered)
    return [
        (n, sum(comb(i, n - 1) * value for i, value in enumerate(ordered)) / comb(total, n))
        for n in range(1, total + 1)
    ]


def efficient(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, score) whether no other point scores at least as high at no higher cost and is better in one."""
    return [
        not any(
            (c <= cost and s >= score) and (c < cost or s > score)
            for j, (c, s) in enumerate(points)
            if j != i
        )
        for i, (cost, score) in enumerate(points)
    ]


def _wins(ours: Array, theirs: Array) -> Array:
    """(N, M, K) of (N, K) and (M, K): 1 where ours is higher, 1/2 where both are equal."""
    gaps = ours[:, None, :] - theirs[None, :, :]
    wins: Array = (gaps > 0) + 0.5 * (gaps == 0)
    return wins


def _between(value: float, resampled: Array) -> Interval:
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(value=value, low=float(low), high=float(high))
