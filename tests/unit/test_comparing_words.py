"""What an answer says in words: its sentence, and what a reader must know beside it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricated import REFERENCE, arm, baseline, on, pair, results

from mtl.comparing.analysis import analyse
from mtl.comparing.cautions import notes
from mtl.comparing.results import Arm, Trial


def test_unequal_steps_and_tasks_are_said():
    base = {"a": [0.6, 0.7]}
    answer = analyse(
        results(
            arm(REFERENCE, base, role="baseline"),
            arm("x", {**base, "b": [0.6, 0.7]}, steps=20),
        )
    )
    assert list(map(str, on(answer, "a")["x"].unequal)) == [
        "steps: 2.00 times",
        "parameters: 1.09 times",
        "tasks: it alone trains on b",
    ]


def test_different_precisions_are_said():
    base = {"a": [0.6, 0.7]}
    for precision, said in (("bf16", True), ("32", False)):
        found = results(
            arm(REFERENCE, base, role="baseline", precision="32"),
            arm("x", base, precision=precision),
        )
        note = f"runs were trained in different precisions: 32 of {REFERENCE}; bf16 of x"
        assert (note in notes(found, analyse(found))) is said


def test_the_tolerance_of_budgets():
    base = {"a": [0.6, 0.7]}
    for tokens, said in ((1020, False), (1021, True), (981, False), (979, True)):
        answer = analyse(
            results(arm(REFERENCE, base, role="baseline"), arm("x", base, tokens=tokens))
        )
        # Of the larger of the two: 1021 / 1000 is 2.06 % of 1021 too much, 1020 / 1000 is 1.96 %.
        assert bool(on(answer, "a")["x"].unequal) is said


def test_the_sentence_says_how_sure_it_is():
    base = np.random.default_rng(1).normal(0.7, 0.01, size=10)
    own = base + np.random.default_rng(2).normal(0.05, 0.01, size=10)
    found = results(
        baseline(a=base.tolist()), arm("x", {"a": own.tolist()}), arm("y", {"a": base.tolist()})
    )
    answer = analyse(found)
    points = on(answer, "average")["x"].points
    assert answer.sentence == (
        f"On 1 task, ahead of each task alone on the same rows: x by {points.value:.1f} points "
        f"[{points.low:.1f}, {points.high:.1f}], p = 0.00391 after Holm; 1 of 2 cannot be told from it (10 seeds)."
    )
    more = results(baseline(a=base.tolist()), arm("x", {"a": own.tolist()}, tokens=2000))
    assert "after Holm, but tokens: 2.00 times (10 seeds)." in analyse(more).sentence


def test_the_sentence_counts_the_tasks_of_the_arms():
    tasks = {name: [0.7, 0.8] for name in "abc"}
    one, three = arm("x", {"a": [0.7, 0.8]}), arm("y", tasks)
    source = arm("z", {"b": [0.7, 0.8]}, role="source")
    for arms, start in (
        ((one, three), "On 1 to 3 tasks, "),
        ((one, one), "On 1 task, "),
        ((three, source), "On 3 tasks, "),
    ):
        assert analyse(results(*arms)).sentence.startswith(start)


def along(scores):
    """Arms x and y at each of two places."""
    return results(
        *(
            arm(
                f"{family}/{level}",
                {"a": [value, value + 0.01]},
                family=family,
                factors={"rows": level},
                tokens=tokens,
            )
            for (family, level), (value, tokens) in scores.items()
        ),
        axes={"rows": ["few", "many"]},
        reference="y",
    )


def test_arms_along_axes_are_ranked_at_their_place():
    found = along(
        {
            ("x", "many"): (0.9, 1000),
            ("y", "many"): (0.8, 1000),
            ("x", "few"): (0.5, 1000),
            ("y", "few"): (0.6, 1000),
        }
    )
    answer = analyse(found)
    assert [one.arm for one in answer.standings] == ["y/few", "x/few", "x/many", "y/many"]
    assert [one.place for one in answer.standings] == [("few",), ("few",), ("many",), ("many",)]
    alone = analyse(replace(found, reference=None))
    assert "x/many has the best average" in alone.sentence


@pytest.mark.parametrize(
    ("few", "times"),
    [
        (2000, "2.00 to 3.00 times"),
        (1000, "3.00 times at 1"),
        (0, "0 against 1,000, 3.00 times"),
        (10_000, "3.00 to 10.00 times"),
    ],
)
def test_what_is_unequal_along_axes_is_said_once(few, times):
    tokens = {("x", "few"): few, ("x", "many"): 3000, ("y", "few"): 1000, ("y", "many"): 1000}
    notes = analyse(along({place: (0.5, count) for place, count in tokens.items()})).notes
    said = [note for note in notes if "not equal" in note]
    assert said == [
        f"x against y, at 2 places, is not equal in tokens: {times}; tokens with pretraining: {times}"
    ]


def test_one_seed_shows_nothing():
    answer = analyse(results(baseline(a=[0.7]), arm("x", {"a": [0.8]})))
    one = on(answer, "average")["x"]
    assert (one.p, one.points.low, one.verdict) == (None, None, "undecided")
    assert answer.sentence == (
        "On 1 task, none of 1 is shown to differ from each task alone on the same rows; the largest difference is that "
        "of x, +20.0 points (1 seed). So few seeds cannot show any: 6 are needed."
    )


def test_a_target_that_was_read_less_beside_a_helper():
    def half(name: str) -> Arm:
        found = pair("m", name, a=[0.7, 0.7], b=[0.7, 0.7])
        for run in found.runs:
            assert run.summary is not None
            for one in run.summary["mixture"].values():
                one["tokens"] = 250
        return found

    alone = [pair("m", "a", a=[0.6, 0.6]), pair("m", "b", b=[0.6, 0.6])]
    answer = analyse(results(*alone, half("a+b"), over="pairs"))
    assert any(
        "0.50 to 0.50 times the tokens of its own that it had alone" in n for n in answer.notes
    )
    equal = analyse(results(*alone, pair("m", "a+b", a=[0.7, 0.7], b=[0.7, 0.7]), over="pairs"))
    assert not any("beside a helper" in note for note in equal.notes)


@pytest.mark.parametrize(("reached", "trials"), [(0.3, 3), (None, 2)])
def test_trials_that_were_stopped_early_and_the_expected_best(reached, trials):
    tuned = arm("x", {"a": [0.6]}, trials=[0.1, 0.2])
    stopped = Trial(index=2, ending="pruned", tokens=10, reached=reached)
    failed = Trial(index=3, ending="diverged")
    answer = analyse(results(replace(tuned, trials=[*tuned.trials, stopped, failed])))
    best = answer.expected_best["x"]
    assert len(best) == trials
    # All of the trials have the highest of them.
    assert best[-1][1] == pytest.approx(reached or 0.2)
    said = [note for note in answer.notes if note.startswith("x: trials that were stopped early")]
    assert len(said) == 1
    assert ("too high" in said[0]) is (reached is None)
