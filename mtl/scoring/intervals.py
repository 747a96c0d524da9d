"""Bootstrap intervals: how far a value could have been off had other rows been drawn.

The interval is the percentile bootstrap (Efron 1979) over rows: 2.5 % to 97.5 % of the metric's values on
resamples of the same size. It speaks of the rows alone, not of the seed a model was trained from. Known weakness:
where every row is right (or wrong), every resample is too, and the interval has no width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl.scoring.metrics import Metric

COVERAGE = 0.95
CELLS = 4_000_000
"""Rows times resamples that are held at once (32 MB of float64), so that memory does not grow with the data."""


@dataclass(frozen=True)
class Value:
    """A metric with its 95 % interval; the ends are None where none was asked for or there is a single row."""

    value: float
    low: float | None = None
    high: float | None = None


def generator(task: str, metric: str) -> np.random.Generator:
    """The random stream of a task's metric: the same answers always get the same interval."""
    digest = hashlib.sha256(f"{task}/{metric}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def draws(rows: int, resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Weights (R, N): how often each of N rows was drawn in each of R resamples with replacement."""
    drawn = random.integers(rows, size=(resamples, rows))
    drawn += rows * np.arange(resamples)[:, None]
    counted = np.bincount(drawn.ravel(), minlength=rows * resamples)
    return counted.reshape(resamples, rows).astype(np.float64)


def bootstrap(
    metric: Metric, rows: NDArray[np.float64], *, resamples: int, random: np.random.Generator
) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of a metric over prepared rows (N, S)."""
    values: list[NDArray[np.float64]] = []
    at_once = max(1, CELLS // len(rows))
    for start in range(0, resamples, at_once):
        weights = draws(len(rows), min(at_once, resamples - start), random)
        values.append(metric.resampled(rows, weights))
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return float(low), float(high)
