"""How often a study claims what is not there, and finds what is: simulated studies of ten seeds and eight arms.

As in a study, a claim is an interval that excludes 0 beside a p of at most 0.05 after Holm's correction over the arms,
and all arms are compared with the same runs of the reference.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricated import REFERENCE, arm, results

from mtl.comparing.analysis import analyse
from mtl.comparing.comparisons import verdict
from mtl.comparing.paired import LEVEL, holm, mean_interval, sign_flip_p, smallest_p

ARMS = 8


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """statsmodels collects garbage at every correction, which takes a thousand times as long as the correction."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(2, 12), st.floats(0, 1)), min_size=1, max_size=6))
def test_no_corrected_p_lies_below_its_floor(drawn):
    """Holm's correction never raises one p as another one falls, which the floor relies on."""
    seeds = [n for n, _ in drawn]
    tried = [max(p, 2 / 2**n) for n, p in drawn]
    floors = holm([smallest_p(n) for n in seeds])
    for floor, p in zip(floors, holm(tried), strict=True):
        assert floor is not None
        assert p is not None
        assert p >= floor - 1e-12


def claims(effects: np.ndarray, seeds: int, random: np.random.Generator) -> list[bool]:
    """Whether each arm is claimed to differ.

    :param effects: (A,) true differences in standard deviations of a paired difference.
    """
    # A run's score has the deviation 1/sqrt(2), and the difference of two the deviation 1.
    scores = random.normal(scale=0.5**0.5, size=(len(effects) + 1, seeds))
    differences = scores[1:] + effects[:, None] - scores[0]
    corrected = holm([sign_flip_p(d.tolist(), "x") for d in differences])
    # The interval matters only where the test holds, and takes most of the time.
    return [
        p is not None
        and p <= LEVEL
        and verdict(mean_interval(d.tolist(), "x"), p, None, seeds)[0] != "undecided"
        for d, p in zip(differences, corrected, strict=True)
    ]


def test_false_claims_under_the_null_are_rare():
    """At most one study in twenty makes any: of 400, at most 35 but for one in 1000 by the binomial law."""
    random = np.random.default_rng(3)
    studies = [any(claims(np.zeros(ARMS), 10, random)) for _ in range(400)]
    assert stats.binom.sf(35, 400, LEVEL) < 0.001
    assert sum(studies) <= 35


def test_an_effect_of_two_deviations_is_found():
    """One arm of eight is two standard deviations of a difference ahead: at least four studies in five find it."""
    random = np.random.default_rng(4)
    effects = np.array([2.0, *[0.0] * (ARMS - 1)])
    found = [claims(effects, 10, random) for _ in range(100)]
    assert sum(one[0] for one in found) >= 80
    # Beside a true effect others are claimed no more often: of 100 at most 13 but for one in 1000.
    assert stats.binom.sf(13, 100, LEVEL) < 0.001
    assert sum(any(one[1:]) for one in found) <= 13


def test_the_interval_alone_is_too_narrow():
    """What docs/statistics.md says of 500 samples of a normal law, and why a claim needs a test as well."""
    shares = {}
    for n in (3, 5, 10):
        random, inside = np.random.default_rng(1), 0
        for _ in range(500):
            found = mean_interval(random.normal(size=n).tolist(), "x")
            assert found.low is not None
            assert found.high is not None
            inside += found.low <= 0 <= found.high
        shares[n] = inside / 500
    # A binomial share of 500: three standard errors are 0.06 at 0.72 and 0.04 at 0.9.
    assert shares[3] == pytest.approx(0.72, abs=0.06)
    assert shares[5] == pytest.approx(0.86, abs=0.05)
    assert shares[10] == pytest.approx(0.90, abs=0.04)


def test_seven_seeds_find_nothing_whatever_the_effect():
    random = np.random.default_rng(5)
    assert not any(any(claims(np.full(ARMS, 50.0), 7, random)) for _ in range(5))


def test_whole_studies_claim_as_their_parts_do():
    """Eight arms through the whole analysis, on two tasks; the first is four deviations of a run ahead."""
    random = np.random.default_rng(6)

    def scores(effect: float) -> dict[str, list[float]]:
        return {
            task: random.normal(0.7 + 0.01 * effect, 0.01, size=10).tolist() for task in ("a", "b")
        }

    arms = [arm(f"x{i}", scores(4.0 if i == 0 else 0.0)) for i in range(ARMS)]
    answer = analyse(results(arm(REFERENCE, scores(0.0), role="baseline"), *arms))
    found = {c.arm: c.verdict for c in answer.comparisons if c.task == "average"}
    assert found == {"x0": "better", **{f"x{i}": "undecided" for i in range(1, ARMS)}}
