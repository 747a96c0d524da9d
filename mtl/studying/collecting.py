"""The storage's records as results.json."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from mtl.comparing.results import Arm, Results, Search, SeedRun, Trial
from mtl.comparing.scores import AVERAGE
from mtl.record.summary import git_state, versions
from mtl.studying.plan import Job, PlannedArm, common_settings
from mtl.studying.storage import Record
from mtl.studying.study import Study

MINIMIZE: Literal["minimize"] = "minimize"


def collect(study: Study, records: Mapping[Job, Record]) -> Results:
    """All that the study has found so far."""
    config, plan = study.config, study.plan
    search = config.study.search
    commit = git_state()
    return Results(
        name=config.study.name,
        question=config.study.question,
        primary=config.study.metric,
        direction=_direction(study, records),
        reference=plan.reference,
        tasks=plan.tasks,
        seeds=plan.seeds,
        settings=common_settings(config),
        command=study.command,
        search=Search(
            trials=plan.trials,
            sampler=search.sampler,
            pruner=search.pruner,
            objectives=[config.study.metric, *search.objectives],
            directions=["maximize", *(MINIMIZE for _ in search.objectives)],
            space={name: _range(found) for name, found in search.space.items()},
            own_space={
                name: {setting: _range(found) for setting, found in arm.space.items()}
                for name, arm in config.study.arms.items()
                if arm.space
            },
        ),
        arms=[_arm(study, arm, records) for arm in plan.arms.values()],
        axes=plan.axes,
        over=next((arm.over for arm in config.study.arms.values() if arm.over == "pairs"), None),
        commit=commit["commit"],
        dirty=commit["dirty"],
        versions=versions(),
        started=study.queue.attribute("started") or "",
        updated=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _arm(study: Study, arm: PlannedArm, records: Mapping[Job, Record]) -> Arm:
    tuned = arm.tuned_as or arm.name
    best = study.schedule.chosen(tuned, records) if tuned in study.searches else None
    own = {job: record for job, record in records.items() if job.arm == arm.name}
    return Arm(
        name=arm.name,
        role=arm.role,
        settings=arm.own,
        factors=arm.factors,
        family=arm.family,
        tuned_as=arm.tuned_as,
        chosen={} if best is None else dict(best.parameters),
        trials=[
            _trial(job, record, study.config.study.metric)
            for job, record in own.items()
            if job.kind == "trial"
        ],
        runs=[
            _run(job, record)
            for job, record in own.items()
            if job.kind == "run" and not study.plan.is_search(job)
        ],
    )


def _trial(job: Job, record: Record, metric: str) -> Trial:
    content = record.content() if record.over else {}
    stopped = record.ending == "pruned" and metric == AVERAGE
    return Trial(
        index=job.number,
        ending=record.ending,
        parameters=record.parameters,
        values=record.values,
        reached=record.intermediate[max(record.intermediate)] if stopped else None,
        tokens=int(content.get("tokens", 0)),
        seconds=float(content.get("seconds", 0.0)),
        reason=record.attributes.get("reason"),
        run=job.name if record.over else None,
    )


def _run(job: Job, record: Record) -> SeedRun:
    content = record.content() if record.over else {}
    return SeedRun(
        seed=job.number,
        ending=record.ending,
        reason=record.attributes.get("reason"),
        run=job.name if record.over else None,
        summary=content.get("summary") if record.ending == "finished" else None,
        curves={
            name: [(int(tokens), float(value)) for tokens, value in points]
            for name, points in content.get("curves", {}).items()
        },
        conflict=content.get("conflict", {}),
    )


def _direction(study: Study, records: Mapping[Job, Record]) -> Any:
    """Whether the study's metric is better high or low, as the runs say."""
    from mtl.studying.running import lower_is_better

    for job, record in records.items():
        if job.kind == "run" and record.ending == "finished":
            summary = record.content()["summary"]
            return "minimize" if lower_is_better(summary, study.config.study.metric) else "maximize"
    return "maximize"


def _range(found: Any) -> dict[str, Any]:
    if found.choices is not None:
        return {"choices": list(found.choices)}
    return {"low": found.low, "high": found.high, "log": found.log, "step": found.step}
