"""summary.json of a run: its scores, and what all of its trainings together cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mtl.assembly import Loaded
from mtl.config.schema import FitConfig
from mtl.learning.balance.methods import separate_gradients
from mtl.learning.ledger import cost, parameters, peak_memory_bytes
from mtl.learning.training import Trained
from mtl.parts import Trainings
from mtl.record.summary import Data, Exposure, Summary, git_state, versions
from mtl.scoring.score import TaskScore, average
from mtl.starting import Start
from mtl.tasks.task import Task

SUMMED = ("tokens", "steps", "flops", "backward_passes", "seconds")
BY_TASK = ("tokens_by_task", "examples_by_task", "target_tokens_by_task")


def summarise(
    config: FitConfig,
    loaded: Loaded,
    trainings: Trainings,
    trained: Sequence[Trained],
    scores: Sequence[TaskScore],
    said: Mapping[str, Mapping[str, Any]],
    *,
    start: Start,
    pretrained: Mapping[str, Any] | None,
) -> Summary:
    """The summary of a run whose parts are all trained and whose tasks are scored.

    :param trained: What each part left behind, in the order of the parts.
    :param said: What stands beside the scores of each task, see :class:`mtl.answering.Answered`.
    :param start: Where the run began, pretraining included.
    :param pretrained: Ledger of the language-model stage, where there was one.
    """
    return {
        "strategy": config.strategy["name"],
        "balance": config.balance.name,
        "seed": config.seed,
        "status": "finished",
        "panel": "zero-shot" if trainings.model.reads == "corpus" else "supervised",
        "tasks": {
            score.task: {**score.as_summary(), **said[score.task]}  # type: ignore[typeddict-item]
            for score in scores
        },
        "average": average(scores),  # type: ignore[typeddict-item]
        "ledger": _ledger(config, trainings, trained, start, pretrained),  # type: ignore[typeddict-item]
        "data": {
            task.name: _data(task)
            for task in (
                *loaded.trained,
                *([loaded.corpus] if loaded.corpus else []),
                *loaded.tasks,
            )
        },
        "mixture": _exposure(trainings),
        "overlap": [
            {**asdict(found), "excluded": config.data.exclude_overlap}  # type: ignore[typeddict-item]
            for found in loaded.overlap
        ],
        "versions": versions(),
        "git": git_state(),
    }


def _ledger(
    config: FitConfig,
    trainings: Trainings,
    trained: Sequence[Trained],
    start: Start,
    pretrained: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The sums over all parts, and, where there are several, what each of them cost."""
    costs = [
        cost(
            part.strategy,
            part.stores,
            part.plan,
            steps=done.steps,
            seconds=done.seconds,
            pieces=config.batch.accumulate * done.devices,
            by_task=part.budget == "shared"
            and separate_gradients(config.balance, config.batch.accumulate * done.devices),
            one_pass=done.passed_once,
        )
        for part, done in zip(trainings.parts, trained, strict=True)
    ]
    ledger: dict[str, Any] = {name: sum(one[name] for one in costs) for name in SUMMED}
    for name in BY_TASK:
        ledger[name] = {}
        for one in costs:
            for task, count in one[name].items():
                ledger[name][task] = ledger[name].get(task, 0) + count
    ledger["peak_memory_bytes"] = peak_memory_bytes()
    ledger["precision"] = config.trainer.precision
    ledger["parameters"] = parameters(trainings.model, trainings.model.tasks)
    ledger["pretraining_tokens"] = start.tokens
    ledger["budget"] = _budget(config, trainings)
    if config.diagnostics.conflict:
        ledger["diagnosing_seconds"] = sum(done.diagnosing_seconds for done in trained)
    if pretrained is not None:
        ledger["pretraining"] = dict(pretrained)
    if trainings.several:
        ledger["stages"] = {
            part.name: {"budget": part.budget, **{name: one[name] for name in SUMMED}}
            for part, one in zip(trainings.parts, costs, strict=True)
        }
    return ledger


def _budget(config: FitConfig, trainings: Trainings) -> str:
    """How the budget of the final parts was found, in one word; with the run that was repeated."""
    word = trainings.final[-1].budget
    return f"{word} {config.budget.like}" if config.budget.like is not None else word


def _exposure(trainings: Trainings) -> dict[str, Exposure]:
    """Planned and realised exposure of each task, over all parts."""
    rows: dict[str, int] = {}
    tokens: dict[str, int] = {}
    planned: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for part in trainings.parts:
        for k, task in enumerate(part.strategy.tasks):
            name = task.name
            rows[name] = rows.get(name, 0) + int(part.budgeted.rows_by_task[k])
            tokens[name] = tokens.get(name, 0) + int(part.budgeted.tokens_by_task[k])
            weight = part.budgeted.tokens / trainings.tokens
            planned[name] = planned.get(name, 0.0) + weight * part.rates[name]
            sizes[name] = len(part.stores[k])
    total = sum(rows.values())
    return {
        name: {
            "planned": planned[name],
            "share": rows[name] / total,
            "tokens": tokens[name],
            "rows": rows[name],
            "passes": rows[name] / sizes[name],
        }
        for name in rows
    }


def _data(task: Task) -> Data:
    splits = {"train": task.train, "selection": task.selection, "report": task.report}
    present = {purpose: split for purpose, split in splits.items() if split is not None}
    return {
        "fingerprint": "-".join(split.fingerprint for split in present.values()),
        "rows": {purpose: len(split.examples) for purpose, split in present.items()},
        "notes": [split.note for split in present.values() if split.note],
    }
