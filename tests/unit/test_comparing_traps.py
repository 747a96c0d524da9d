"""What must not be said: numbers that would mislead, and studies that are only partly there."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricated import REFERENCE, arm, baseline, on, pair, results, seeded, standing

from mtl.comparing.aggregate import expected_best, probability_interval
from mtl.comparing.analysis import analyse
from mtl.comparing.paired import RESAMPLES, mean_interval, needed_seeds, stream
from mtl.comparing.results import Trial
from mtl.scoring.intervals import draws


@pytest.mark.parametrize("level", [0.1, 0.7])
def test_no_effect_in_deviations_where_the_reference_has_none(level):
    """The mean of three times 0.7 is not 0.7, and rounding is no spread."""
    answer = analyse(results(baseline(a=[level] * 3), arm("x", {"a": [0.71, 0.72, 0.73]})))
    assert [one.effect for one in answer.comparisons] == [None, None]


def test_no_relative_change_where_one_run_of_the_reference_is_at_chance():
    """The mean of the reference is far from chance; one quotient of 0.2 and 0.005 would be 40 all the same."""
    base = arm(REFERENCE, {"a": [0.4, 0.5, 0.005]}, role="baseline", chance=0.0)
    other = arm("x", {"a": [0.4, 0.5, 0.2]}, chance=0.0)
    found = on(analyse(results(base, other)), "a")["x"]
    assert found.relative is None
    assert found.relative_why is not None
    assert "at chance" in found.relative_why


def test_averages_over_other_tasks_are_not_subtracted():
    answer = analyse(
        results(
            baseline(a=[0.7] * 3, b=[0.9] * 3),
            arm("x", {"a": [0.7] * 3}),
            arm("y", {"a": [0.8] * 3, "b": [0.9] * 3}),
        )
    )
    assert set(on(answer, "average")) == {"y"}
    assert set(on(answer, "a")) == {"x", "y"}
    assert any("x and single_task_same_exposure have other tasks" in note for note in answer.notes)
    # x is cheaper by nothing and its average is over one easy task: it takes no place on the others' front.
    assert standing(answer, "y").efficient["tokens"]
    assert standing(answer, "x").efficient["tokens"]


def test_a_measure_that_one_of_the_two_was_not_scored_on():
    both, one = {"a": [0.7] * 3, "b": [0.7] * 3}, {"a": [0.7] * 3}
    for first, second in ((both, one), (one, both)):
        found = results(
            arm(REFERENCE, first, role="baseline"), arm("x", second), primary="b/accuracy"
        )
        answer = analyse(found)
        assert on(answer, "b") == {}
        assert len(answer.standings) == 1
        assert any("was not scored on b" in note for note in answer.notes)


def test_no_seed_in_common_is_no_comparison():
    other = seeded(arm("x", {"a": [0.7] * 3}), (10, 11, 12))
    answer = analyse(results(baseline(a=[0.7] * 3), other))
    assert answer.comparisons == []
    assert standing(answer, "x").comparison is None
    assert "x and single_task_same_exposure have no finished seed in common" in answer.notes


def test_pretraining_is_a_cost():
    base = {"a": [0.6, 0.7]}
    before = {"corpus": "c", "tokens": 900, "steps": 9, "flops": 5e9, "seconds": 4.0}
    answer = analyse(
        results(
            arm(REFERENCE, base, role="baseline"),
            arm("x", base, tokens=990, flops=0.9e9, pretraining_tokens=900, pretraining=before),
        )
    )
    found = standing(answer, "x")
    assert (found.cost.whole("tokens"), found.cost.whole("flops")) == (1890, 5.9e9)
    assert (found.cost.whole("seconds"), found.cost.whole("parameters_total")) == (9.0, 110)
    assert found.efficient == {
        "tokens": False,
        "flops": False,
        "seconds": False,
        "parameters_total": True,
    }
    assert found.comparison is not None
    assert list(map(str, found.comparison.unequal)) == [
        "tokens with pretraining: 1.89 times",
        "operations: 5.90 times",
    ]


def test_trials_that_are_still_to_come_have_cost_nothing():
    tuned = arm("x", {"a": [0.6, 0.7]}, trials=[0.1, 0.2])
    tuned = replace(tuned, trials=[*tuned.trials, Trial(index=2, ending="pending")])
    assert standing(analyse(results(tuned)), "x").cost.tuning_trials == 2


def test_each_family_of_pairs_has_its_own_tasks_alone():
    answer = analyse(
        results(
            pair("m", "a", a=[0.6, 0.6]),
            pair("m", "b", b=[0.6, 0.6]),
            pair("m", "a+b", a=[0.7, 0.7], b=[0.65, 0.65]),
            pair("h", "a", a=[0.1, 0.1]),
            pair("h", "b", b=[0.2, 0.2]),
            pair("h", "a+b", a=[0.15, 0.15], b=[0.15, 0.15]),
            over="pairs",
        )
    )
    found = {(t.family, t.helper, t.target): t.points.value for t in answer.transfers}
    assert found == pytest.approx(
        {("m", "b", "a"): 10, ("m", "a", "b"): 5, ("h", "b", "a"): 5, ("h", "a", "b"): -5}
    )
    assert answer.needed_seeds == needed_seeds(4)
    assert answer.sentence.endswith("(2 seeds). So few seeds cannot show any: 8 are needed.")


def test_a_pair_whose_task_alone_is_not_there():
    answer = analyse(
        results(
            pair("m", "a", a=[0.6, 0.6]), pair("m", "a+b", a=[0.7, 0.7], b=[0.7, 0.7]), over="pairs"
        )
    )
    assert [(t.helper, t.target) for t in answer.transfers] == [("b", "a")]


def test_conflict_that_is_not_defined_is_left_out():
    found = arm("x", {"a": [0.7, 0.7], "b": [0.6, 0.6]})
    measured = ({"conflict/a/b/cosine": None}, {"conflict/a/b/cosine": 0.5})
    runs = [replace(run, conflict=one) for run, one in zip(found.runs, measured, strict=True)]  # type: ignore[arg-type]
    (conflict,) = analyse(results(replace(found, runs=runs))).conflicts
    assert (conflict.first, conflict.second, conflict.value) == ("a", "b", 0.5)


def test_conflicts_are_means_over_runs_and_layers_are_left_out():
    found = arm("x", {"a": [0.7, 0.7], "b": [0.6, 0.6]})
    measured = [
        {"conflict/a/b/cosine": value, "conflict/a/same_task_cosine": 0.75, "conflict/a/b/layer0/cosine": 0.5}
        for value in (-0.25, 0.5)
    ]  # fmt: skip
    runs = [replace(run, conflict=one) for run, one in zip(found.runs, measured, strict=True)]
    conflicts = analyse(results(replace(found, runs=runs))).conflicts
    assert {(c.first, c.second, c.measure): c.value for c in conflicts} == {
        ("a", "b", "cosine"): 0.125,
        ("a", "a", "same_task_cosine"): 0.75,
    }


def test_the_expected_best_of_what_should_be_low():
    # Of the three pairs two have 1 as their lowest and one has 2.
    assert expected_best([3.0, 1.0, 2.0], falls=True) == [(1, 2.0), (2, 4 / 3), (3, 1.0)]
    found = results(arm("x", {"a": [0.6]}, trials=[3.0, 1.0, 2.0]))
    falling = replace(found, search=replace(found.search, directions=["minimize"]))
    assert analyse(falling).expected_best["x"][-1] == (3, 1.0)
    assert analyse(found).expected_best["x"][-1] == (3, 3.0)


def test_the_smallest_corrected_p_where_arms_have_different_seeds():
    """One arm with six seeds beside four with ten: alone at its smallest p it would need p times 5, but the others may
    all lie below it."""
    few = seeded(arm("few", {"a": [0.72, 0.73, 0.71, 0.74, 0.72, 0.73]}), range(6))
    random = np.random.default_rng(0)
    base = random.normal(0.7, 0.01, size=10)
    others = [arm(f"x{i}", {"a": (base + 0.05 + 0.01 * i).tolist()}) for i in range(4)]
    answer = analyse(results(baseline(a=base.tolist()), few, *others))
    found = on(answer, "average")
    assert found["few"].smallest_p_holm == pytest.approx(2 / 64)
    assert found["x0"].smallest_p_holm == pytest.approx(5 * 2 / 1024)
    assert found["few"].verdict == "better"
    assert found["few"].p_holm == pytest.approx(2 / 64)


def test_equal_seeds_cannot_show_anything_below_the_needed_number():
    """At the needed number a difference of one sign is a claim; with one seed less it cannot be."""
    for arms in (1, 3):
        needed = needed_seeds(arms)
        for seeds in (needed - 1, needed):
            base = np.random.default_rng(1).normal(0.7, 0.01, size=seeds)
            others = [arm(f"x{i}", {"a": (base + 0.1).tolist()}) for i in range(arms)]
            answer = analyse(results(baseline(a=base.tolist()), *others))
            claimed = {one.verdict == "better" for one in on(answer, "average").values()}
            assert claimed == {seeds == needed}
            assert ("So few seeds cannot show any" in answer.sentence) is (seeds < needed)
            assert answer.needed_seeds == needed


def test_sources_have_no_place():
    answer = analyse(
        results(baseline(a=[0.7]), arm("x", {"a": [0.8]}), arm("s", {"a": [0.9]}, role="source"))
    )
    assert "s" not in {one.arm for one in (*answer.standings, *answer.cells, *answer.comparisons)}


def test_the_improvements_bootstrap_is_that_of_all_pairs():
    """A slow count of the pairs of each resample, over the same draws."""
    random = np.random.default_rng(3)
    ours, theirs = random.integers(4, size=(4, 2)), random.integers(4, size=(3, 2))
    stream_ = stream("improvement", "x")
    shares = []
    for k in range(2):
        one, other = draws(4, RESAMPLES, stream_), draws(3, RESAMPLES, stream_)
        of_task = []
        for mine, his in zip(one.astype(int), other.astype(int), strict=True):
            a, b = np.repeat(ours[:, k], mine), np.repeat(theirs[:, k], his)
            of_task.append(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))
        shares.append(of_task)
    slow = np.mean(shares, axis=0)
    found = probability_interval(ours.astype(float), theirs.astype(float), "x")
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))


@settings(max_examples=40)
@given(st.lists(st.integers(-100, 100), min_size=2, max_size=6), st.floats(0.01, 50))
def test_an_interval_moves_and_stretches_with_its_values(values, factor):
    """The same runs in another unit have the same interval in that unit: ties are ties whatever the rounding."""
    found = mean_interval(values, "x")
    scaled = mean_interval([factor * value for value in values], "x")
    for a, b in zip(
        (found.value, found.low, found.high), (scaled.value, scaled.low, scaled.high), strict=True
    ):
        assert a is not None
        assert b is not None
        assert factor * a == pytest.approx(b, rel=1e-6, abs=1e-6)
    assert found.low is not None
    assert found.high is not None
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_the_same_results_give_the_same_answer_in_any_order_of_arms():
    random = np.random.default_rng(5)
    arms = [baseline(a=random.normal(0.7, 0.01, size=4).tolist())]
    arms += [arm(n, {"a": random.normal(0.7, 0.01, size=4).tolist()}) for n in ("x", "y")]
    wanted = analyse(results(*arms))
    for order in itertools.permutations(arms):
        found = analyse(results(*order))
        assert {(c.arm, c.task): asdict(c) for c in found.comparisons} == {
            (c.arm, c.task): asdict(c) for c in wanted.comparisons
        }
        assert [s.arm for s in found.standings] == [s.arm for s in wanted.standings]


def test_every_number_of_an_answer_is_finite():
    """A page is JSON and CSV too, where nan has no place."""
    found = results(
        baseline(a=[0.5, 0.5], b=[0.7, 0.7]),
        arm("x", {"a": [0.5, 0.5], "b": [0.7, 0.9]}),
        seeded(arm("y", {"a": [0.5], "b": [0.6]}), (7,)),
    )
    json.dumps(asdict(analyse(found)), allow_nan=False)
