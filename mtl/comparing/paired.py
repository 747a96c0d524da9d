"""Differences between two ways of learning that are paired by seed: how large, how sure, and how likely by luck."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.comparing.answer import Interval

LEVEL = 0.05
"""Of the tests; intervals cover one less this."""
RESAMPLES = 9999
EXACT_SEEDS = 13
"""Up to this many pairs all 2^n signs are tried; of more a fixed random sample is."""

DIGITS = 10
"""Decimals in which two scores, or two differences in points, must differ to be different."""

Array = NDArray[np.float64]


def stream(*names: str) -> np.random.Generator:
    """The random stream of a quantity, by its name: the same results always give the same page."""
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def rounded_mean(values: Array, axis: int = -1) -> Array:
    """The mean without its last digits, in which sums of the same numbers in another order differ.

    BCa's correction of bias counts the resamples below the mean of the data, ties half. Of few seeds, or of scores that
    are multiples of one row, many resamples have that very mean, and rounding alone would move the interval.
    """
    found: Array = np.round(np.asarray(values.mean(axis=axis)), DIGITS)
    return found


def mean_interval(values: Sequence[float], name: str) -> Interval:
    """The mean with its 95 % BCa bootstrap interval (Efron 1987) over seeds.

    One value has no interval. Where all values are equal so is every resample, and the interval has no width: it speaks
    of these seeds alone.

    :param name: Of the quantity, for its random stream.
    """
    from scipy import stats

    data = np.asarray(values, dtype=np.float64)
    mean = float(data.mean())
    if len(data) < 2:
        return Interval(value=mean)
    if np.ptp(data) <= 10.0**-DIGITS:
        return Interval(value=mean, low=mean, high=mean)
    with warnings.catch_warnings():
        # Where the jackknife says nothing scipy gives no number, and neither do we.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (data,),
            rounded_mean,
            n_resamples=RESAMPLES,
            confidence_level=1 - LEVEL,
            method="BCa",
            rng=stream("interval", name),
        ).confidence_interval
    if not np.isfinite([found.low, found.high]).all():
        return Interval(value=mean)
    return Interval(value=mean, low=float(found.low), high=float(found.high))


def sign_flip_p(differences: Sequence[float], name: str) -> float | None:
    """Two-sided p of the paired sign-flip permutation test of the mean (Fisher 1935): the share of all ways to choose
    the signs whose mean is at least as far from 0.

    Exact up to ``EXACT_SEEDS`` pairs; beyond, over ``RESAMPLES`` drawn ways and the one that was found (Phipson and
    Smyth 2010). None for fewer than two pairs.
    """
    data = np.asarray(differences, dtype=np.float64)
    n = len(data)
    if n < 2:
        return None
    if n <= EXACT_SEEDS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        extra = 0
    else:
        signs = stream("signs", name).choice([-1.0, 1.0], size=(RESAMPLES, n))
        extra = 1
    flipped = np.abs(signs @ data)
    found = abs(float(data.sum()))
    # Sums of the same numbers in another order differ in their last digits and are the same sum.
    as_far = int((flipped >= found - 1e-9 * max(1.0, float(np.abs(data).sum()))).sum())
    return (as_far + extra) / (len(signs) + extra)


def smallest_p(seeds: int) -> float | None:
    """The smallest p that the sign-flip test can give: all differences of one sign."""
    if seeds < 2:
        return None
    return 2.0 / 2**seeds if seeds <= EXACT_SEEDS else 1.0 / (RESAMPLES + 1)


def needed_seeds(comparisons: int) -> int:
    """Fewest seeds with which the smallest p of an exact test, times the number of comparisons, is no longer above the
    level. (Of flips that are drawn no p is below 1e-4, which allows 500 comparisons.)"""
    n = 2
    while 2.0 / 2**n * comparisons > LEVEL:
        n += 1
    return n


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p after Holm's correction (1979) over all of them; those that are None take no part."""
    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    from statsmodels.stats.multitest import multipletests

    corrected = iter(multipletests(known, alpha=LEVEL, method="holm")[1])
    return [None if p is None else float(next(corrected)) for p in p_values]
