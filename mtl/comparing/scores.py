"""The numbers of a study's runs, taken out of their summaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtl.comparing.results import Arm, Results

AVERAGE = "average"
Panel = Literal["supervised", "zero-shot"]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How a score is read: what it is called, and where chance and perfection lie."""

    metric: str
    chance: float | None
    perfect: float = 1.0
    lower_is_better: bool = False

    def signed(self, value: float) -> float:
        """The value, or its negative where lower is better: more is better."""
        return -value if self.lower_is_better else value

    def normalised(self, value: float) -> float | None:
        """On the scale where chance is 0 and perfect is 1; None where chance is not known or is perfect."""
        if self.chance is None or self.chance == self.perfect:
            return None
        return (value - self.chance) / (self.perfect - self.chance)


def summaries(arm: Arm) -> dict[int, dict[str, Any]]:
    """The summary of each finished run by seed."""
    return {
        run.seed: run.summary
        for run in arm.runs
        if run.ending == "finished" and run.summary is not None
    }


def panel(arm: Arm) -> Panel:
    """What the arm's scores may be compared with."""
    found = {summary.get("panel", "supervised") for summary in summaries(arm).values()}
    return "zero-shot" if "zero-shot" in found else "supervised"


def tasks_of(arm: Arm) -> list[str]:
    """The tasks that the arm's runs were scored on."""
    return list(dict.fromkeys(task for s in summaries(arm).values() for task in s["tasks"]))


def same_tasks(arm: Arm, other: Arm) -> bool:
    """Whether the averages of two arms are over the same tasks."""
    return set(tasks_of(arm)) == set(tasks_of(other))


def scale(arm: Arm, task: str, metric: str | None = None) -> Scale:
    """The scale of a task's primary metric, of another one of its metrics, or of the average."""
    if task == AVERAGE:
        return Scale(metric=AVERAGE, chance=0.0)
    # Some run has it: without one there is no score to be put on a scale.
    found = next(s["tasks"][task] for s in summaries(arm).values() if task in s["tasks"])
    name = metric or found["primary"]
    falling = name in found.get("lower_is_better", [])
    known = name == found["primary"]
    return Scale(
        metric=name,
        chance=found["chance"] if known else None,
        perfect=0.0 if falling else 1.0,
        lower_is_better=falling,
    )


def by_seed(arm: Arm, task: str, metric: str | None = None) -> dict[int, float]:
    """Score of each finished run that has one, in the metric's own unit."""
    found = {}
    for seed, summary in summaries(arm).items():
        if task == AVERAGE:
            value = summary["average"]["value"]
        else:
            scored = summary["tasks"].get(task, {"primary": "", "metrics": {}})
            value = scored["metrics"].get(metric or scored["primary"], {}).get("value")
        if value is not None:
            found[seed] = float(value)
    return found


def own_by_seed(arm: Arm, task: str) -> dict[int, float]:
    """The same at the checkpoint that was best for the task alone, where that was scored."""
    found = {}
    for seed, summary in summaries(arm).items():
        if task == AVERAGE:
            value = summary.get("average_of_own_checkpoints", {}).get("value")
        else:
            scored: Mapping[str, Any] = summary["tasks"].get(task, {})
            own = scored.get("own_checkpoint", {"metrics": {}})
            value = own["metrics"].get(scored.get("primary"), {}).get("value")
        if value is not None:
            found[seed] = float(value)
    return found


def primary(results: Results, arm: Arm) -> tuple[str, str | None]:
    """The study's own measure as a task and a metric of it: ``average``, or a task with one of its metrics."""
    if results.primary == AVERAGE:
        return AVERAGE, None
    task, _, name = results.primary.rpartition("/")
    metrics = [
        metric
        for summary in summaries(arm).values()
        for metric in summary["tasks"].get(task, {"metrics": {}})["metrics"]
    ]
    # A metric of running text carries how it was cut in its reported name.
    reported = next((m for m in metrics if m == name or m.startswith(f"{name}_")), name)
    return task, reported


def reference_of(results: Results, arm: Arm) -> Arm | None:
    """The arm that this one is compared with: the reference, at the same place on the study's axes."""
    if results.reference is None:
        return None
    for other in results.arms:
        if other.name == results.reference:
            return None if other.name == arm.name else other
    for other in results.arms:
        if other.family == results.reference and other.factors == arm.factors:
            return None if other.name == arm.name else other
    return None
