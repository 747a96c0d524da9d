"""A study from its command to its page: searched, run, recorded in MLflow, with runs that go wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mtl import study
from mtl.comparing.results import RESULTS, Results
from mtl.config.study_schema import (
    ArmConfig,
    RangeConfig,
    SearchConfig,
    StudyConfig,
    StudyDefinition,
)
from mtl.record.folder import RunFolder
from mtl.studying.collecting import collect
from mtl.studying.plan import Job
from mtl.studying.study import Study
from mtl.studying.worker import work

TOY = """
name: toy
question: Which of these is better?
settings:
  - "tasks=[microworld_sentiment,microworld_entailment]"
  - decoder=micro
  - tokenizer.vocabulary=300
  - budget.tokens=5000
  - batch.tokens=512
  - evaluation.times=2
  - evaluation.rows=40
  - evaluation.selection_rows=40
  - evaluation.resamples=20
arms:
  hard_sharing: {settings: [strategy=hard_sharing]}
  explodes: {settings: [strategy=hard_sharing, optimizer.clip=null, optimizer.warmup=0], space: {optimizer.epsilon: {low: 1e-35, high: 1e-34, log: true}, optimizer.learning_rate: {low: 1e+30, high: 1e+31, log: true}}}
  zero_shot: {settings: [strategy=zero_shot, corpus.documents=100]}
baseline: {settings: [strategy=single_task], exposure: hard_sharing, forms: [divided, same_exposure]}
seeds: [0, 1]
search:
  trials: 2
  settings: [budget.tokens=4000]
  space:
    optimizer.learning_rate: {low: 0.001, high: 0.01, log: true}
"""  # noqa: E501


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "configs" / "study").mkdir(parents=True)
    (folder / "configs" / "study" / "toy.yaml").write_text(TOY, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> tuple[Results, str]:
    """The study, and what its command printed."""
    command = [
        sys.executable,
        "-m",
        "mtl.study",
        "study=toy",
        "--config-dir",
        "configs",
        "workers=2",
    ]
    ran = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
    return Results.read(place / "runs" / "study-toy"), ran.stdout


def test_every_run_is_there_and_those_that_went_wrong_say_why(done):
    results, _ = done
    endings = {arm.name: [run.ending for run in arm.runs] for arm in results.arms}
    good = ["finished", "finished"]
    assert endings == {
        "hard_sharing": good,
        "explodes": ["failed", "failed"],
        "zero_shot": good,
        "single_task_divided": good,
        "single_task_same_exposure": good,
    }
    broken = results.arm("explodes")
    assert [trial.ending for trial in broken.trials] == ["diverged", "diverged"]
    assert all(trial.reason for trial in broken.trials)
    assert broken.runs[0].reason == "no trial of the search of arm 'explodes' finished"


def test_the_best_trial_on_the_selection_split_is_run(done, place):
    results, _ = done
    arm = results.arm("hard_sharing")
    best = max(arm.trials, key=lambda trial: trial.values[0])
    assert arm.chosen == best.parameters
    folder = place / "runs" / "study-toy"
    for trial in arm.trials:
        summary = json.loads((folder / str(trial.run) / "summary.json").read_text())
        assert summary["average"]["value"] == trial.values[0]
        splits = {found["split"] for found in summary["tasks"].values()}
        predicted = {
            p.name.split(".")[1] for p in (folder / str(trial.run) / "predictions").iterdir()
        }
        assert predicted == splits
        assert not (folder / str(trial.run) / "checkpoints").exists()
    run = json.loads((folder / str(arm.runs[0].run) / "summary.json").read_text())
    assert {found["split"] for found in run["tasks"].values()}.isdisjoint(splits)
    assert run == arm.runs[0].summary


def test_arms_are_paired_and_the_baseline_repeats_the_exposure(done):
    results, _ = done
    shared = results.arm("hard_sharing").runs[0].summary
    alone = results.arm("single_task_same_exposure").runs[0].summary
    assert shared is not None
    assert alone is not None
    assert alone["ledger"]["tokens_by_task"] == shared["ledger"]["tokens_by_task"]
    assert alone["data"] == shared["data"]


def test_the_reference_is_tuned_on_the_rows_of_the_tuned_arm(done, place):
    results, _ = done
    folder = place / "runs" / "study-toy"
    source = json.loads((folder / "runs/hard_sharing/seed1000/summary.json").read_text())
    rate = dict(results.arm("hard_sharing").chosen)["optimizer.learning_rate"]
    assert f"learning_rate: {rate!r}" in (
        folder / "runs/hard_sharing/seed1000/config.yaml"
    ).read_text(encoding="utf-8")
    assert 4000 <= source["ledger"]["tokens"] < 5000  # the settings of the search are its own too
    trial = json.loads((folder / "tuning/hard_sharing/000/summary.json").read_text())
    assert {found["split"] for found in source["tasks"].values()} == {
        found["split"] for found in trial["tasks"].values()
    }
    for trial in results.arm("single_task_same_exposure").trials:
        alone = json.loads((folder / str(trial.run) / "summary.json").read_text())
        assert alone["ledger"]["tokens_by_task"] == source["ledger"]["tokens_by_task"]
    assert {run.seed for arm in results.arms for run in arm.runs} == {0, 1}


def test_text_is_tuned_by_its_likelihood(done, place):
    """By what selects its checkpoint, not by the tasks' labels."""
    results, _ = done
    for trial in results.arm("zero_shot").trials:
        run = RunFolder(place / "runs" / "study-toy" / str(trial.run))
        logged = [e["selection_average"] for e in run.read_metrics() if "selection_average" in e]
        assert trial.values == [max(logged)]
        assert trial.values[0] != json.loads(run.summary.read_text())["average"]["value"]


