"""An arm against its reference, task by task, and who helps whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from mtl.comparing.answer import Comparison, Interval, Transfer, Verdict
from mtl.comparing.costs import cost, exposures, unequal
from mtl.comparing.paired import LEVEL, holm, mean_interval, sign_flip_p, smallest_p
from mtl.comparing.results import Arm, Results
from mtl.comparing.scores import AVERAGE, Scale, by_seed, primary, same_tasks, scale, tasks_of

NEAR_CHANCE = 0.05
"""A run of the reference whose normalised score is below this has learnt nothing that a change could be measured
against."""
SAME = 1e-12
"""Scores that differ by less than this, relative to their size, are the same."""
Tested = TypeVar("Tested", Comparison, Transfer)


def comparisons(results: Results, pairs: Sequence[tuple[Arm, Arm]]) -> list[Comparison]:
    """Every arm against its reference: on each task, on the average, and on the study's own measure where that is
    another metric.

    Holm's correction goes over all arms, once over the averages (or the study's own measure) and once over all tasks.
    The other forms of the baseline are a family of their own: they answer another question. Where two arms have no
    finished seed in common nothing is compared, and their averages are not where these are over other tasks.
    """
    found: list[Comparison] = []
    for role in ("arm", "baseline"):
        heads: list[Comparison] = []
        tasks: list[Comparison] = []
        for arm, reference in pairs:
            if arm.role == role:
                measure = primary(results, arm)
                heads += _compared(results, arm, reference, *measure)
                tasks += _of_tasks(results, arm, reference, measure)
        found += [*_decided(heads), *_decided(tasks)]
    return found


def _of_tasks(
    results: Results, arm: Arm, reference: Arm, measure: tuple[str, str | None]
) -> list[Comparison]:
    """On every task that both have, and on the average where that is not the study's own measure."""
    shared = [task for task in tasks_of(arm) if task in tasks_of(reference)]
    left = [t for t in shared if measure not in ((t, None), (t, scale(arm, t).metric))]
    if measure[0] != AVERAGE:
        left.append(AVERAGE)
    return [one for task in left for one in _compared(results, arm, reference, task, None)]


def transfers(results: Results) -> list[Transfer]:
    """Of a study over pairs: each target task beside each helper, against the target alone in the same family and
    under the same seeds. Holm's correction goes over all of them."""
    if results.over != "pairs":
        return []
    alone = {_pair(arm): arm for arm in results.arms if _together(arm) == 1}
    found = []
    for arm in results.arms:
        if _together(arm) != 2:
            continue
        one, other = arm.factors["pairs"].split("+")
        for helper, target in ((one, other), (other, one)):
            single = alone.get(_pair(arm, target))
            differences = {} if single is None else _differences(arm, single, target, None)
            if not differences:
                continue
            name = f"{arm.name} {helper} to {target}"
            found.append(
                Transfer(
                    family=arm.family,
                    helper=helper,
                    target=target,
                    points=mean_interval(list(differences.values()), name),
                    p=sign_flip_p(list(differences.values()), name),
                    p_holm=None,
                    verdict="undecided",
                    seeds=len(differences),
                )
            )
    return _decided(found)


def verdict(
    points: Interval, p_holm: float | None, lowest: float | None, seeds: int
) -> tuple[Verdict, str]:
    """The claim that both an interval and a test support, and why there is none.

    :param lowest: The smallest p that so many seeds can give, after the correction.
    """
    if points.low is None or points.high is None or p_holm is None:
        return "undecided", f"{seeds} seed{'s' * (seeds != 1)}: neither an interval nor a test"
    outside = points.low > 0 or points.high < 0
    if outside and p_holm <= LEVEL:
        better = points.value > 0
        return ("better" if better else "worse"), "interval and test agree"
    if lowest is not None and lowest > LEVEL:
        why = f"{seeds} seeds cannot show it: the smallest corrected p is {lowest:.3g}"
        return "undecided", why if outside else f"the interval includes 0, and {why}"
    if outside:
        return "undecided", f"the interval excludes 0, but the corrected p is {p_holm:.3g}"
    return "undecided", "the interval includes 0"


def _together(arm: Arm) -> int:
    """How many tasks an arm over pairs was trained on; 0 where it is not over them."""
    return arm.factors["pairs"].count("+") + 1 if "pairs" in arm.factors else 0


