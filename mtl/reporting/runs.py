"""Lists: every tuning trial, every run, and what the arms trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mtl.comparing.results import Arm, SeedRun, Trial
from mtl.reporting import numerals
from mtl.reporting.tables import Column, Entry, Group, Table, missing, words
from mtl.reporting.view import View


def trial_table(view: View) -> Table | None:
    """All trials of all searches."""
    groups = [
        Group(heading=_tuned(arm), rows=[_trial(view, arm, trial) for trial in arm.trials])
        for arm in view.results.arms
        if arm.trials
    ]
    if not groups:
        return None
    return Table(
        name="trials",
        title="All tuning trials",
        columns=[
            Column("trial"),
            Column("settings", number=False),
            *(Column(name) for name in view.results.search.objectives),
            Column("ending", number=False),
            Column("tokens"),
            Column("time"),
        ],
        groups=groups,
        reading="Values are of the selection split; the reported split was not looked at. A pruned trial was stopped "
        "because it promised little.",
    )


def _tuned(arm: Arm) -> str:
    chosen = ", ".join(f"{name}={setting(value)}" for name, value in arm.chosen.items())
    return f"{arm.name}: chose {chosen}" if chosen else arm.name


def _trial(view: View, arm: Arm, trial: Trial) -> list[Entry]:
    parameters = " ".join(f"{name}={setting(value)}" for name, value in trial.parameters.items())
    chosen = bool(arm.chosen) and all(
        trial.parameters.get(name) == value for name, value in arm.chosen.items()
    )
    values = [
        words(numerals.score(trial.values[index]))
        if index < len(trial.values)
        else missing(trial.reason or f"the trial ended as {trial.ending}")
        for index in range(len(view.results.search.objectives))
    ]
    return [
        words(str(trial.index), href=view.run_href(trial.run)),
        Entry(text=parameters or numerals.DASH, strong=chosen, why="chosen" if chosen else ""),
        *values,
        words(_said(trial.ending), why=trial.reason or ""),
        words(numerals.amount(trial.tokens)),
        words(numerals.duration(trial.seconds)),
    ]


def run_table(view: View) -> Table:
    """Every run of every arm, in the order of the study, with its folder."""
    arms = view.results.arms
    return Table(
        name="runs",
        title="All runs",
        columns=[
            Column("seed"),
            Column("ending", number=False),
            Column("average"),
            Column("tokens"),
            Column("time"),
            Column("folder", number=False),
        ],
        groups=[
            Group(
                heading=_described(arm),
                anchor=f"runs-{index}",
                rows=[_run(view, run) for run in arm.runs],
                anchors=[f"run-{index}-{run.seed}" for run in arm.runs],
            )
            for index, arm in enumerate(arms)
        ],
        reading="A folder holds the run's configuration, predictions, log and checkpoints.",
    )


def _described(arm: Arm) -> str:
    settings = " ".join(arm.settings)
    tuned = f"; tuned as {arm.tuned_as}" if arm.tuned_as else ""
    role = "" if arm.role == "arm" else f" ({arm.role})"
    return f"{arm.name}{role}{': ' if settings else ''}{settings}{tuned}"


def _run(view: View, run: SeedRun) -> list[Entry]:
    ledger: dict[str, Any] = (run.summary or {}).get("ledger", {})
    average = (run.summary or {}).get("average", {}).get("value")
    why = run.reason or f"the run ended as {run.ending}"
    folder = missing("it left no folder")
    if run.run is not None:
        folder = words(run.run, href=view.run_href(run.run))
    return [
        words(str(run.seed)),
        words(_said(run.ending), why=run.reason or ""),
        missing(why) if average is None else words(numerals.score(average)),
        missing(why) if "tokens" not in ledger else words(numerals.amount(ledger["tokens"])),
        missing(why) if "seconds" not in ledger else words(numerals.duration(ledger["seconds"])),
        folder,
    ]


def exposure_table(view: View) -> Table | None:
    """Planned and realised shares."""
    if not view.answer.exposures:
        return None
    groups = []
    for arm in view.series:
        found = [one for one in view.answer.exposures if one.arm == arm]
        rows = [
            [
                words(one.task),
                words(numerals.share(one.planned)),
                words(numerals.share(one.share)),
                words(numerals.amount(one.tokens), href=view.anchor(arm)),
                words(f"{one.passes:.2f}"),
            ]
            for one in found
        ]
        if rows:
            groups.append(Group(heading=arm, rows=rows))
    return Table(
        name="exposure",
        title="Exposure",
        columns=[
            Column("task", number=False),
            Column("planned", why="share of draws"),
            Column("realised", why="share of the rows that were drawn"),
            Column("tokens"),
            Column("passes", why="how often each training row was seen"),
        ],
        groups=groups,
    )


def setting(value: Any) -> str:
    """A setting as on the command line, numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _said(ending: str) -> str:
    return ending.replace("_", " ")


def unfinished(view: View) -> Iterator[tuple[str, str, str]]:
    """Arm, seed and reason of the runs that did not finish."""
    for arm in view.results.arms:
        for run in arm.runs:
            if run.ending != "finished":
                yield arm.name, str(run.seed), run.reason or _said(run.ending)
