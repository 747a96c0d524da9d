"""The trials and runs of a study in an Optuna storage, shared by all workers on all machines.

Each arm's search is an Optuna study ``<study>/<arm>``, so that Optuna's own tools can look at it, and the runs of all
arms are one, ``<study>/runs``. A job is a trial that waits there; who sets it running has it (the storage lets only
one). A worker renews its claim by a count that rises. A claim that is no longer renewed is given up: the trial fails,
and another one takes its place, which goes on in the same run folder.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.comparing.results import Ending
from mtl.config.errors import UserError
from mtl.studying.liveness import is_gone, owner
from mtl.studying.plan import Job, Plan

BEAT_SECONDS = 10.0
"""Between two renewals of a claim."""
GRACE_SECONDS = 60.0
"""Without a renewal for this long a claim is given up, as seen by the clock of whoever waits."""
MOST_DEATHS = 10
"""A job whose worker died this often is recorded as failed. Few would do for one that wants more memory than there is;
but a job that somebody kills again and again, with its machine perhaps, must not be lost."""
PIECE = 30_000
"""Characters of a result in one attribute: some databases hold no more than 64 KiB."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended."""

    ending: Ending
    reason: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)
    """What else is known of the run: its summary, curves, costs."""


@dataclass(kw_only=True)
class Record:
    """A job as the storage has it."""

    job: Job
    trial_id: int
    state: str
    """``WAITING``, ``RUNNING``, or how it ended."""
    attributes: dict[str, Any]
    intermediate: dict[int, float]
    """Step to what selects, of earlier lives too."""
    deaths: int

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state not in ("WAITING", "RUNNING")

    @property
    def ending(self) -> Ending:
        """How the job ended, ``pending`` where it has not."""
        found: Ending = self.attributes.get("ending", "pending") if self.over else "pending"
        return found

    @property
    def parameters(self) -> dict[str, Any]:
        """The searched settings and their values."""
        found: dict[str, Any] = self.attributes.get("parameters", {})
        return found

    @property
    def values(self) -> list[float]:
        """One for each objective; empty where the job did not finish."""
        found: list[float] = self.attributes.get("values", [])
        return found

    def content(self) -> dict[str, Any]:
        """What else is known of the run."""
        pieces: list[str] = []
        while (piece := self.attributes.get(f"content:{len(pieces)}")) is not None:
            pieces.append(piece)
        if not pieces:
            return {}
        found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode("".join(pieces))))
        return found


def default_storage(folder: Path) -> str:
    """SQLite in the study's folder."""
    return f"sqlite:///{(folder / 'study.db').absolute()}"


def open_storage(url: str) -> Any:
    """An Optuna storage.

    :raises UserError: a URL that is none, a driver that is not installed, or a database that does not answer.
    """
    import optuna
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    where = f"storage={_redacted(url)}"
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": 60}}
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
        if url.startswith("sqlite"):
            _lock_before_reading(storage.engine)
        return optuna.storages.get_storage(storage)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UserError(
            f"not the URL of a database: {str(error).splitlines()[0]}",
            where=where,
            hints=["such as postgresql+psycopg://user@host/base or sqlite:////path/study.db"],
        ) from error
    except ImportError as error:
        raise UserError(
            f"the driver of this database is not installed: {str(error).splitlines()[0]}",
            where=where,
            hints=["pip install psycopg for postgresql+psycopg://, pymysql for mysql+pymysql://"],
        ) from error
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise UserError(
            f"the storage does not answer: {str(cause).strip().splitlines()[0]}", where=where
        ) from error


def _lock_before_reading(engine: Any) -> None:
    """Take SQLite's lock where a transaction begins, rather than at its first write.

    Optuna reads a trial's state and then changes it. Databases with row locks keep others out in between; SQLite,
    asked in Python's way, would let two workers read "waiting" and both set the trial running.
    """
    from sqlalchemy import event

    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # Python's own module begins no transactions any more

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()
    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


