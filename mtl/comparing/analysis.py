"""From the results of a study to its answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mtl.comparing.aggregate import (
    efficient,
    expected_best,
    interquartile_interval,
    probability_interval,
)
from mtl.comparing.answer import Answer, Cell, Comparison, Conflict, Cost, Interval, Standing
from mtl.comparing.cautions import notes
from mtl.comparing.comparisons import comparisons, transfers
from mtl.comparing.costs import cost, exposures
from mtl.comparing.paired import LEVEL, mean_interval, needed_seeds, smallest_p
from mtl.comparing.results import Arm, Results
from mtl.comparing.scores import (
    AVERAGE,
    by_seed,
    own_by_seed,
    panel,
    primary,
    reference_of,
    scale,
    summaries,
    tasks_of,
)
from mtl.comparing.wording import sentence

COSTS = ("tokens", "flops", "seconds", "parameters_total")


def analyse(results: Results) -> Answer:
    """Everything that a page about the study says. A study that is still running is analysed as far as it is."""
    arms = [arm for arm in results.arms if arm.role != "source" and summaries(arm)]
    pairs = [
        (arm, other)
        for arm in arms
        if (other := reference_of(results, arm)) is not None
        and other in arms
        and panel(arm) == panel(other)
    ]
    compared = comparisons(results, pairs)
    standings = _standings(results, arms, compared)
    moved = transfers(results)
    tests = len(moved) or sum(
        results.arm(one.arm).role == "arm" for one in compared if one.task == _head(results)
    )
    counts = [one.seeds for one in moved] + [len(one.seeds) for one in compared]
    answer = Answer(
        sentence="",
        standings=standings,
        cells=[cell for arm in arms for cell in _cells(results, arm)],
        comparisons=compared,
        transfers=moved,
        conflicts=[found for arm in arms for found in _conflicts(arm)],
        exposures=[found for arm in arms for found in exposures(arm)],
        expected_best={
            arm.name: expected_best(values, falls=results.search.directions[0] == "minimize")
            for arm in results.arms
            if (values := _trial_values(arm))
        },
        level=LEVEL,
        smallest_p=smallest_p(max(counts, default=0)),
        needed_seeds=needed_seeds(tests) if tests else None,
        notes=[],
    )
    found_notes = notes(results, answer)
    return Answer(**{**vars(answer), "sentence": sentence(results, answer), "notes": found_notes})


def _trial_values(arm: Arm) -> list[float]:
    """What each trial of the search came to; one that was stopped, by then."""
    found = []
    for trial in arm.trials:
        value = trial.values[0] if trial.ending == "finished" and trial.values else trial.reached
        found += [] if value is None else [value]
    return found


def _head(results: Results) -> str:
    return AVERAGE if results.primary == AVERAGE else results.primary.rpartition("/")[0]


def _cells(results: Results, arm: Arm) -> Iterator[Cell]:
    for task in [AVERAGE, *tasks_of(arm)]:
        scores = by_seed(arm, task)
        if not scores:
            continue
        own = own_by_seed(arm, task)
        on = scale(arm, task)
        name = f"{arm.name} {task}"
        yield Cell(
            arm=arm.name,
            task=task,
            metric=on.metric,
            chance=on.chance,
            lower_is_better=on.lower_is_better,
            by_seed=scores,
            mean=mean_interval(list(scores.values()), name),
            deviation=float(np.std(list(scores.values()), ddof=1)) if len(scores) > 1 else None,
            own_checkpoint=mean_interval(list(own.values()), f"{name} own") if own else None,
        )


def _standings(results: Results, arms: list[Arm], compared: list[Comparison]) -> list[Standing]:
    costs = {arm.name: cost(results, arm) for arm in arms}
    scores = {arm.name: _primary_scores(results, arm) for arm in arms}
    higher = {name: _better(results, arm, scores[name]) for name, arm in _named(arms)}
    on_front = _fronts(arms, costs, higher)
    head = _head(results)
    found = []
    for name, arm in _named(arms):
        if not scores[name]:
            continue
        task, metric = primary(results, arm)
        own = own_by_seed(arm, task) if metric in (None, scale(arm, task).metric) else {}
        reference = reference_of(results, arm)
        found.append(
            Standing(
                arm=name,
                role=arm.role,
                panel=panel(arm),
                place=tuple(arm.factors.get(axis, "") for axis in results.axes),
                seeds=len(summaries(arm)),
                average=mean_interval(list(scores[name].values()), f"{name} primary"),
                own_checkpoint=(
                    mean_interval(list(own.values()), f"{name} primary own") if own else None
                ),
                interquartile_mean=_interquartile(arm),
                probability_of_improvement=(
                    _improvement(arm, reference)
                    if reference is not None and panel(arm) == panel(reference)
                    else None
                ),
                cost=costs[name],
                comparison=next((c for c in compared if (c.arm, c.task) == (name, head)), None),
                efficient=on_front[name],
            )
        )
    order = {"supervised": 0, "zero-shot": 1}

    def place(one: Standing) -> list[int]:
        along = zip(results.axes.values(), one.place, strict=True)
        return [levels.index(level) if level in levels else -1 for levels, level in along]

    return sorted(found, key=lambda one: (order[one.panel], place(one), -higher[one.arm]))


def _named(arms: list[Arm]) -> Iterator[tuple[str, Arm]]:
    return ((arm.name, arm) for arm in arms)


def _primary_scores(results: Results, arm: Arm) -> dict[int, float]:
    task, metric = primary(results, arm)
    return by_seed(arm, task, metric)


def _better(results: Results, arm: Arm, scores: dict[int, float]) -> float:
    """The mean, signed so that more is better; below all others where there is none."""
    if not scores:
        return float("-inf")
    task, metric = primary(results, arm)
    return scale(arm, task, metric).signed(sum(scores.values()) / len(scores))


def _fronts(
    arms: list[Arm], costs: dict[str, Cost], higher: dict[str, float]
) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {arm.name: {} for arm in arms}
    groups: dict[tuple[str, frozenset[str]], list[str]] = {}
    for arm in arms:
        groups.setdefault((panel(arm), frozenset(tasks_of(arm))), []).append(arm.name)
    for names in groups.values():
        for name in COSTS:
            flags = efficient([(costs[arm].whole(name), higher[arm]) for arm in names])
            for one, flag in zip(names, flags, strict=True):
                found[one][name] = flag
    return found


def _matrix(arm: Arm, tasks: list[str]) -> np.ndarray | None:
    """(N, K) normalised scores of the runs that have all of the tasks."""
    rows = []
    for seed in summaries(arm):
        row = []
        for task in tasks:
            value = by_seed(arm, task).get(seed)
            row.append(None if value is None else scale(arm, task).normalised(value))
        if None not in row:
            rows.append(row)
    return np.array(rows, dtype=np.float64) if rows and tasks else None


def _interquartile(arm: Arm) -> Interval | None:
    scores = _matrix(arm, tasks_of(arm))
    return None if scores is None else interquartile_interval(scores, arm.name)


def _improvement(arm: Arm, reference: Arm) -> Interval | None:
    shared = [task for task in tasks_of(arm) if task in tasks_of(reference)]
    ours, theirs = _matrix(arm, shared), _matrix(reference, shared)
    if ours is None or theirs is None:
        return None
    return probability_interval(ours, theirs, f"{arm.name} {reference.name}")


def _conflicts(arm: Arm) -> Iterator[Conflict]:
    """Mean over runs of each measure between two tasks, and of a task with itself."""
    values: dict[tuple[str, str, str], list[float]] = {}
    tasks = set(tasks_of(arm))
    for run in arm.runs:
        for name, value in run.conflict.items():
            _, *parts = name.split("/")
            if value is None or not math.isfinite(value):
                continue  # not defined there, and null in the file
            if len(parts) == 3 and {parts[0], parts[1]} <= tasks:
                values.setdefault((parts[0], parts[1], parts[2]), []).append(value)
            elif len(parts) == 2 and parts[0] in tasks:
                values.setdefault((parts[0], parts[0], parts[1]), []).append(value)
    for (first, second, measure), found in values.items():
        yield Conflict(
            arm=arm.name,
            first=first,
            second=second,
            measure=measure,
            value=sum(found) / len(found),
        )