def test_it_ends_with_a_table_and_a_page(done, place):
    _, printed = done
    assert "hard_sharing" in printed
    assert "So few seeds cannot show any: 6 are needed." in " ".join(printed.split())
    assert printed.rstrip().endswith("page: runs/study-toy/report/index.html")
    assert (place / "runs" / "study-toy" / "report" / "index.html").is_file()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_mlflow_has_one_experiment_with_a_parent_and_a_run_for_each(done, place):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    (parent,) = [run for run in runs if run.data.tags.get("kind") == "study"]
    nested = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    assert sorted(run.data.tags["kind"] for run in nested) == (
        ["run"] * 8 + ["source"] + ["trial"] * 10
    )
    for run in nested:
        assert run.data.tags["study"] == "toy"
        assert {"arm", "strategy", "balance", "seed"} <= set(run.data.tags)
    final = [run for run in nested if run.data.tags["kind"] == "run"]
    assert all("microworld_sentiment/accuracy" in run.data.metrics for run in final)
    assert parent.info.status == "FINISHED"


def test_the_same_command_repeats_nothing(done, place):
    folder = place / "runs" / "study-toy"
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs").rglob("*")}
    command = [sys.executable, "-m", "mtl.study", "study=toy", "--config-dir", "configs"]
    ran = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert {p: p.stat().st_mtime_ns for p in (folder / "runs").rglob("*")} == before


def test_a_key_that_interrupts_is_obeyed(place):
    command = [sys.executable, "-m", "mtl.study", "study=toy", "--config-dir", "configs"]
    command += ["study_dir=stopped", "workers=1", "record.mlflow=false"]
    command += ["budget.tokens=4000000", "record.every=1"]  # longer than anybody waits
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True)
    metrics = place / "stopped" / "tuning" / "hard_sharing" / "000" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert said.rstrip().splitlines()[-1].startswith("interrupted; the same command goes on: ")
    assert (metrics.parent / "checkpoints" / "last.ckpt").is_file()
    results = Results.read(place / "stopped")
    assert {t.ending for arm in results.arms for t in arm.trials} == {"pending"}
    assert (place / "stopped" / RESULTS).is_file()


def test_want_of_memory_ends_a_run_and_not_the_study(tmp_path, monkeypatch):
    import mtl.execution

    definition = StudyDefinition(
        name="toy",
        question="?",
        arms={"a": ArmConfig(settings=["strategy=hard_sharing"])},
        settings=["tasks=[microworld_sentiment]", "decoder=micro", "record.mlflow=false"],
        seeds=[0],
    )
    made = Study(StudyConfig(study=definition, study_dir=str(tmp_path)))
    job = Job(kind="run", arm="a", number=0)

    def ran(error: BaseException) -> Any:
        def fit(*given: Any, **more: Any) -> None:
            raise error

        monkeypatch.setattr(mtl.execution, "fit", fit)
        return made.runner.run(
            job, {}, reported={}, stop=lambda s, v: False, parent=tmp_path / "mlflow.json"
        )

    assert ran(MemoryError("no room")).ending == "out_of_memory"
    words = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
    assert ran(RuntimeError(words)).ending == "out_of_memory"
    assert ran(RuntimeError("CUDA out of memory. Tried to allocate")).reason is not None
    with pytest.raises(RuntimeError, match="a fault"):  # what is a fault of ours is not hidden
        ran(RuntimeError("a fault"))


def test_a_trial_that_is_stopped_has_what_it_had_reached(tmp_path, monkeypatch):
    settings = [
        "tasks=[microworld_sentiment]",
        "strategy=hard_sharing",
        "decoder=micro",
        "tokenizer.vocabulary=300",
        "budget.tokens=3000",
        "batch.tokens=512",
        "evaluation.times=3",
        "evaluation.selection_rows=40",
        "evaluation.resamples=20",
        "record.mlflow=false",
    ]
    space = {"optimizer.learning_rate": RangeConfig(low=0.001, high=0.01)}
    definition = StudyDefinition(
        name="toy",
        question="?",
        arms={"a": ArmConfig()},
        settings=settings,
        seeds=[0],
        search=SearchConfig(trials=2, pruner="median", space=space),
    )
    made = Study(StudyConfig(study=definition, study_dir=str(tmp_path / "toy")))
    made.folder.mkdir()
    made.queue.prepare(made.definition())
    # The median of one trial before it is no ground to stop a second one: here its second look is.
    monkeypatch.setattr(
        made.searches["a"], "should_stop", lambda index, ended, known: (index, len(known)) == (1, 2)
    )
    work(made)
    (arm,) = collect(made, made.queue.records()).arms
    (first, second), (run,) = arm.trials, arm.runs
    assert (first.ending, second.ending, run.ending) == ("finished", "pruned", "finished")
    seen = [
        entry["selection_average"]
        for entry in RunFolder(made.folder / str(second.run)).read_metrics()
        if "selection_average" in entry
    ]
    assert (len(seen), second.reached, second.values) == (2, seen[1], [])
    assert (first.reached, 0 < second.tokens < first.tokens) == (None, True)


def test_from_python(place, done, monkeypatch):
    monkeypatch.chdir(place)
    found = study.run(["study=toy"], config_dir="configs")
    assert found.arms == done[0].arms