def _pair(arm: Arm, task: str | None = None) -> tuple[str, ...]:
    """An arm over pairs, or the one of the same family that has another task instead."""
    factors = {**arm.factors, **({} if task is None else {"pairs": task})}
    return arm.family, *(f"{axis}={level}" for axis, level in sorted(factors.items()))


def _compared(
    results: Results, arm: Arm, reference: Arm, task: str, metric: str | None
) -> list[Comparison]:
    """The comparison on a task or the average; none where nothing can be subtracted."""
    differences = _differences(arm, reference, task, metric)
    if not differences or (task == AVERAGE and not same_tasks(arm, reference)):
        return []
    values = list(differences.values())
    name = f"{arm.name} {reference.name} {task} {metric}"
    points = mean_interval(values, name)
    on = scale(reference, task, metric)
    ours, every = by_seed(arm, task, metric), by_seed(reference, task, metric)
    theirs = [every[seed] for seed in differences]
    relative, why = _relative([ours[seed] for seed in differences], theirs, on)
    found = Comparison(
        arm=arm.name,
        reference=reference.name,
        task=task,
        seeds=list(differences),
        by_seed=differences,
        points=points,
        normalised=_normalised(points, on),
        relative=relative,
        relative_why=why,
        p=sign_flip_p(values, name),
        p_holm=None,
        smallest_p=smallest_p(len(values)),
        effect=_effect(points.value, theirs),
        verdict="undecided",
        verdict_why="",
        unequal=unequal(
            cost(results, arm), cost(results, reference), exposures(arm), exposures(reference)
        ),
    )
    return [found]


def _differences(arm: Arm, other: Arm, task: str, metric: str | None) -> dict[int, float]:
    """Points by seed, for the seeds that both finished; more is better."""
    ours, theirs = by_seed(arm, task, metric), by_seed(other, task, metric)
    if not ours or not theirs:
        return {}
    on = scale(arm, task, metric)
    return {
        seed: 100 * (on.signed(ours[seed]) - on.signed(theirs[seed]))
        for seed in sorted(ours)
        if seed in theirs
    }


def _normalised(points: Interval, on: Scale) -> Interval | None:
    if on.chance is None or on.chance == on.perfect:
        return None
    length = abs(on.perfect - on.chance)

    def scaled(value: float | None) -> float | None:
        return None if value is None else value / length

    return Interval(value=points.value / length, low=scaled(points.low), high=scaled(points.high))


def _effect(points: float, theirs: list[float]) -> float | None:
    """A difference in standard deviations of the reference's scores; None where these do not differ, but for the
    rounding of their mean."""
    if len(theirs) < 2 or np.ptp(theirs) <= SAME * max(map(abs, theirs)):
        return None
    return points / (100 * float(np.std(theirs, ddof=1)))


def _relative(ours: list[float], theirs: list[float], on: Scale) -> tuple[float | None, str | None]:
    """Mean relative change in percent, each run against the reference's of the same seed."""
    above_chance = [on.normalised(value) for value in theirs]
    if any(value is not None and value < NEAR_CHANCE for value in above_chance):
        return None, "the reference is at chance, and any change of it is large relative to nothing"
    if any(value == 0 for value in theirs):
        return None, "the reference is 0"
    changes = [
        on.signed(mine - value) / abs(value) for mine, value in zip(ours, theirs, strict=True)
    ]
    return 100 * sum(changes) / len(changes), None


def _decided(found: list[Tested]) -> list[Tested]:
    """The same with corrected p and verdicts; those without a p take no part.

    The smallest corrected p that a comparison could have had is what Holm's correction leaves where all of them have
    the smallest p of their seeds: no corrected p grows as another p falls.
    """
    corrected = holm([one.p for one in found])
    counts = [one.seeds if isinstance(one, Transfer) else len(one.seeds) for one in found]
    floors = holm([smallest_p(count) for count in counts])
    decided = []
    for one, p_holm, lowest, count in zip(found, corrected, floors, counts, strict=True):
        claim, why = verdict(one.points, p_holm, lowest, count)
        changes: dict[str, Any] = {"p_holm": p_holm, "verdict": claim}
        if isinstance(one, Comparison):
            changes |= {"verdict_why": why, "smallest_p_holm": lowest}
        decided.append(replace(one, **changes))
    return decided