class Queue:
    """The jobs of one study in a storage.

    :param storage: As :func:`open_storage` gives it.
    :param name: The study's name.
    """

    def __init__(self, storage: Any, name: str, plan: Plan, *, objectives: int = 1):
        self.storage = storage
        self.name = name
        self.plan = plan
        self.objectives = objectives
        self._ids: dict[str, int] = {}
        self._beats: dict[int, tuple[int, float]] = {}

    def prepare(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """Make the study where it is not there yet, and every job of it.

        :return: The definition that the storage has: ours, or that of whoever made the study.
        """
        known = self._study(f"{self.name}/runs", 1)
        found = self.storage.get_study_user_attrs(known).get("definition")
        if found is None:
            self.storage.set_study_user_attr(known, "definition", dict(definition))
            found = dict(definition)
        return dict(found)

    def redefine(self, definition: Mapping[str, Any]) -> None:
        """Replace the definition, for a study that has been given more seeds."""
        known = self._study(f"{self.name}/runs", 1)
        self.storage.set_study_user_attr(known, "definition", dict(definition))

    def attribute(self, name: str) -> Any:
        """Something that is known of the whole study, or None."""
        return self.storage.get_study_user_attrs(self._study(f"{self.name}/runs", 1)).get(name)

    def set_attribute(self, name: str, value: Any) -> None:
        """Keep something that concerns the whole study."""
        self.storage.set_study_user_attr(self._study(f"{self.name}/runs", 1), name, value)

    def records(self) -> dict[Job, Record]:
        """Every job in the plan's order; jobs that nobody has put there yet are put there."""
        found = self._read()
        missing = [job for job in self.plan.jobs() if job not in found]
        if missing:
            for job in missing:
                self._add(job)
            found = self._read()
        return {job: found[job] for job in self.plan.jobs()}

    def claim(self, record: Record) -> bool:
        """Take a waiting job; False where somebody else was faster."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            mine = self.storage.set_trial_state_values(record.trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False
        if mine:
            self.storage.set_trial_user_attr(record.trial_id, "owner", owner())
            self.beat(record, 1)
        return bool(mine)

    def beat(self, record: Record, count: int) -> bool:
        """Renew a claim; False where it has been given up meanwhile."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.storage.set_trial_user_attr(record.trial_id, "beat", count)
        except UpdateFinishedTrialError:
            return False
        return True

    def draw(self, record: Record, parameters: Mapping[str, Any], search: Any) -> None:
        """Write down the values of a trial, as Optuna's own tools read them too."""
        for name, value in parameters.items():
            distribution = search.distributions[name]
            inner = distribution.to_internal_repr(value)
            self.storage.set_trial_param(record.trial_id, name, inner, distribution)
        self.storage.set_trial_user_attr(record.trial_id, "parameters", dict(parameters))

    def report(self, record: Record, step: int, value: float) -> None:
        """Write down what selects after a number of steps."""
        self.storage.set_trial_intermediate_value(record.trial_id, step, value)

    def end(self, record: Record, outcome: Outcome) -> bool:
        """Write down how a job ended; False where the claim was given up meanwhile, and nothing is written."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        text = base64.b64encode(zlib.compress(json.dumps(outcome.content).encode())).decode()
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        attributes: dict[str, Any] = {f"content:{i}": piece for i, piece in enumerate(pieces)}
        attributes |= {
            "ending": outcome.ending,
            "reason": outcome.reason,
            "parameters": outcome.parameters,
            "values": outcome.values,
        }
        state = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        try:
            for name, value in attributes.items():
                self.storage.set_trial_user_attr(record.trial_id, name, value)
            self.storage.set_trial_state_values(
                record.trial_id,
                state.get(outcome.ending, TrialState.FAIL),
                outcome.values or None,
            )
        except UpdateFinishedTrialError:
            return False
        return True

    def give_up(self, record: Record, *, died: bool) -> None:
        """End a claim so that another worker takes the job.

        :param died: Its worker died over it, which counts; otherwise it was asked to stop.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.storage.set_trial_user_attr(
                record.trial_id, "given_up", "died" if died else "stopped"
            )
            self.storage.set_trial_state_values(record.trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return

    def abandoned(self, records: Mapping[Job, Record]) -> list[Record]:
        """Running jobs whose worker is gone: a process of this machine that is no more, or a claim not renewed."""
        now = time.monotonic()
        gone = []
        for record in records.values():
            if record.state != "RUNNING":
                continue
            beat = int(record.attributes.get("beat", 0))
            seen = self._beats.get(record.trial_id)
            if seen is None or seen[0] != beat:
                seen = self._beats[record.trial_id] = (beat, now)
            if is_gone(record.attributes.get("owner")) or now - seen[1] > GRACE_SECONDS:
                gone.append(record)
        return gone

    def _read(self) -> dict[Job, Record]:
        """The trial that stands for each job: the first that was not given up."""
        found: dict[Job, Record] = {}
        deaths: dict[Job, int] = {}
        before: dict[Job, dict[int, float]] = {}
        for trial in self._trials():
            attributes = trial.user_attrs
            if "kind" not in attributes:
                continue  # somebody else's trial; or one whose maker died before saying what it is
            job = Job(
                kind=attributes["kind"], arm=attributes["arm"], number=int(attributes["number"])
            )
            if "given_up" in attributes and trial.state.is_finished():
                deaths[job] = deaths.get(job, 0) + (attributes["given_up"] == "died")
                before.setdefault(job, {}).update(trial.intermediate_values)
                continue
            if job not in found:
                found[job] = Record(
                    job=job,
                    trial_id=trial._trial_id,
                    state=trial.state.name,
                    attributes=dict(attributes),
                    intermediate=dict(trial.intermediate_values),
                    deaths=0,
                )
        for job, record in found.items():
            record.deaths = deaths.get(job, 0)
            record.intermediate = {**before.get(job, {}), **record.intermediate}
        return found

    def _trials(self) -> Iterator[Any]:
        names = [f"{self.name}/{arm.name}" for arm in self.plan.arms.values() if self._tuned(arm)]
        for name in [*names, f"{self.name}/runs"]:
            study = self._study(name, self.objectives if name in names else 1)
            yield from self.storage.get_all_trials(study, deepcopy=False)

    def _tuned(self, arm: Any) -> bool:
        return self.plan.trials_of(arm) > 0

    def _add(self, job: Job) -> None:
        from optuna.trial import TrialState, create_trial

        name = f"{self.name}/{job.arm}" if job.kind == "trial" else f"{self.name}/runs"
        study = self._study(name, self.objectives if job.kind == "trial" else 1)
        attributes = {"kind": job.kind, "arm": job.arm, "number": job.number}
        template = create_trial(state=TrialState.WAITING, user_attrs=attributes)
        self.storage.create_new_trial(study, template)

    def _study(self, name: str, objectives: int) -> int:
        """The id of an Optuna study, which is made where it is not there."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        if name not in self._ids:
            directions = [StudyDirection.MAXIMIZE]
            directions += [StudyDirection.MINIMIZE] * (objectives - 1)
            try:
                self._ids[name] = self.storage.create_new_study(directions, name)
            except DuplicatedStudyError:
                self._ids[name] = self.storage.get_study_id_from_name(name)
        return self._ids[name]


def _redacted(url: str) -> str:
    from mtl.record.store import redact

    return redact(url)
