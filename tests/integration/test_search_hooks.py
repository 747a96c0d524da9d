"""What a search and a study ask of a run: the selection split alone, each task's own checkpoint, and being told."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtl import evaluate
from mtl.config.compose import compose
from mtl.config.errors import Interrupted, Stopped
from mtl.config.schema import FitConfig
from mtl.execution import fit
from mtl.record.run import Run
from mtl.record.tracking import Nested

TASKS = ("microworld_sentiment", "microworld_entailment", "microworld_pronoun")
SETTINGS = [
    f"tasks=[{','.join(TASKS)}]",
    "decoder=micro",
    "tokenizer.vocabulary=400",
    "budget.tokens=24000",
    "batch.tokens=512",
    "optimizer.learning_rate=1e-2",
    "seed=1",
    "evaluation.times=6",
    "evaluation.selection_rows=60",
    "evaluation.rows=60",
    "evaluation.resamples=20",
    "record.mlflow=false",
    "record.checkpoint_every=5",
]


def config(*settings: str, to: Path) -> FitConfig:
    return compose("fit", FitConfig, [*SETTINGS, *settings, f"run_dir={to}"])


def ran(given: FitConfig, **hooks: Any) -> Run:
    found = fit(given, **hooks)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[tuple[int, int, float]]]:
    """A run with all of it, and what was told of it."""
    told: list[tuple[int, int, float]] = []
    place = tmp_path_factory.mktemp("whole") / "run"
    given = config("strategy=hard_sharing", "evaluation.per_task=true", to=place)
    return ran(given, watch=lambda *values: told.append(values)), told


def without_seconds(summary: Any) -> Any:
    found = json.loads(json.dumps(summary))
    for name in ("seconds", "peak_memory_bytes"):
        del found["ledger"][name]
    return found


def test_each_task_stands_at_its_own_best_scoring(whole):
    run, _ = whole
    best: dict[str, tuple[float, int]] = {}
    for entry in run.folder.read_metrics():
        for task in TASKS:
            value = entry.get(f"{task}/selection_accuracy")
            if value is not None and value > best.get(task, (-1.0, 0))[0]:
                best[task] = (value, entry["step"])
    own = {task: run.summary["tasks"][task]["own_checkpoint"]["step"] for task in TASKS}
    assert own == {task: step for task, (_, step) in best.items()}
    assert len(set(own.values())) > 1, "the tasks are best at one step: the test shows nothing"
    values = [
        (found["own_checkpoint"]["metrics"]["accuracy"]["value"] - found["chance"])
        / (1 - found["chance"])
        for found in run.summary["tasks"].values()
    ]
    average = run.summary["average_of_own_checkpoints"]["value"]
    assert average == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]


def test_a_task_at_its_own_checkpoint_scores_what_those_weights_score(whole, tmp_path):
    """Training again until that step and no further gives the same score."""
    run, _ = whole
    chosen = max(TASKS, key=lambda task: run.summary["tasks"][task]["own_checkpoint"]["step"])
    own = run.summary["tasks"][chosen]["own_checkpoint"]

    class EnoughError(Exception):
        pass

    def watch(step: int, tokens: int, value: float) -> None:
        if step == own["step"]:
            raise EnoughError

    given = config(
        "strategy=hard_sharing",
        "evaluation.per_task=true",
        "record.checkpoint_every=1",
        to=tmp_path / "run",
    )
    with pytest.raises(EnoughError):
        fit(given, watch=watch)
    kept = tmp_path / "run" / "checkpoints" / f"step-{own['step']}.ckpt"
    kept.rename(kept.with_name("best.ckpt"))
    scores = evaluate.run([f"run={tmp_path / 'run'}", f"tasks=[{chosen}]", "rows=60"])
    measured = scores[chosen]["metrics"]["accuracy"]["value"]
    assert measured == own["metrics"]["accuracy"]["value"]


def test_all_is_told_once_and_in_order(whole):
    run, told = whole
    logged = [
        (entry["step"], entry["tokens"], entry["selection_average"])
        for entry in run.folder.read_metrics()
        if "selection_average" in entry
    ]
    assert told == logged
    assert len(told) == 6


def test_a_run_that_was_interrupted_is_told_of_the_rest_and_ends_the_same(whole, tmp_path):
    run, told = whole
    first: list[tuple[int, int, float]] = []

    def watch(*values: Any) -> None:
        first.append(values)
        if len(first) == 3:
            raise Interrupted(15)

    given = config("strategy=hard_sharing", "evaluation.per_task=true", to=tmp_path / "run")
    with pytest.raises(Interrupted):
        fit(given, watch=watch)
    second: list[tuple[int, int, float]] = []
    again = ran(given, watch=lambda *values: second.append(values))
    assert first == told[:3]
    assert second == told[2:]  # the third was not saved, and is told again
    assert without_seconds(again.summary) == without_seconds(run.summary)


def test_a_run_is_stopped_and_can_go_on(whole, tmp_path):
    def watch(step: int, tokens: int, value: float) -> None:
        raise Stopped("it is behind")

    given = config("strategy=hard_sharing", "evaluation.per_task=true", to=tmp_path / "run")
    with pytest.raises(Stopped):
        fit(given, watch=watch)
    assert "stopped: it is behind" in (tmp_path / "run" / "log.txt").read_text()
    assert not (tmp_path / "run" / "summary.json").exists()
    assert without_seconds(ran(given).summary) == without_seconds(whole[0].summary)


@pytest.mark.parametrize("strategy", ["hard_sharing", "task_signal", "single_task"])
def test_scores_of_the_selection_split(tmp_path, strategy):
    """They are those of mtl.evaluate, and the reported split is not written."""
    given = config(f"strategy={strategy}", "evaluation.split=selection", to=tmp_path / "run")
    run = ran(given)
    scores = evaluate.run([f"run={run.path}", "split=selection", "rows=60", "resamples=20"])
    for task, found in run.summary["tasks"].items():
        assert found["metrics"] == scores[task]["metrics"]
        assert found["split"] == scores[task]["split"]
    predicted = [path.name for path in (run.path / "predictions").iterdir()]
    assert sorted(predicted) == sorted(f"{task}.{scores[task]['split']}.parquet" for task in TASKS)

    reported = evaluate.run([f"run={run.path}", "resamples=20"])
    for task in TASKS:
        assert reported[task]["split"] != scores[task]["split"]
        assert (run.path / "predictions" / f"{task}.{reported[task]['split']}.parquet").is_file()


def test_alone_the_own_checkpoint_is_the_best_one_whichever_is_reported(tmp_path):
    """With the last checkpoint reported the own one is still the best, as a run that reports the best has it."""
    given = ["strategy=single_task", "evaluation.per_task=true"]
    best = ran(config(*given, to=tmp_path / "best"))
    last = ran(config(*given, "evaluation.checkpoint=last", to=tmp_path / "last"))
    own = [
        {
            task: found["own_checkpoint"]["metrics"]["accuracy"]
            for task, found in run.summary["tasks"].items()
        }
        for run in (best, last)
    ]
    assert own[0] == own[1]


def test_a_signal_counts_more_than_a_run_that_falls_behind(tmp_path):
    def watch(step: int, tokens: int, value: float) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise Stopped("it is behind")

    with pytest.raises(Interrupted):
        fit(config("strategy=hard_sharing", to=tmp_path / "run"), watch=watch)


def test_alone_every_checkpoint_is_the_tasks_own(tmp_path):
    run = ran(config("strategy=single_task", "evaluation.per_task=true", to=tmp_path / "run"))
    for found in run.summary["tasks"].values():
        assert found["own_checkpoint"]["metrics"] == found["metrics"]
    assert run.summary["average_of_own_checkpoints"] == run.summary["average"]


def test_running_text_has_no_checkpoint_for_a_task(tmp_path):
    settings = ["strategy=zero_shot", "corpus.documents=200", "evaluation.per_task=true"]
    told: list[float] = []
    run = ran(config(*settings, to=tmp_path / "run"), watch=lambda s, t, value: told.append(value))
    assert all("own_checkpoint" not in found for found in run.summary["tasks"].values())
    assert len(told) == 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_nested_run_has_its_tags_and_its_parent(tmp_path):
    from mlflow import MlflowClient

    from mtl.record.tracking import MlflowTracker

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    parent: Any = MlflowTracker(uri=uri, memory=tmp_path / "parent.json", say=lambda text: None)
    parent.start(experiment="toy", run_name="study toy", parameters={}, tags={})
    parent.finish("finished")
    given = config("strategy=hard_sharing", to=tmp_path / "run")
    given = replace(
        given, record=replace(given.record, mlflow=True, tracking_uri=uri, experiment="toy")
    )
    tags = {"study": "toy", "arm": "a", "kind": "run"}
    nested = Nested(parent=tmp_path / "parent.json", tags=tags, run_name="a seed 0")
    ran(given, nested=nested)
    memory = json.loads((tmp_path / "run" / "mlflow.json").read_text())
    run = MlflowClient(tracking_uri=uri).get_run(memory["run_id"])
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert {name: run.data.tags[name] for name in tags} == tags
    assert run.data.tags["mlflow.runName"] == "a seed 0"
