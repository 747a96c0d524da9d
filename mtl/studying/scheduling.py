"""Which job a worker may take next, and with which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mtl.studying.plan import Job, Plan
from mtl.studying.search import Ended, Search
from mtl.studying.storage import Record

Records = Mapping[Job, Record]


class Schedule:
    """The order of a study's jobs.

    :param here: Whether the folder of a run of an arm under a seed is on this machine.
    """

    def __init__(
        self, plan: Plan, searches: Mapping[str, Search], here: Callable[[str, int], bool]
    ):
        self.plan = plan
        self.searches = searches
        self.here = here

    def ready(self, records: Records) -> list[Record]:
        """Waiting jobs that can be done now, in the order in which they are taken."""
        return [r for r in records.values() if r.state == "WAITING" and self._is_ready(r, records)]

    def hopeless(self, job: Job, records: Records) -> str | None:
        """Why a job cannot be done although it is its turn; None where it can."""
        tuned = self._tuned_arm(job.arm) if job.kind == "run" else None
        if tuned is not None and self.chosen(tuned, records) is None:
            return f"no trial of the search of arm '{tuned}' finished"
        seed = self.plan.seed_of(job)
        for name in self.plan.arms[job.arm].begins_from:
            if records[Job(kind="run", arm=name, number=seed)].ending != "finished":
                return f"it begins from arm '{name}', whose run with seed {seed} did not finish"
        return None

    def parameters(self, job: Job, records: Records) -> dict[str, Any]:
        """The searched settings of a job: those of a trial that is taken up again, drawn, or chosen."""
        record = records[job]
        if job.kind == "trial":
            known = record.parameters
            return known or self.searches[job.arm].draw(job.number, self.ended(job.arm, records))
        tuned = self._tuned_arm(job.arm)
        best = self.chosen(tuned, records) if tuned is not None else None
        return {} if best is None else dict(best.parameters)

    def chosen(self, arm: str, records: Records) -> Record | None:
        """The trial whose settings an arm is run with: the best on the selection split, the first of equal ones."""
        finished = [
            record
            for record in self._trials(arm, records)
            if record.ending == "finished" and record.values
        ]
        return max(finished, key=lambda record: record.values[0], default=None)

    def ended(self, arm: str, records: Records) -> list[Ended]:
        """The trials of an arm that are over."""
        return [
            Ended(
                index=record.job.number,
                parameters=record.parameters,
                values=record.values or None,
                pruned=record.ending == "pruned",
                intermediate=record.intermediate,
            )
            for record in self._trials(arm, records)
            if record.over
        ]

    def _is_ready(self, record: Record, records: Records) -> bool:
        job = record.job
        if job.kind == "trial":
            before = self.searches[job.arm].begins_after(job.number)
            if not all(r.over for r in self._trials(job.arm, records) if r.job.number < before):
                return False
        else:
            tuned = self._tuned_arm(job.arm)
            if tuned is not None and not all(r.over for r in self._trials(tuned, records)):
                return False
        seed = self.plan.seed_of(job)
        for name in self.plan.arms[job.arm].begins_from:
            source = records[Job(kind="run", arm=name, number=seed)]
            if not source.over:
                return False
            if source.ending == "finished" and not self.here(name, seed):
                return False  # for a worker of the machine where it lies
        return True

    def _tuned_arm(self, arm: str) -> str | None:
        """The arm whose search decides this one's settings."""
        name = self.plan.arms[arm].tuned_as or arm
        return name if self.plan.trials_of(self.plan.arms[name]) else None

    @staticmethod
    def _trials(arm: str, records: Records) -> list[Record]:
        return [r for job, r in records.items() if job.kind == "trial" and job.arm == arm]
