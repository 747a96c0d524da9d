"""One run in an MLflow store, written synchronously. Imports mlflow, and nothing else of mtl does."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.record.files import to_json, write_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Set before mlflow is imported, and only where the person has not: a dead server must be noticed in seconds
# (MLflow's own defaults wait minutes), and nobody is reported to anybody.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}

PARAMETERS_A_CALL = 100
POINTS_A_CALL = 1000
KEY_CHARACTERS = 250
VALUE_CHARACTERS = 500
"""Shortest limits among MLflow's stores and versions; longer values are cut here, config.yaml holds them whole."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric."""

    name: str
    value: float
    milliseconds: int
    """When it was measured, since 1970."""
    step: int
    """Tokens consumed."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a run is, said once when it starts."""

    experiment: str
    run_name: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, Any]
    run_id: str | None = None
    """An existing run to go on with."""
    parent: Path | None = None
    """File that remembers the run this one is nested under."""


class RejectedError(Exception):
    """The store works and refuses this very content: asking again is useless."""


class Store:
    """A connection to one MLflow store, and the one run written there.

    :param uri: MLflow tracking URI, as :func:`tracking_uri` gives it.
    :param memory: File that remembers the run's id, so that a resumed run goes on with the same one.
    :param say: Receives what a reader of log.txt should know.
    """

    def __init__(self, uri: str, memory: Path, say: Callable[[str], None]):
        self.uri = uri
        self.run_id: str | None = None
        self._memory = memory
        self._say = say
        self._recorded: dict[str, int] | None = (
            None  # last step of each metric, when going on with a run
        )

    @staticmethod
    def prepare() -> None:
        """Import mlflow, quietly. Done in the main thread: concurrent imports are fragile."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import mlflow  # noqa: F401

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("urllib3.connectionpool").addFilter(_not_about_mlflow)

    def open(self, description: Description) -> None:
        """Find or create the experiment and the run. May be called again after it failed."""
        from mlflow import MlflowClient

        with _alone(self.uri):
            self._client = MlflowClient(tracking_uri=self.uri)
            self._client.get_experiment_by_name(description.experiment)  # makes a new database
        run = self._existing(description.run_id or self._remembered(self._memory))
        if run is None:
            tags = {
                "mlflow.user": _user(),
                "mlflow.source.name": "mtl",
                "mlflow.source.type": "LOCAL",
                **description.tags,
            }
            if (parent := self._remembered(description.parent)) is not None:
                tags["mlflow.parentRunId"] = parent
            run = self._client.create_run(
                self._experiment(description.experiment),
                tags={key: cut(str(value)) for key, value in tags.items() if value is not None},
                run_name=description.run_name,
            )
        else:
            self._client.update_run(run.info.run_id, status="RUNNING")
            self._recorded = {}
        run_id = run.info.run_id
        write_atomically(  # at once: should the rest fail, the next attempt goes on with this run
            self._memory, to_json({"tracking_uri": redact(self.uri), "run_id": run_id}) + "\n"
        )
        known = run.data.params
        fresh = {
            key: value
            for key, value in safe_parameters(description.parameters).items()
            if key not in known  # MLflow refuses to change a parameter
        }
        self._log_parameters(run_id, fresh)
        self.run_id = run_id

    def write(self, points: Sequence[Point]) -> None:
        """Write at most ``POINTS_A_CALL`` points. Writing one twice is harmless.

        :raises RejectedError: if the store refuses the content.
        """
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        metrics = [
            Metric(point.name, point.value, point.milliseconds, point.step)
            for point in points
            if point.step > self._last_recorded(point.name)
        ]
        try:
            if metrics:
                self._client.log_batch(self.run_id, metrics=metrics)
        except MlflowException as error:
            if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise RejectedError(str(error)) from error
            raise

    def upload(self, path: Path) -> None:
        """Copy a file to the run's artifacts.

        :raises RejectedError: if there is no such file.
        """
        if not path.is_file():
            raise RejectedError(f"there is no file {path}")
        self._client.log_artifact(self.run_id, str(path))

    def close(self, status: str) -> None:
        """Set the run's final status."""
        mlflow_status = {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED")
        self._client.set_terminated(
            self.run_id, status=mlflow_status, end_time=time.time_ns() // 1_000_000
        )

    def _remembered(self, place: Path | None) -> str | None:
        """The id of the run of this store that a file remembers."""
        try:
            memory = json.loads(place.read_text(encoding="utf-8")) if place is not None else {}
            return memory["run_id"] if memory["tracking_uri"] == redact(self.uri) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _existing(self, run_id: str | None) -> Any:
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return None
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            if run.info.lifecycle_stage == "active":
                return run
        self._say(f"MLflow run {run_id} is no longer there; a new one is started")
        return None

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                    raise
                found = self._client.get_experiment_by_name(name)
        return found.experiment_id

    def _log_parameters(self, run_id: str, parameters: dict[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(key, value) for key, value in parameters.items()]
        for start in range(0, len(entities), PARAMETERS_A_CALL):
            self._client.log_batch(run_id, params=entities[start : start + PARAMETERS_A_CALL])

    def _last_recorded(self, name: str) -> int:
        # Steps between the checkpoint and the kill are computed again, equal to the bit; a second point at the
        # same step would only thicken the chart.
        if self._recorded is None:
            return -1
        if name not in self._recorded:
            history = self._client.get_metric_history(self.run_id, name)
            self._recorded[name] = max((metric.step for metric in history), default=-1)
        return self._recorded[name]


def tracking_uri(written: str | None = None) -> str:
    """The store to write to: the one that was written, else ``MLFLOW_TRACKING_URI``, else SQLite in the working
    directory, which is what a bare ``mlflow ui`` opens.

    A relative SQLite path is made absolute: MLflow names its lock on a new database after the URI.
    """
    uri = written or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    relative = re.fullmatch(r"sqlite:///([^/:].*)", uri)
    return f"sqlite:///{Path.cwd() / relative[1]}" if relative else uri


def safe_name(name: str) -> str:
    """``name`` with characters MLflow refuses replaced by ``_``."""
    return re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII)[:KEY_CHARACTERS]


def safe_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow takes them: safe names, values cut to ``VALUE_CHARACTERS``."""
    return {safe_name(key): cut(str(value)) for key, value in parameters.items()}


def cut(text: str) -> str:
    """At most ``VALUE_CHARACTERS`` of ``text``; a cut is shown by an ellipsis."""
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 3] + "..."


def redact(text: str) -> str:
    """``text`` without passwords of URIs."""
    return re.sub(r"(://[^/\s:@]*):[^/\s@]*@", r"\1:***@", text)


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep other processes of this user from making the same SQLite database at the same time.

    MLflow has a lock of its own around this, and yet two processes that start together on a new database fail with
    "table experiments already exists" (3.17.2).
    """
    if fcntl is None or not uri.startswith("sqlite:"):
        yield
        return
    digest = hashlib.sha256(f"{_user()} {uri}".encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"mtl-mlflow-{digest}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user name
        return "unknown"


def _not_about_mlflow(record: logging.LogRecord) -> bool:
    return "/api/2.0/mlflow" not in record.getMessage()
