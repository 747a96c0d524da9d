"""Results of studies that nobody ran, from the numbers a test wants them to have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mtl.comparing.answer import Answer, Comparison, Standing
from mtl.comparing.results import Arm, Results, Search, SeedRun, Trial

REFERENCE = "single_task_same_exposure"
Scores = Mapping[str, Sequence[float]]
"""Task to its score under each seed."""


def summary(
    scores: Mapping[str, float],
    *,
    chance: float = 0.5,
    panel: str = "supervised",
    lower: Sequence[str] = (),
    own: Mapping[str, float] | None = None,
    **ledger: Any,
) -> dict[str, Any]:
    """summary.json of a run with these scores."""
    tasks: dict[str, Any] = {}
    for task, value in scores.items():
        metric = "bits_per_byte_disjoint" if task in lower else "accuracy"
        interval = {"value": value, "low": value - 0.01, "high": value + 0.01}
        tasks[task] = {
            "split": "test",
            "rows": 100,
            "primary": metric,
            "chance": 8.0 if task in lower else chance,
            "metrics": {metric: interval},
            **({"lower_is_better": [metric]} if task in lower else {}),
        }
        if own is not None:
            tasks[task]["own_checkpoint"] = {"step": 1, "metrics": {metric: {"value": own[task]}}}
    normalised = [
        (v - tasks[t]["chance"]) / ((0.0 if t in lower else 1.0) - tasks[t]["chance"])
        for t, v in scores.items()
    ]
    found = {
        "panel": panel,
        "tasks": tasks,
        "average": {"value": sum(normalised) / len(normalised)},
        "ledger": {
            "tokens": 1000,
            "pretraining_tokens": 0,
            "flops": 1e9,
            "backward_passes": 10,
            "steps": 10,
            "seconds": 5.0,
            "peak_memory_bytes": 10**8,
            "parameters": {"shared": 100, "per_task": dict.fromkeys(scores, 10), "total": 100 + 10 * len(scores)},
            **ledger,
        },
        "mixture": {
            task: {"planned": 0.5, "share": 0.5, "tokens": 500, "rows": 50, "passes": 0.5}
            for task in scores
        },
    }  # fmt: skip
    if own is not None:
        values = [2 * v - 1 for v in own.values()]
        found["average_of_own_checkpoints"] = {"value": sum(values) / len(values)}
    return found


def arm(name: str, scores: Scores, *, trials: Sequence[float] = (), **more: Any) -> Arm:
    """An arm whose runs with seeds 0, 1, 2, ... have these scores."""
    fields = ("role", "factors", "family", "settings", "tuned_as", "chosen")
    given = {key: more.pop(key) for key in fields if key in more}
    conflict = more.pop("conflict", {})
    seeds = len(next(iter(scores.values())))
    runs = [
        SeedRun(
            seed=seed,
            ending="finished",
            run=f"runs/{name}/seed{seed}",
            summary=summary({task: values[seed] for task, values in scores.items()}, **more),
            curves={
                "selection_average": [(500, 0.1), (1000, 0.2 + seed / 100)],
                **{f"{task}/selection_accuracy": [(500, 0.5), (1000, 0.6)] for task in scores},
            },
            conflict=conflict,
        )
        for seed in range(seeds)
    ]
    return Arm(
        **{"name": name, "family": name, "settings": [f"strategy={name}"], **given},
        runs=runs,
        trials=[
            Trial(
                index=i,
                ending="finished",
                parameters={"optimizer.learning_rate": 0.001 * (i + 1)},
                values=[value],
                tokens=1000,
                run=f"tuning/{name}/{i:03d}",
            )
            for i, value in enumerate(trials)
        ],
    )


def results(*arms: Arm, **more: Any) -> Results:
    """A study of these arms."""
    tasks = list(
        dict.fromkeys(
            t for one in arms for run in one.runs if run.summary for t in run.summary["tasks"]
        )
    )
    trials = max((len(one.trials) for one in arms), default=0)
    given: dict[str, Any] = {
        "name": "toy",
        "question": "Which is better?",
        "primary": "average",
        "direction": "maximize",
        "reference": REFERENCE if any(one.name == REFERENCE for one in arms) else None,
        "tasks": tasks,
        "seeds": sorted({run.seed for one in arms for run in one.runs}),
        "settings": ["decoder=tiny"],
        "command": "python -m mtl.study study=toy",
        "search": Search(
            trials=trials,
            sampler="tpe",
            pruner="none",
            objectives=["average"],
            directions=["maximize"],
            space={"optimizer.learning_rate": {"low": 0.001, "high": 0.01, "log": True}},
        ),
        "commit": "0123456789",
        "dirty": False,
        "versions": {"mtl": "0.0", "torch": "2.13"},
        "started": "2026-01-01T00:00:00+00:00",
        "updated": "2026-01-01T00:10:00+00:00",
        **more,
    }
    return Results(arms=list(arms), **given)


def standing(answer: Answer, name: str) -> Standing:
    return next(one for one in answer.standings if one.arm == name)


def on(answer: Answer, task: str) -> dict[str, Comparison]:
    return {one.arm: one for one in answer.comparisons if one.task == task}


def seeded(given_arm: Arm, seeds: Iterable[int]) -> Arm:
    """The runs of an arm under other seeds, as many as there are seeds."""
    pairs = zip(given_arm.runs, seeds, strict=False)
    return replace(given_arm, runs=[replace(run, seed=seed) for run, seed in pairs])


def baseline(**scores: list[float]) -> Arm:
    return arm(REFERENCE, scores, role="baseline")


def pair(family: str, tasks: str, **scores: list[float]) -> Arm:
    return arm(f"{family}/{tasks}", scores, family=family, factors={"pairs": tasks})
