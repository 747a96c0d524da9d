"""The tracker against real MLflow stores: SQLite, a dead server, and SQLite made by several processes at once."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mtl.record.folder import RunFolder
from mtl.record.tracking import MlflowTracker, Tracker, make_tracker

# MLflow's own use of SQLAlchemy 2.1 and of its queries warns; not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

PARAMETERS = {"seed": 3, "optimizer.betas": [0.9, 0.95], "long": "x" * 9000, "λ": 1}


def start(tracker: Tracker, **more: Any) -> None:
    arguments: dict[str, Any] = {
        "parameters": PARAMETERS,
        "tags": {"strategy": "mt_dnn", "commit": None},
    }
    tracker.start(experiment="microworld", run_name="a run", **{**arguments, **more})


PROGRAM = """
from pathlib import Path
from mtl.record.folder import RunFolder
from mtl.record.tracking import make_tracker
folder = RunFolder.dated("", strategy="s", seed=0, parent=Path("."))
tracker = make_tracker(folder)
tracker.start(experiment="suite", run_name=folder.path.name, parameters={"a": 1}, tags={})
tracker.log(1, {"a/loss": 1.0})
tracker.finish("finished")
"""


@pytest.fixture(scope="module")
def made_together(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """URI of a database that two processes made at once in their working directory, and their stderrs."""
    place = tmp_path_factory.mktemp("together")
    environment = {
        name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=place,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    return f"sqlite:///{place}/mlflow.db", [process.communicate()[1] for process in processes]


@pytest.fixture(scope="module")
def uri(made_together: tuple[str, list[str]]) -> str:
    return made_together[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)  # artifacts go to ./mlruns
    return RunFolder.dated("seed: 3\n", strategy="mt_dnn", seed=3, parent=tmp_path)


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(uri).get_metric_history(run_id, name)]


def test_a_run_stopped_and_continued_is_one_run(uri: str, folder: RunFolder, capfd: Any) -> None:
    first: Any = make_tracker(folder, uri=uri)
    start(first)
    for step in (1000, 2000, 3000):
        first.log(step, {"sst2/loss": 1 / step, "sst2/f1 (macro)": math.nan})
    first.finish("interrupted")
    run = client(uri).get_run(first.run_id)
    assert run.info.status == "KILLED"
    assert run.info.run_name == "a run"
    assert run.data.params == {
        "seed": "3",
        "optimizer.betas": "[0.9, 0.95]",
        "long": "x" * 497 + "...",
        "_": "1",
    }
    assert run.data.tags["strategy"] == "mt_dnn"
    assert "commit" not in run.data.tags

    second: Any = make_tracker(folder, uri=uri)
    start(second, parameters={"seed": 4, "new": 5})
    for step in (2000, 3000, 4000):  # two of them were written before the stop
        second.log(step, {"sst2/loss": 1 / step})
    second.artifact(folder.config)
    second.finish("finished")
    assert second.run_id == first.run_id
    run = client(uri).get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["seed"], run.data.params["new"]) == ("3", "5")
    assert history(uri, first.run_id, "sst2/loss") == [(s, 1 / s) for s in (1000, 2000, 3000, 4000)]
    assert [artifact.path for artifact in client(uri).list_artifacts(first.run_id)] == [
        "config.yaml"
    ]
    experiment = client(uri).get_experiment(run.info.experiment_id)
    assert experiment.name == "microworld"
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")
    assert not folder.log.exists()


def test_a_run_that_was_deleted_is_begun_anew(uri: str, folder: RunFolder) -> None:
    first: Any = make_tracker(folder, uri=uri)
    start(first)
    first.finish("interrupted")
    client(uri).delete_run(first.run_id)
    second: Any = make_tracker(folder, uri=uri)
    start(second)
    second.log(1, {"a/loss": 1.0})
    second.finish("finished")
    assert second.run_id not in (None, first.run_id)
    assert f"MLflow run {first.run_id} is no longer there" in folder.log.read_text()


def test_a_run_lies_under_its_parent(uri: str, folder: RunFolder, tmp_path: Path) -> None:
    """Also where the parent's store answers late: nothing is written before, and nothing waits."""
    tracker: Any = make_tracker(folder, uri=uri)
    start(tracker, parent=tmp_path / "parent.json")
    tracker.log(1, {"a/loss": 1.0})
    time.sleep(1.5)
    assert tracker.run_id is None
    parent: Any = MlflowTracker(uri=uri, memory=tmp_path / "parent.json", say=folder.say)
    start(parent)
    parent.finish("finished")
    tracker.finish("failed")
    run = client(uri).get_run(tracker.run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert run.data.metrics == {"a/loss": 1.0}
    assert run.info.status == "FAILED"


def test_a_run_whose_parent_never_came_is_not_lost(
    uri: str, folder: RunFolder, tmp_path: Path
) -> None:
    tracker: Any = make_tracker(folder, uri=uri)
    start(tracker, parent=tmp_path / "parent.json")
    tracker.log(1, {"a/loss": 1.0})
    tracker.finish("finished")
    run = client(uri).get_run(tracker.run_id)
    assert "mlflow.parentRunId" not in run.data.tags
    assert run.data.metrics == {"a/loss": 1.0}


def test_a_dead_server_costs_seconds_and_stops_nothing(folder: RunFolder, capfd: Any) -> None:
    with socket.socket() as held:  # bound and never listening: connections are refused
        held.bind(("127.0.0.1", 0))
        tracker = make_tracker(folder, uri=f"http://127.0.0.1:{held.getsockname()[1]}")
        began = time.monotonic()
        start(tracker)
        for step in range(100):
            tracker.log(step, {"sst2/loss": 1.0})
        tracker.finish("finished")
    assert time.monotonic() - began < 15
    first, last = capfd.readouterr().err.splitlines()
    assert "Connection refused; the run goes on" in first
    assert "100 values" in last
    assert first in folder.log.read_text()


def test_a_locked_place_stops_nothing(folder: RunFolder, capfd: Any) -> None:
    (folder.path / "file").write_text("")
    tracker = make_tracker(folder, uri=f"sqlite:///{folder.path}/file/mlflow.db")
    start(tracker)
    tracker.log(1, {"a/loss": 1.0})
    tracker.finish("finished")
    assert "1 values" in capfd.readouterr().err


def test_processes_that_start_together_share_a_new_database(
    made_together: tuple[str, list[str]],
) -> None:
    uri, errors = made_together
    assert errors == ["", ""]
    experiment = client(uri).get_experiment_by_name("suite")
    runs = client(uri).search_runs([experiment.experiment_id])
    assert [(run.info.status, run.data.metrics) for run in runs] == [
        ("FINISHED", {"a/loss": 1.0})
    ] * 2
