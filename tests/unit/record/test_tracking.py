"""The tracker against a store that is slow, dead or choosy; real MLflow stores are tested in integration."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtl.record import tracking
from mtl.record.folder import RunFolder
from mtl.record.recorder import Recorder
from mtl.record.store import (
    Description,
    Point,
    RejectedError,
    cut,
    redact,
    safe_name,
    safe_parameters,
    tracking_uri,
)
from mtl.record.tracking import MlflowTracker, NullTracker, make_tracker


class FakeStore:
    """What a test tells it to be."""

    def __init__(self, uri: str, memory: Path, say: Callable[[str], None]):
        self.run_id: str | None = None
        self.points: list[Point] = []
        self.files: list[Path] = []
        self.status: str | None = None
        self.failures = 0
        self.delay = 0.0
        self.refused: set[str] = set()

    def prepare(self) -> None:
        pass

    def open(self, description: Description) -> None:
        self._meet_failure()
        self.run_id = "1"

    def write(self, points: list[Point]) -> None:
        self._meet_failure()
        if self.refused & {point.name for point in points}:
            raise RejectedError("refused")
        self.points += points

    def upload(self, path: Path) -> None:
        self.files.append(path)

    def close(self, status: str) -> None:
        self.status = status

    def _meet_failure(self) -> None:
        time.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            raise OSError("no route to http://me:secret@host")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]) -> MlflowTracker:
    monkeypatch.setattr(tracking, "Store", FakeStore)
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.05)
    return MlflowTracker(uri="http://me:secret@host", memory=tmp_path / "memory", say=said.append)


def store_of(tracker: MlflowTracker) -> FakeStore:
    store: Any = tracker._store
    return store


def start(tracker: MlflowTracker) -> None:
    tracker.start(experiment="suite", run_name="run", parameters={}, tags={})


def test_everything_arrives_in_order(tracker: MlflowTracker, capsys: Any) -> None:
    start(tracker)
    for step in range(5000):
        tracker.log(step, {"a/loss": step / 2})
    tracker.artifact(Path("config.yaml"))
    tracker.finish("finished")
    store = store_of(tracker)
    assert [(point.step, point.value) for point in store.points] == [
        (step, step / 2) for step in range(5000)
    ]
    assert (store.files, store.status) == ([Path("config.yaml")], "finished")
    assert capsys.readouterr().err == ""


def test_a_slow_store_does_not_hold_up_a_step(tracker: MlflowTracker) -> None:
    store_of(tracker).delay = 0.3
    start(tracker)
    began = time.perf_counter()
    for step in range(1000):
        tracker.log(step, {"a/loss": 1.0})
    assert time.perf_counter() - began < 0.3
    tracker.finish("finished")
    assert len(store_of(tracker).points) == 1000


def test_after_a_failure_nothing_is_missing_and_it_was_said_once(
    tracker: MlflowTracker, said: list[str], capsys: Any
) -> None:
    store_of(tracker).failures = 2
    start(tracker)
    tracker.log(1, {"a/loss": 1.0})
    while store_of(tracker).failures:
        time.sleep(0.01)
    tracker.log(2, {"a/loss": 2.0})
    tracker.finish("interrupted")
    assert [point.step for point in store_of(tracker).points] == [1, 2]
    assert store_of(tracker).status == "interrupted"
    message = (
        "warning: MLflow cannot be written at http://me:***@host: OSError: no route to http://me:***@host;"
        " the run goes on, its own folder holds everything"
    )
    assert said == [message]
    assert capsys.readouterr().err == message + "\n"


def test_what_never_arrives_is_counted(tracker: MlflowTracker, said: list[str]) -> None:
    store_of(tracker).failures = 10_000
    start(tracker)
    for step in range(3):
        tracker.log(step, {"a/loss": 1.0, "b/loss": 2.0})
    tracker.artifact(Path("config.yaml"))
    tracker.finish("finished")
    assert len(said) == 2
    assert "6 values, 1 files (OSError" in said[1]
    tracker.finish("finished")
    assert len(said) == 2


def test_refused_content_does_not_block_the_rest(
    tracker: MlflowTracker, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "POINTS_A_CALL", 1)
    store_of(tracker).refused = {"bad"}
    start(tracker)
    tracker.log(1, {"bad": 1.0, "good": 2.0})
    tracker.finish("finished")
    assert [point.name for point in store_of(tracker).points] == ["good"]
    assert len(said) == 1
    assert "1 refused (RejectedError: refused)" in said[0]


def test_a_store_that_hangs_is_left_behind(
    tracker: MlflowTracker, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.2)
    store_of(tracker).delay = 2.0
    start(tracker)
    tracker.log(1, {"a": 1.0})
    began = time.perf_counter()
    tracker.finish("finished")
    assert time.perf_counter() - began < 1.0
    assert "1 values" in said[-1]


def test_mlflow_that_cannot_be_imported_is_said(tracker: MlflowTracker, said: list[str]) -> None:
    def broken() -> None:
        raise ImportError("No module named 'mlflow'")

    store_of(tracker).prepare = broken  # type: ignore[method-assign]
    start(tracker)
    tracker.log(1, {"a": 1.0})
    tracker.finish("finished")
    assert "ImportError: No module named 'mlflow'" in said[0]
    assert "1 values" in said[1]


def test_ending_a_tracker_that_never_began_says_nothing(
    tracker: MlflowTracker, said: list[str]
) -> None:
    tracker.finish("failed")
    assert said == []


def test_the_recorder_writes_the_folder_and_the_tracker(
    tracker: MlflowTracker, tmp_path: Path
) -> None:
    recorder = Recorder(RunFolder(tmp_path), tracker)
    start(tracker)
    recorder.metrics(20, 81920, {"sst2/loss": 0.25, "learning_rate": float("inf")})
    tracker.finish("finished")
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 20, "tokens": 81920, "sst2/loss": 0.25, "learning_rate": null}\n'
    )
    assert [(point.name, point.step) for point in store_of(tracker).points] == [
        ("sst2/loss", 81920),
        ("learning_rate", 81920),
    ]
    with pytest.raises(ValueError, match="tokens"):
        recorder.metrics(1, 1, {"tokens": 2.0})


def test_no_tracker_where_it_is_switched_off(tmp_path: Path) -> None:
    assert isinstance(make_tracker(RunFolder(tmp_path), enabled=False), NullTracker)


def test_which_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri("sqlite:///sub/x.db") == f"sqlite:///{tmp_path}/sub/x.db"
    assert tracking_uri("sqlite:////abs/x.db") == "sqlite:////abs/x.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert tracking_uri() == "http://host:5000"
    assert tracking_uri("sqlite:////abs/x.db") == "sqlite:////abs/x.db"


def test_names_and_values_mlflow_takes() -> None:
    assert safe_name("sst2/accuracy") == "sst2/accuracy"
    assert safe_name("λ(a)=b") == "__a__b"
    assert safe_parameters({"optimizer.betas": [0.9, 0.95], "seed": None}) == {
        "optimizer.betas": "[0.9, 0.95]",
        "seed": "None",
    }
    assert cut("x" * 500) == "x" * 500
    assert cut("x" * 501) == "x" * 497 + "..."
    assert redact("at http://me:secret@host/x") == "at http://me:***@host/x"
