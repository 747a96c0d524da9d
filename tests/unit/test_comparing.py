"""Known answers of every number a study's page shows."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricated import REFERENCE, arm, results

from mtl.comparing.aggregate import (
    efficient,
    expected_best,
    interquartile_interval,
    interquartile_mean,
    probability_interval,
    probability_of_improvement,
)
from mtl.comparing.analysis import analyse
from mtl.comparing.answer import Interval
from mtl.comparing.comparisons import verdict
from mtl.comparing.paired import (
    RESAMPLES,
    holm,
    mean_interval,
    needed_seeds,
    rounded_mean,
    sign_flip_p,
    smallest_p,
    stream,
)
from mtl.comparing.results import Results, SeedRun
from mtl.config.errors import UserError


def test_bca_is_scipys_on_the_named_stream():
    data = np.array([0.3, -0.1, 0.5, 0.2, 0.9, 0.4, 0.1])
    found = mean_interval(data.tolist(), "x")
    wanted = stats.bootstrap(
        (data,), rounded_mean, n_resamples=RESAMPLES, method="BCa", rng=stream("interval", "x")
    ).confidence_interval
    assert (found.value, found.low, found.high) == (data.mean(), wanted.low, wanted.high)
    assert mean_interval(data.tolist(), "x") == found
    # Of twelve runs that share no unit hardly any resample has the mean of the data.
    many = np.random.default_rng(1).normal(size=12)
    plain = stats.bootstrap(
        (many,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=stream("interval", "x")
    ).confidence_interval
    found = mean_interval(many.tolist(), "x")
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-3)
    assert mean_interval(many.tolist(), "y") != found


def test_intervals_that_cannot_be():
    assert mean_interval([0.5], "x") == Interval(value=0.5)
    assert mean_interval([0.5, 0.5, 0.5], "x") == Interval(value=0.5, low=0.5, high=0.5)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),
        (
            [1.0, 2.0, -0.5],
            4 / 8,
        ),  # |sums|: 3.5 2.5 1.5 0.5 ... of 8 ways 2 reach 3.5 and 2 reach 2.5
        ([0.0, 0.0, 0.0], 1.0),
        ([1.0] * 5, 2 / 32),
        ([1.0] * 10, 2 / 1024),
        ([1.0, -1.0], 1.0),
    ],
)
def test_the_exact_sign_flip_test_by_hand(differences, p):
    assert sign_flip_p(differences, "x") == p


@given(st.lists(st.floats(-1, 1).map(lambda v: round(v, 3)), min_size=2, max_size=9))
def test_the_sign_flip_test_is_scipys(differences):
    found = stats.permutation_test(
        (np.array(differences),),
        lambda x, axis: np.abs(np.sum(x, axis=axis)).round(9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater",
    )
    assert sign_flip_p(differences, "x") == pytest.approx(found.pvalue, abs=1e-12)


def test_more_pairs_than_can_be_tried_are_sampled():
    random = np.random.default_rng(0)
    data = random.normal(0.4, 1.0, size=20)
    p = sign_flip_p(data.tolist(), "x")
    assert p == sign_flip_p(data.tolist(), "x")
    exact = np.array(list(itertools.product([1.0, -1.0], repeat=14)))
    some = data[:14]
    share = float((np.abs(exact @ some) >= abs(some.sum()) - 1e-9).mean())
    sampled = sign_flip_p(some.tolist(), "x")
    assert sampled is not None
    # A binomial share of 9999: four standard errors.
    assert abs(sampled - share) < 4 * (share * (1 - share) / RESAMPLES) ** 0.5 + 1e-4
    assert sign_flip_p([1.0] * 20, "x") == smallest_p(20) == 1 / (RESAMPLES + 1)


def test_seeds_that_are_needed():
    """The tables of docs/statistics.md."""
    assert [smallest_p(n) for n in (1, 2, 5, 6, 8, 10)] == [
        None,
        0.5,
        0.0625,
        0.03125,
        0.0078125,
        0.001953125,
    ]
    assert [needed_seeds(k) for k in (1, 2, 4, 6, 7, 9, 18)] == [6, 7, 8, 8, 9, 9, 10]
    document = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    for comparisons in (1, 2, 4, 7, 18):
        assert f"| {comparisons} | {needed_seeds(comparisons)} |" in document
    for n in (3, 5, 6, 8, 9, 10):
        half_width = stats.t.ppf(0.975, n - 1) / n**0.5
        assert f"| {n} | {half_width:.2f} | {smallest_p(n):.4f} |" in document


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, 0.04
    assert holm([0.03, 0.01, None, 0.04, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    assert holm([None]) == [None]


def test_a_claim_needs_both():
    better = Interval(value=1.0, low=0.5, high=1.5)
    assert verdict(better, 0.01, 0.01, 10)[0] == "better"
    assert verdict(Interval(value=-1.0, low=-1.5, high=-0.5), 0.01, 0.01, 10)[0] == "worse"
    assert verdict(better, 0.06, 0.01, 10) == (
        "undecided",
        "the interval excludes 0, but the corrected p is 0.06",
    )
    assert verdict(Interval(value=1.0, low=-0.1, high=2.0), 0.01, 0.01, 10) == (
        "undecided",
        "the interval includes 0",
    )
    assert verdict(better, 0.4, 0.4, 5) == (
        "undecided",
        "5 seeds cannot show it: the smallest corrected p is 0.4",
    )
    assert verdict(Interval(value=1.0), None, None, 1) == (
        "undecided",
        "1 seed: neither an interval nor a test",
    )


def test_interquartile_mean_is_the_trimmed_mean():
    scores = np.random.default_rng(1).normal(size=(5, 6))
    assert interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))
    assert interquartile_mean(np.array([[0.0, 1.0, 2.0, 100.0]])) == 1.5
    found = interquartile_interval(scores, "x")
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_the_stratified_bootstrap_draws_runs_within_each_task():
    """A slow loop over the same draws."""
    scores = np.random.default_rng(2).normal(size=(4, 3))
    drawn = stream("iqm", "x").integers(4, size=(RESAMPLES, 4, 3))
    slow = [
        stats.trim_mean(
            np.array([[scores[d[i, k], k] for k in range(3)] for i in range(4)]).ravel(), 0.25
        )
        for d in drawn
    ]
    found = interquartile_interval(scores, "x")
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))


def test_probability_of_improvement_by_hand():
    ours = np.array([[1.0, 0.0], [2.0, 0.0]])
    theirs = np.array([[0.0, 0.0], [1.0, 1.0]])
    # task 1: 1>0, 1=1, 2>0, 2>1 -> 3.5/4; task 2: 0=0, 0<1, twice -> 1/4
    assert probability_of_improvement(ours, theirs) == (3.5 / 4 + 1 / 4) / 2
    assert probability_of_improvement(ours, ours) == 0.5
    first = stats.mannwhitneyu(ours[:, 0], theirs[:, 0]).statistic / 4
    assert first == 3.5 / 4
    found = probability_interval(ours, theirs, "x")
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7))
def test_expected_best_is_the_mean_over_all_choices(values):
    for n, expected in expected_best(values):
        every = [max(chosen) for chosen in itertools.combinations(values, n)]
        assert expected == pytest.approx(sum(every) / len(every), abs=1e-9)
    assert expected_best(values)[-1][1] == pytest.approx(max(values))


def test_the_front_by_hand():
    points = [(1.0, 0.5), (2.0, 0.5), (2.0, 0.7), (3.0, 0.6), (1.0, 0.4), (3.0, 0.7)]
    assert efficient(points) == [True, False, True, False, False, False]


def test_a_run_against_itself():
    scores = {"a": [0.6, 0.7, 0.8], "b": [0.5, 0.9, 0.55]}
    answer = analyse(results(arm(REFERENCE, scores, role="baseline"), arm("x", scores)))
    for one in answer.comparisons:
        assert one.points == Interval(value=0.0, low=0.0, high=0.0)
        assert (one.p, one.p_holm, one.verdict, one.effect) == (1.0, 1.0, "undecided", 0.0)
        assert one.relative in (0.0, None)
        assert one.unequal == []
    standing = next(s for s in answer.standings if s.arm == "x")
    assert standing.probability_of_improvement is not None
    assert standing.probability_of_improvement.value < 1  # runs of one arm beat each other


def test_differences_are_paired_and_in_points():
    base = {"a": [0.60, 0.70, 0.80]}
    answer = analyse(
        results(arm(REFERENCE, base, role="baseline"), arm("x", {"a": [0.65, 0.72, 0.86]}))
    )
    one = next(c for c in answer.comparisons if c.task == "a")
    assert one.by_seed == pytest.approx({0: 5.0, 1: 2.0, 2: 6.0})
    assert one.points.value == pytest.approx(13 / 3)
    assert one.normalised is not None
    assert one.normalised.value == pytest.approx(2 * 13 / 3)  # chance is 0.5
    assert one.relative == pytest.approx(100 * (0.05 / 0.6 + 0.02 / 0.7 + 0.06 / 0.8) / 3)
    assert one.effect == pytest.approx(13 / 3 / 10)  # their standard deviation is 10 points
    assert (one.p, one.smallest_p) == (0.25, 0.25)
    average = next(c for c in answer.comparisons if c.task == "average")
    assert average.points.value == pytest.approx(2 * 13 / 3)


def test_no_relative_change_of_what_is_at_chance():
    base = {"a": [0.51, 0.52, 0.50], "b": [0.7, 0.7, 0.7]}
    better = {"a": [0.60, 0.61, 0.62], "b": [0.77, 0.77, 0.77]}
    answer = analyse(results(arm(REFERENCE, base, role="baseline"), arm("x", better)))
    found = {c.task: (c.relative, c.relative_why) for c in answer.comparisons}
    assert found["a"] == (
        None,
        "the reference is at chance, and any change of it is large relative to nothing",
    )
    assert found["b"] == (pytest.approx(10.0), None)


def test_where_lower_is_better_less_is_more():
    base, less = {"text": [2.0, 2.2]}, {"text": [1.9, 2.0]}
    found = results(
        arm(REFERENCE, base, role="baseline", lower=["text"]),
        arm("x", less, lower=["text"]),
        primary="text/bits_per_byte",
        direction="minimize",
    )
    answer = analyse(found)
    one = next(c for c in answer.comparisons if c.task == "text")
    assert one.by_seed == pytest.approx({0: 10.0, 1: 20.0})
    assert one.normalised is not None
    assert one.normalised.value == pytest.approx(15 / 8)
    assert [s.arm for s in answer.standings] == ["x", REFERENCE]
    assert answer.standings[0].average.value == pytest.approx(1.95)


def test_unequal_budgets_are_said():
    base = {"a": [0.6, 0.7]}
    answer = analyse(
        results(
            arm(REFERENCE, base, role="baseline"),
            arm("near", base, tokens=1015),
            arm("more", base, tokens=2000, pretraining_tokens=1000),
        )
    )
    found = {c.arm: [*map(str, c.unequal)] for c in answer.comparisons if c.task == "average"}
    assert found["near"] == []
    assert found["more"] == ["tokens: 2.00 times", "tokens with pretraining: 3.00 times"]
    assert any(note.startswith("more against single_task_same_exposure") for note in answer.notes)


def test_zero_shot_stands_apart():
    base = {"a": [0.6, 0.7]}
    answer = analyse(
        results(
            arm(REFERENCE, base, role="baseline"),
            arm("x", base),
            arm("lm", {"a": [0.99, 0.99]}, panel="zero-shot"),
        )
    )
    assert [s.arm for s in answer.standings][-1] == "lm"
    assert "lm" not in {c.arm for c in answer.comparisons}
    assert answer.standings[0].efficient["tokens"]
    assert "lm: trained on no label, and so in no comparison" in answer.notes


def test_axes_are_compared_level_by_level():
    arms = [
        arm(f"{family}/{level}", {"a": scores}, family=family, factors={"size": level}, role=role)
        for family, role, by_level in (
            ("base", "baseline", {"s": [0.6, 0.6], "l": [0.7, 0.7]}),
            ("x", "arm", {"s": [0.65, 0.66], "l": [0.71, 0.72]}),
        )
        for level, scores in by_level.items()
    ]
    answer = analyse(results(*arms, reference="base", axes={"size": ["s", "l"]}))
    found = {(c.arm, c.reference): c.points.value for c in answer.comparisons if c.task == "a"}
    assert found == pytest.approx({("x/s", "base/s"): 5.5, ("x/l", "base/l"): 1.5})


def test_who_helps_whom():
    def one(tasks: str, **scores: list[float]):
        return arm(f"m/{tasks}", scores, family="m", factors={"pairs": tasks})

    answer = analyse(
        results(
            one("a", a=[0.6, 0.6]),
            one("b", b=[0.7, 0.8]),
            one("a+b", a=[0.65, 0.63], b=[0.6, 0.7]),
            over="pairs",
        )
    )
    found = {(t.helper, t.target): t.points.value for t in answer.transfers}
    assert found == pytest.approx({("b", "a"): 4.0, ("a", "b"): -10.0})
    assert answer.sentence.startswith("On 2 tasks, no task is shown to help or harm another")


def test_a_study_that_is_half_done():
    half = arm("x", {"a": [0.6, 0.7]})
    pending = [SeedRun(seed=s, ending="pending") for s in (2, 3)]
    broken = replace(
        arm("y", {"a": [0.6]}), runs=[SeedRun(seed=0, ending="diverged", reason="NaN")]
    )
    answer = analyse(results(replace(half, runs=[*half.runs, *pending]), broken))
    assert [s.arm for s in answer.standings] == ["x"]
    assert answer.notes[0] == "the study is not over: 2 of 5 runs are still to come"
    assert "y: 1 of 1 runs did not finish (diverged: NaN)" in answer.notes
    assert "no run of y has finished" in answer.notes
    assert analyse(results(broken)).sentence == "No run has finished yet."


def test_results_come_back_from_their_file(tmp_path):
    found = results(arm("x", {"a": [0.6, 0.7]}, trials=[0.1, 0.2]), axes={"n": ["1"]})
    found.write(tmp_path)
    assert Results.read(tmp_path) == found
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="not the results of a study"):
        Results.read(tmp_path)
