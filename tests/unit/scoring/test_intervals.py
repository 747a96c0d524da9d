"""Bootstrap intervals: coverage, repeatability, memory."""

from __future__ import annotations

import numpy as np
import pytest

from mtl.scoring import intervals
from mtl.scoring.intervals import bootstrap, draws, generator
from mtl.scoring.metrics import METRICS


def coverage(metric: str, simulate, truth: float, datasets: int = 300) -> float:
    random = np.random.default_rng(5)
    inside = 0
    for _ in range(datasets):
        low, high = bootstrap(METRICS[metric], simulate(random), resamples=300, random=random)
        inside += low <= truth <= high
    return inside / datasets


def test_the_accuracy_interval_covers_the_truth():
    def simulate(random):
        return np.stack([random.random(200) < 0.8, np.ones(200)], axis=1).astype(float)

    assert 0.92 <= coverage("accuracy", simulate, 0.8) <= 0.98


def test_the_pearson_interval_covers_the_truth():
    def simulate(random):
        return random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=150)

    assert 0.92 <= coverage("pearson", simulate, 0.6) <= 0.98


def test_the_matthews_interval_covers_the_truth():
    # Both labels equally likely, answered right with probability 0.75: the correlation is 2 * 0.75 - 1.
    def simulate(random):
        wanted = random.integers(2, size=200)
        right = random.random(200) < 0.75
        return np.stack([np.where(right, wanted, 1 - wanted), wanted], axis=1).astype(float)

    assert 0.92 <= coverage("matthews", simulate, 0.5) <= 0.98


def test_the_width_of_an_accuracy_interval_is_the_normal_one():
    rows = np.stack([np.arange(1000) < 700, np.ones(1000)], axis=1).astype(float)
    low, high = bootstrap(METRICS["accuracy"], rows, resamples=4000, random=generator("t", "m"))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 1000), rel=0.06)
    assert (low + high) / 2 == pytest.approx(0.7, abs=0.003)


def test_draws_are_rows_with_replacement():
    weights = draws(50, 400, np.random.default_rng(0))
    assert weights.shape == (400, 50)
    assert (weights.sum(axis=1) == 50).all()
    # Of the rows, 1 - (1 - 1/N)**N are drawn at least once.
    assert (weights > 0).mean() == pytest.approx(1 - (1 - 1 / 50) ** 50, abs=0.01)
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)


def test_each_task_and_metric_has_a_stream_of_its_own():
    def first(task, metric):
        return generator(task, metric).integers(2**60)

    assert first("sst2", "accuracy") == first("sst2", "accuracy")
    streams = {first(task, metric) for task in ("sst2", "cola") for metric in ("accuracy", "f1")}
    assert len(streams) == 4


def test_resamples_come_in_blocks_that_memory_holds(monkeypatch):
    asked = []

    def watched(rows, resamples, random):
        asked.append((rows, resamples))
        return draws(rows, resamples, random)

    monkeypatch.setattr(intervals, "draws", watched)
    monkeypatch.setattr(intervals, "CELLS", 1000)
    rows = np.ones((300, 1))
    assert bootstrap(METRICS["exact_match"], rows, resamples=7, random=generator("t", "m")) == (
        1,
        1,
    )
    assert asked == [(300, 3), (300, 3), (300, 1)]
