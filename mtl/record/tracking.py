"""MLflow beside training: never in its way, and never a reason to stop.

Values go into a queue; a thread of its own writes them. When the store fails, training goes on, the failure is
said once, writing is tried again now and then, and what never got there is counted at the end. Nothing is lost by
that: metrics.jsonl and summary.json hold every value.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtl.record.folder import RunFolder
from mtl.record.store import (
    POINTS_A_CALL,
    Description,
    Point,
    RejectedError,
    Store,
    redact,
    safe_name,
    tracking_uri,
)

Ending = Literal["finished", "interrupted", "failed"]

FLUSH_SECONDS = 1.0
"""Values wait at most this long before they are written."""
RETRY_SECONDS = 30.0
"""Pause after a failure."""
PATIENCE_SECONDS = 60.0
"""The end of a run waits at most this long for a store that is slow; one that fails is given up at once."""


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Where a run stands among others in MLflow."""

    parent: Path
    """File that remembers the run it is nested under."""
    tags: Mapping[str, str]
    """Beside the run's own."""
    run_name: str


class Tracker(ABC):
    """What training tells about a run. No method raises for a store that fails, and none waits but ``finish``."""

    @abstractmethod
    def start(
        self,
        *,
        experiment: str,
        run_name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, Any],
        run_id: str | None = None,
        parent: Path | None = None,
    ) -> None:
        """Begin, or go on with the run that was begun before the process was stopped.

        :param experiment: Name of the suite or study.
        :param parameters: Flat copy of the config, for searching; long values are cut (config.yaml is whole).
        :param tags: ``strategy``, ``balance``, ``seed``, ``suite``, ``commit``, ...; None values are left out.
        :param run_id: An existing run to go on with; None is the one this run folder remembers, else a new one.
        :param parent: The file that remembers the run to nest under (``RunFolder.tracking`` of its folder). While it
            is not there, its store has not answered, and nothing is written here either until the run ends.
        """

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record values named ``<task>/<metric>``.

        :param step: Tokens consumed, MLflow's x axis.
        """

    @abstractmethod
    def artifact(self, path: Path) -> None:
        """Attach a file, as it is when it is its turn."""

    @abstractmethod
    def finish(self, status: Ending) -> None:
        """Write what waits and close the run; returns within ``PATIENCE_SECONDS``."""


class NullTracker(Tracker):
    """Tracks nothing (``record.mlflow=false``)."""

    def start(
        self,
        *,
        experiment: str,
        run_name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, Any],
        run_id: str | None = None,
        parent: Path | None = None,
    ) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def artifact(self, path: Path) -> None:
        pass

    def finish(self, status: Ending) -> None:
        pass


def make_tracker(folder: RunFolder, *, enabled: bool = True, uri: str | None = None) -> Tracker:
    """The tracker of a run folder; the one that tracks nothing where it is not enabled.

    :param uri: MLflow tracking URI; None is ``MLFLOW_TRACKING_URI`` or SQLite in the working directory.
    """
    if not enabled:
        return NullTracker()
    return MlflowTracker(uri=uri, memory=folder.tracking, say=folder.say)


class MlflowTracker(Tracker):
    """Writes to MLflow from a thread of its own.

    :param uri: As in :func:`make_tracker`.
    :param memory: File that remembers the run's id between processes.
    :param say: Receives each message a second time, for log.txt.
    """

    def __init__(self, *, uri: str | None = None, memory: Path, say: Callable[[str], None]):
        self.uri = tracking_uri(uri)
        self._say = say
        self._store = Store(self.uri, memory, say)
        self._queue: queue.SimpleQueue[Point | Path | Ending] = queue.SimpleQueue()
        self._points: list[Point] = []
        self._files: list[Path] = []
        self._description: Description | None = None
        self._ending: Ending | None = None
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self._rejected = 0
        self._closed = False

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run; None until the store has answered."""
        return self._store.run_id

    def start(
        self,
        *,
        experiment: str,
        run_name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, Any],
        run_id: str | None = None,
        parent: Path | None = None,
    ) -> None:
        if self._thread is not None:
            raise RuntimeError("the tracker was started already")
        self._description = Description(
            experiment=experiment,
            run_name=run_name,
            parameters=dict(parameters),
            tags=dict(tags),
            run_id=run_id,
            parent=parent,
        )
        try:
            self._store.prepare()
        except Exception as error:  # a broken installation of mlflow is no reason not to train
            self._fail(error)
            return
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        for name, value in values.items():
            self._queue.put(Point(safe_name(name), float(value), now, step))

    def artifact(self, path: Path) -> None:
        self._queue.put(Path(path))

    def finish(self, status: Ending) -> None:
        if self._closed or self._description is None:
            return
        if self._thread is not None:
            self._queue.put(status)
            self._thread.join(PATIENCE_SECONDS)
            if self._thread.is_alive():
                self._failure = self._failure or f"no answer for {PATIENCE_SECONDS:.0f} seconds"
        self._drain(wait=0)
        points, files = len(self._points), len(self._files)
        if points or files or self._rejected or not self._closed:
            what = [f"{points} values" if points else "", f"{files} files" if files else ""]
            what.append(f"{self._rejected} refused" if self._rejected else "")
            missing = ", ".join(filter(None, what)) or "the end of the run"
            self._warn(f"not written to MLflow at {redact(self.uri)}: {missing} ({self._failure})")
        self._closed = True

    def _work(self) -> None:
        next_attempt = 0.0
        while not self._closed:
            self._drain(wait=FLUSH_SECONDS)
            if time.monotonic() < next_attempt and self._ending is None:
                continue
            try:
                self._attempt()
            except Exception as error:
                self._fail(error)
                next_attempt = time.monotonic() + RETRY_SECONDS
                if self._ending is not None:
                    return

    def _drain(self, *, wait: float) -> None:
        try:
            item = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            while True:
                if isinstance(item, Point):
                    self._points.append(item)
                elif isinstance(item, Path):
                    self._files.append(item)
                else:
                    self._ending = item
                item = self._queue.get_nowait()
        except queue.Empty:
            return

    def _attempt(self) -> None:
        if self._store.run_id is None:
            assert self._description is not None
            parent = self._description.parent
            if parent is not None and not parent.is_file() and self._ending is None:
                return
            self._store.open(self._description)
        while self._points:
            batch = self._points[:POINTS_A_CALL]
            try:
                self._store.write(batch)
            except RejectedError as error:
                self._reject(len(batch), error)
            del self._points[: len(batch)]
        while self._files:
            try:
                self._store.upload(self._files[0])
            except RejectedError as error:
                self._reject(1, error)
            del self._files[0]
        if self._ending is not None:
            self._store.close(self._ending)
            self._closed = True

    def _reject(self, count: int, error: Exception) -> None:
        self._rejected += count
        self._failure = self._failure or _reason(error)

    def _fail(self, error: Exception) -> None:
        first = self._failure is None
        self._failure = _reason(error)
        if first:
            self._warn(
                f"MLflow cannot be written at {redact(self.uri)}: {self._failure};"
                " the run goes on, its own folder holds everything"
            )

    def _warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)
        self._say(f"warning: {text}")


def _reason(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause  # MLflow wraps "connection refused" in half a page
    lines = str(error).strip().splitlines() or [""]
    text = redact(lines[0])
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:197] + '...'}"
