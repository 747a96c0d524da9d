"""The metrics as functions of row weights, for all bootstrap resamples at once.

A resample of N rows is how often each row was drawn: weights (R, N) for R resamples, each summing to N. Every
function here takes what a metric prepared from the rows, (N, S), and those weights, and returns (R,) values.
They equal the library's value on the drawn rows; the tests hold them to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtl.scoring.text import bleu_of_totals

Array = NDArray[np.float64]

LARGEST_EXPONENT = 700.0
"""A perplexity above exp of this is given as that: a little above it floating-point numbers end."""
NEGLIGIBLE = 1e-13
"""A spread below this share of the values' own size is rounding: the values are taken as constant."""


def mean(rows: Array, weights: Array) -> Array:
    """Mean of one number per row; rows (N, 1)."""
    return weights @ rows[:, 0] / weights.sum(axis=1)


def accuracy(rows: Array, weights: Array) -> Array:
    """Share of rows whose answer is the target; rows (N, 2) of answer and target."""
    return mean((rows[:, :1] == rows[:, 1:]).astype(np.float64), weights)


def matthews(rows: Array, weights: Array) -> Array:
    """Matthews correlation of K classes (Gorodkin's R_K); rows (N, 2). 0 where a side is constant."""
    hits, answered, wanted = _class_counts(rows, weights)
    total = weights.sum(axis=1)
    covariance = hits.sum(axis=1) * total - (answered * wanted).sum(axis=1)
    spread_answered = total**2 - (answered**2).sum(axis=1)
    spread_wanted = total**2 - (wanted**2).sum(axis=1)
    return _ratio(covariance, np.sqrt(spread_answered * spread_wanted))


def f1(rows: Array, weights: Array) -> Array:
    """F1 of class 1; rows (N, 2). 0 where class 1 is neither answered nor wanted."""
    hits, answered, wanted = _class_counts(rows, weights, at_least=2)
    return _ratio(2 * hits[:, 1], answered[:, 1] + wanted[:, 1])


def macro_f1(rows: Array, weights: Array) -> Array:
    """Mean F1 over the classes that are answered or wanted at least once; rows (N, 2)."""
    hits, answered, wanted = _class_counts(rows, weights)
    scores = _ratio(2 * hits, answered + wanted)
    return scores.sum(axis=1) / (answered + wanted > 0).sum(axis=1)


def pearson(rows: Array, weights: Array) -> Array:
    """Pearson correlation; rows (N, 2) of answer and target. 0 where a side is constant."""
    return _correlation(rows[None, :, 0], rows[None, :, 1], weights)


def spearman(rows: Array, weights: Array) -> Array:
    """Spearman correlation, ties by their mean rank, ranked anew in each resample; rows (N, 2)."""
    return _correlation(_ranks(rows[:, 0], weights), _ranks(rows[:, 1], weights), weights)


def bleu(rows: Array, weights: Array) -> Array:
    """Corpus BLEU in 0..1 from sufficient statistics (N, 10)."""
    return bleu_of_totals(weights @ rows)


def bits_per_byte(rows: Array, weights: Array) -> Array:
    """Bits per UTF-8 byte of the whole text; rows (N, 2) of nats and bytes."""
    nats, size = (weights @ rows).T
    return nats / np.log(2) / size


def _class_counts(rows: Array, weights: Array, at_least: int = 1) -> tuple[Array, Array, Array]:
    """Per resample and class, (R, K): rows answered right, rows answered so, rows that are so."""
    classes = np.arange(max(at_least, int(rows.max()) + 1))
    answered = (rows[:, :1] == classes).astype(np.float64)
    wanted = (rows[:, 1:] == classes).astype(np.float64)
    return weights @ (answered * wanted), weights @ answered, weights @ wanted


def _ranks(values: Array, weights: Array) -> Array:
    """Mean ranks (R, N) of the values among the drawn rows; a row drawn twice ties with itself."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    drawn = np.add.reduceat(weights[:, np.argsort(group, kind="stable")], starts, axis=1)
    middle = np.cumsum(drawn, axis=1) - (drawn - 1) / 2
    return np.asarray(middle[:, group])


def _correlation(left: Array, right: Array, weights: Array) -> Array:
    """Weighted Pearson correlation (R,) of (1 or R, N) values, with the means taken out first."""
    total = weights.sum(axis=1, keepdims=True)
    left, left_flat = _centred(left, weights, total)
    right, right_flat = _centred(right, weights, total)
    covariance = np.einsum("rn,rn,rn->r", weights, left, right, optimize=True)
    spread = np.sqrt(_squares(weights, left) * _squares(weights, right))
    spread[left_flat | right_flat] = 0.0
    return np.clip(_ratio(covariance, spread), -1.0, 1.0)


def _centred(values: Array, weights: Array, total: Array) -> tuple[Array, NDArray[np.bool_]]:
    size = np.abs(values).max(axis=1, keepdims=True)
    # Dividing by the size first keeps the squares of very small and very large values in range.
    scaled = values / np.where(size > 0, size, 1.0)
    centre = (weights * scaled).sum(axis=1, keepdims=True) / total
    centred = scaled - centre
    spread = np.where(weights > 0, np.abs(centred), 0.0).max(axis=1)
    return centred, spread <= NEGLIGIBLE


def _squares(weights: Array, values: Array) -> Array:
    return np.asarray((weights * values**2).sum(axis=1))


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, and 0 where the denominator is 0."""
    zeros = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    return np.divide(numerator, denominator, out=zeros, where=denominator > 0)


def perplexity(rows: Array, weights: Array) -> Array:
    """exp of the nats per unit of the whole text; rows (N, 2) of nats and units."""
    nats, units = (weights @ rows).T
    return np.asarray(np.exp(np.minimum(nats / units, LARGEST_EXPONENT)))
