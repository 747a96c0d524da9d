"""What an arm cost, and in which budgets two arms differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mtl.comparing.answer import Cost, Exposure, Unequal
from mtl.comparing.results import Arm, Results
from mtl.comparing.scores import summaries

TOKENS, TOKENS_IN_ALL = "tokens", "tokens with pretraining"
TOLERANCE = 0.02
"""Budgets that differ by less than this share count as equal: the last step of a run goes a little beyond."""


def cost(results: Results, arm: Arm) -> Cost:
    """Means over the arm's finished runs; what its search took is that of the arm it was tuned as."""
    ledgers = [summary["ledger"] for summary in summaries(arm).values()]

    def mean(of: Callable[[Mapping[str, Any]], float]) -> float:
        return sum(float(of(ledger)) for ledger in ledgers) / len(ledgers)

    tuned = results.arm(arm.tuned_as) if arm.tuned_as else arm
    return Cost(
        tokens=mean(lambda ledger: ledger["tokens"]),
        pretraining_tokens=mean(lambda ledger: ledger.get("pretraining_tokens", 0)),
        flops=mean(lambda ledger: ledger["flops"]),
        backward_passes=mean(lambda ledger: ledger["backward_passes"]),
        steps=mean(lambda ledger: ledger["steps"]),
        seconds=mean(lambda ledger: ledger["seconds"]),
        peak_memory_bytes=mean(lambda ledger: ledger["peak_memory_bytes"]),
        parameters_shared=mean(lambda ledger: ledger["parameters"]["shared"]),
        parameters_per_task=mean(lambda ledger: sum(ledger["parameters"]["per_task"].values())),
        parameters_total=mean(lambda ledger: ledger["parameters"]["total"]),
        tuning_tokens=float(sum(trial.tokens for trial in tuned.trials)),
        tuning_trials=sum(trial.ending != "pending" for trial in tuned.trials),
        pretraining_flops=mean(lambda ledger: ledger.get("pretraining", {}).get("flops", 0)),
        pretraining_seconds=mean(lambda ledger: ledger.get("pretraining", {}).get("seconds", 0)),
    )


def exposures(arm: Arm) -> list[Exposure]:
    """How much of each task the arm trained on, mean over its runs."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for summary in summaries(arm).values():
        for task, exposure in summary.get("mixture", {}).items():
            found.setdefault(task, []).append(exposure)

    def mean(of: list[Mapping[str, Any]], name: str) -> float:
        return sum(float(one[name]) for one in of) / len(of)

    return [
        Exposure(
            arm=arm.name,
            task=task,
            planned=mean(of, "planned"),
            share=mean(of, "share"),
            tokens=mean(of, "tokens"),
            passes=mean(of, "passes"),
        )
        for task, of in found.items()
    ]


def unequal(ours: Cost, theirs: Cost, one: list[Exposure], other: list[Exposure]) -> list[Unequal]:
    """What two arms do not have alike: budgets that differ by more than the tolerance, and tasks."""
    budgets = {
        TOKENS: (ours.tokens, theirs.tokens),
        TOKENS_IN_ALL: (ours.whole("tokens"), theirs.whole("tokens")),
        "steps": (ours.steps, theirs.steps),
        "operations": (ours.whole("flops"), theirs.whole("flops")),
        "parameters": (ours.parameters_total, theirs.parameters_total),
        "trials of the search": (ours.tuning_trials, theirs.tuning_trials),
        "tokens of the search": (ours.tuning_tokens, theirs.tuning_tokens),
    }
    found = [Unequal(name, *pair) for name, pair in budgets.items() if _differ(*pair)]
    if one and other:
        found += _one_sided(one, other)
    theirs_by_task = {exposure.task: exposure.tokens for exposure in other}
    shared = [(e.task, e.tokens, theirs_by_task[e.task]) for e in one if e.task in theirs_by_task]
    if any(_differ(mine, his) for _, mine, his in shared):
        task, mine, his = max(shared, key=lambda pair: _ratio(pair[1], pair[2]))
        found.append(Unequal(f"exposure of tasks, most of all {task}", mine, his))
    return found


def _one_sided(one: list[Exposure], other: list[Exposure]) -> list[Unequal]:
    ours, theirs = {e.task for e in one if e.tokens}, {e.task for e in other if e.tokens}
    sides = (("it alone trains on", ours - theirs), ("the other alone trains on", theirs - ours))
    return [Unequal(f"tasks: {text} {', '.join(sorted(tasks))}") for text, tasks in sides if tasks]


def _differ(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) > TOLERANCE * max(abs(ours), abs(theirs))


def _ratio(ours: float, theirs: float) -> float:
    low, high = sorted((ours, theirs))
    return high / low if low else float("inf")
