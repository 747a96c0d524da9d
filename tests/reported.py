"""A study's results and its answer made from numbers, for the tests of its page: nothing is trained or analysed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl.comparing.answer import (
    Answer,
    Cell,
    Comparison,
    Conflict,
    Cost,
    Exposure,
    Interval,
    Standing,
    Transfer,
)
from mtl.comparing.results import Arm, Results, Search, SeedRun, Trial

ZERO_SHOT = "text alone"


def interval(values: Sequence[float], half: float) -> Interval:
    mean = float(np.mean(values))
    return (
        Interval(value=mean, low=mean - half, high=mean + half)
        if len(values) > 2
        else Interval(value=mean)
    )


def arm_names(count: int) -> list[str]:
    names = ["alone", "together", "<b>mixed & tried_50%</b>", "an arm with a name of thirty ch"]
    return (names + [f"arm_{index}/with=long_name_{index}" for index in range(4, count)])[:count]


def make_results(
    arms: int = 4,
    tasks: int = 3,
    seeds: int = 5,
    *,
    trials: int = 0,
    curves: bool = True,
    zero_shot: bool = False,
) -> Results:
    """Results of ``arms`` arms, the first of them the reference, over ``tasks`` tasks."""
    random = np.random.default_rng(0)
    names = arm_names(arms) + ([ZERO_SHOT] if zero_shot else [])
    task_names = [
        f"task_{index}" if index % 3 else f"microworld_question_answering_{index}"
        for index in range(tasks)
    ]
    made = []
    for index, name in enumerate(names):
        runs = []
        for seed in range(seeds):
            tokens = [1000 * (step + 1) + seed for step in range(12)]
            rise = {
                f"{prefix}{measure}": [
                    (t, float(start + sign * (0.02 * index + 0.04 * step) + random.normal(0, 0.02)))
                    for step, t in enumerate(tokens)
                ]
                for prefix in ("", *(f"{task}/" for task in task_names))
                for measure, start, sign in (
                    (("selection_average", 0.1, 1),)
                    if not prefix
                    else (("selection_accuracy", 0.3, 1), ("loss", 2.0, -1))
                )
            }
            runs.append(
                SeedRun(
                    seed=seed,
                    ending="finished",
                    run=f"runs/{index}-seed {seed}",
                    summary={
                        "average": {"value": 0.5 + 0.01 * index + 0.001 * seed},
                        "ledger": {"tokens": 2_000_000, "seconds": 61.5},
                    },
                    curves=rise if curves else {},
                )
            )
        searched = [
            Trial(
                index=n,
                ending="pruned" if n == 1 else "finished",
                parameters={"optimizer.lr": 0.001 * (n + 1)},
                values=[] if n == 1 else [0.4 + 0.01 * n],
                tokens=500_000,
                seconds=12.0,
                reason="promised little" if n == 1 else None,
                run=f"trials/{index}-{n}",
            )
            for n in range(trials)
        ]
        made.append(
            Arm(
                name=name,
                role="baseline" if index == 0 else "arm",
                settings=[f"strategy=s{index}"],
                family=name,
                chosen={"optimizer.lr": 0.001} if trials else {},
                trials=searched,
                runs=runs,
            )
        )
    return Results(
        name="made",
        question="Does learning <together> help?",
        primary="average",
        direction="maximize",
        reference=names[0],
        tasks=task_names,
        seeds=list(range(seeds)),
        settings=["decoder=micro"],
        command="python -m mtl.study study=made",
        search=Search(
            trials=trials,
            sampler="tpe",
            pruner="median",
            objectives=["average"],
            directions=["maximize"],
            space={"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}} if trials else {},
        ),
        arms=made,
        commit="0123456789abcdef",
        dirty=False,
        versions={"mtl": "1.0", "torch": "2.11"},
        started="2026-01-01T00:00:00+00:00",
        updated="2026-01-01T01:00:00+00:00",
    )


def make_answer(results: Results, *, whole: bool = False) -> Answer:
    """An answer whose numbers follow from the arms' positions.

    :param whole: With transfers, conflicts and exposures too.
    """
    supervised = [arm.name for arm in results.arms if arm.name != ZERO_SHOT]
    cells, comparisons = [], []
    for index, arm in enumerate(results.arms):
        for place, task in enumerate([*results.tasks, "average"]):
            by_seed = {
                seed: 0.5 + 0.01 * index + 0.02 * place + 0.001 * seed for seed in results.seeds
            }
            cells.append(
                Cell(
                    arm=arm.name,
                    task=task,
                    metric="accuracy",
                    chance=None if place == 1 else 0.5,
                    lower_is_better=False,
                    by_seed=by_seed,
                    mean=interval(list(by_seed.values()), 0.004),
                    deviation=0.0015 if len(by_seed) > 1 else None,
                )
            )
            if arm.name == results.reference:
                continue
            points = {seed: 1.0 * index - place + 0.1 * seed for seed in results.seeds}
            mean = float(np.mean(list(points.values())))
            decided = len(points) > 2 and abs(mean) > 1
            verdict = "undecided" if not decided else "better" if mean > 0 else "worse"
            comparisons.append(
                Comparison(
                    arm=arm.name,
                    reference=results.reference or "",
                    task=task,
                    seeds=list(points),
                    by_seed=points,
                    points=interval(list(points.values()), 0.7),
                    normalised=None
                    if place == 1
                    else interval([2 * v for v in points.values()], 1.4),
                    relative=None if place == 0 else 3.0,
                    relative_why="the reference is near chance" if place == 0 else None,
                    p=0.03125 if decided else None if len(points) < 2 else 0.4,
                    p_holm=0.04 if decided else None if len(points) < 2 else 1.0,
                    smallest_p=0.03125,
                    effect=mean / 2,
                    verdict=verdict,
                    verdict_why="interval and test agree" if decided else "the interval holds 0",
                    unequal=["tokens: 10 % more"] if index == 2 else [],
                    panel_differs=arm.name == ZERO_SHOT,
                )
            )
    standings = [
        Standing(
            arm=name,
            role="baseline" if name == results.reference else "arm",
            panel="zero-shot" if name == ZERO_SHOT else "supervised",
            seeds=len(results.seeds),
            average=next(c.mean for c in cells if (c.arm, c.task) == (name, "average")),
            own_checkpoint=None,
            interquartile_mean=Interval(value=0.3, low=0.25, high=0.35),
            probability_of_improvement=None
            if name == results.reference
            else Interval(value=0.7, low=0.6, high=0.8),
            cost=Cost(
                tokens=2e6,
                pretraining_tokens=0,
                flops=3e12 + 1e11 * index,
                backward_passes=100,
                steps=100,
                seconds=60.0 + 3 * index,
                peak_memory_bytes=0,
                parameters_shared=90_000,
                parameters_per_task=10_000 * index,
                parameters_total=90_000 + 10_000 * index,
                tuning_tokens=1_500_000 if results.search.trials else 0,
                tuning_trials=results.search.trials,
            ),
            comparison=next((c for c in comparisons if (c.arm, c.task) == (name, "average")), None),
            efficient={
                "tokens": index == 0,
                "flops": index < 2,
                "seconds": True,
                "parameters_total": False,
            },
        )
        for index, name in enumerate(
            [*reversed(supervised), *([ZERO_SHOT] if len(supervised) < len(results.arms) else [])]
        )
    ]
    tasks = results.tasks if whole else []
    return Answer(
        sentence="Learning together <wins> on average, by 1.2 points [0.5, 1.9].",
        standings=standings,
        cells=cells,
        comparisons=comparisons,
        transfers=[
            Transfer(
                helper=a,
                target=b,
                points=Interval(value=i - 1.5 * j, low=i - 1.5 * j - 1, high=i - 1.5 * j + 1),
                p=0.03,
                p_holm=0.2,
                verdict="undecided" if i else "worse",
                seeds=5,
            )
            for (i, a), (j, b) in itertools.permutations(enumerate(tasks), 2)
        ],
        conflicts=[
            Conflict(
                arm=supervised[-1],
                first=a,
                second=b,
                measure="cosine",
                value=0.6 if a == b else 0.1 * (i - j),
            )
            for (i, a), (j, b) in itertools.product(enumerate(tasks), repeat=2)
        ],
        exposures=[
            Exposure(
                arm=name,
                task=task,
                planned=1 / len(tasks),
                share=(i + 1) / (len(tasks) * (len(tasks) + 1) / 2),
                tokens=1000.0 * (i + 1),
                passes=0.5 * (i + 1),
            )
            for name in supervised
            if whole
            for i, task in enumerate(tasks)
        ],
        expected_best={
            arm.name: [(n + 1, 0.4 + 0.02 * n + 0.01 * i) for n in range(len(arm.trials))]
            for i, arm in enumerate(results.arms)
            if arm.trials
        },
        level=0.05,
        smallest_p=0.0625,
        needed_seeds=7,
        notes=["5 seeds can give no p below 0.0625, so that nothing here can be a claim."],
    )


def lay_out(results: Results, folder: Path) -> None:
    """The study's folder with results.json and the folders of its runs."""
    folder.mkdir(parents=True)
    results.write(folder)
    for arm in results.arms:
        for run in [*arm.runs, *arm.trials]:
            if run.run is not None:
                (folder / run.run).mkdir(parents=True, exist_ok=True)
