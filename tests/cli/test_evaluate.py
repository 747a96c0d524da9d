"""``python -m mtl.evaluate`` on finished runs of a person's own tasks."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

from mtl import evaluate
from mtl.record.run import Run


@pytest.fixture
def world(tmp_path_factory, monkeypatch):
    """The folder with data and finished runs; the tests stand in it and change nothing there."""
    folder = moods.world(tmp_path_factory)
    monkeypatch.chdir(folder)
    before = moods.tree(folder)
    yield folder
    assert moods.tree(folder) == before


def copied(world, name, tmp_path):
    """A run that a test may write in."""
    return str(shutil.copytree(world / name, tmp_path / name))


def problems(err):
    return [line for line in err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("name", ["task_signal", "mt_dnn", "zero_shot"])
def test_the_same_checkpoint_on_the_same_rows_gives_the_same_scores(world, name):
    scores = evaluate.run([f"run={name}", "resamples=50"])
    assert scores == Run(name).summary["tasks"]


@pytest.mark.parametrize(
    ("name", "panel"),
    [("task_signal", "supervised"), ("mt_dnn", "supervised"), ("zero_shot", "zero-shot")],
)
def test_a_run_says_which_panel_it_belongs_in(world, name, panel):
    assert Run(name).summary["panel"] == panel


def test_what_the_run_recorded_is_not_touched(world):
    moods.command("evaluate", "run=mt_dnn", "rows=3", "checkpoint=last")


def test_last_and_best_are_two_checkpoints(world, tmp_path):
    run = copied(world, "mt_dnn", tmp_path)
    best = Path(run) / "checkpoints" / "best.ckpt"

    def score(which):
        return evaluate.run([f"run={run}", "tasks=[moods]", "resamples=1", f"checkpoint={which}"])

    assert score("best")["moods"]["metrics"]["accuracy"]["value"] == 1.0
    last = score("last")
    saved = torch.load(best, weights_only=True)
    saved["state_dict"] = {key: -weight for key, weight in saved["state_dict"].items()}
    torch.save(saved, best)
    assert score("best")["moods"]["metrics"]["accuracy"]["value"] < 1.0
    assert score("last") == last


def test_the_selection_rows_are_those_the_run_cut(world, tmp_path):
    run = copied(world, "task_signal", tmp_path)
    scores = evaluate.run([f"run={run}", "split=selection", "checkpoint=last"])
    assert {score["split"] for score in scores.values()} == {"train"}
    assert {score["rows"] for score in scores.values()} == {12}
    (note,) = scores["moods"]["notes"]
    assert note == "12 of 120 rows of train, seed 0"
    # The last scoring of the run saw the same rows with the same weights.
    logged = Run(run).metrics.iloc[-1]
    assert scores["moods"]["metrics"]["accuracy"]["value"] == logged["moods/selection_accuracy"]
    assert len(Run(run).predictions("moods", "train")) == 12


def test_a_cut_is_said_in_the_table_and_in_the_file(world, tmp_path):
    out = tmp_path / "scores.json"
    status, text, err = moods.command(
        "evaluate", "run=mt_dnn", "tasks=[pairs]", "rows=5", f"out={out}"
    )
    assert (status, err) == (0, "")
    assert "pairs: 5 of 24 rows scored, spread evenly" in text
    written = json.loads(out.read_text())
    assert list(written) == ["tasks"]
    assert written["tasks"]["pairs"]["rows"] == 5
    assert written["tasks"]["pairs"]["notes"] == ["5 of 24 rows scored, spread evenly"]
    assert written["tasks"] == evaluate.run(["run=mt_dnn", "tasks=[pairs]", "rows=5"])


def test_a_model_of_text_answers_tasks_it_never_saw(world, tmp_path):
    run = copied(world, "zero_shot", tmp_path)
    moods.write(
        tmp_path / "more" / "task" / "gloom.yaml",
        moods.MOODS.replace(
            "labels: [bad, good]", "labels: [bad, good]\nanswers: [' sad', ' warm']"
        ),
    )
    scores = evaluate.run([f"run={run}", "tasks=[gloom]"], config_dir=str(tmp_path / "more"))
    assert scores["gloom"]["rows"] == 24
    assert len(Run(run).predictions("gloom")) == 24


@pytest.mark.parametrize("signal", ["shuffled", "wrong"])
def test_a_control_says_so_and_leaves_the_run_as_it_is(world, tmp_path, signal):
    out = tmp_path / "scores.json"
    status, text, err = moods.command(
        "evaluate", "run=task_signal", f"signal={signal}", "split=selection", f"out={out}"
    )
    assert (status, err) == (0, "")
    assert text.startswith(f"control: signal={signal}, each row has the signal of a")
    written = json.loads(out.read_text())
    assert list(written) == ["signal", "tasks"]
    assert written["signal"] == signal
    right, disturbed = (
        evaluate.run(["run=task_signal", "tasks=[moods]", *chosen])["moods"]["metrics"]
        for chosen in ([], [f"signal={signal}"])
    )
    assert right["decoded_accuracy"]["value"] == 1.0
    assert disturbed["decoded_accuracy"]["value"] < 1.0


def test_free_answers_stand_beside_ranked_ones(world, tmp_path):
    run = copied(world, "task_signal", tmp_path)
    scores = evaluate.run([f"run={run}", "split=selection"])
    assert list(scores["moods"]["metrics"]) == ["accuracy", "decoded_accuracy", "invalid_share"]
    assert list(scores["echo"]["metrics"]) == ["exact_match"]
    frame = Run(run).predictions("moods", "train")
    right = [("bad", "good")[target] for target in frame["target"]]
    share = sum(text == word for text, word in zip(frame["decoded"], right, strict=True)) / 12
    assert scores["moods"]["metrics"]["decoded_accuracy"]["value"] == share
    assert "decoded" not in Run(run).predictions("echo", "train").columns


def test_a_supervised_run_refuses_other_tasks(world, tmp_path):
    for name in ("gloom", "doom"):
        moods.write(tmp_path / "more" / "task" / f"{name}.yaml", moods.MOODS)
    status, out, err = moods.command(
        "evaluate", "run=mt_dnn", "tasks=[gloom,moods,doom]", "--config-dir", f"{tmp_path}/more"
    )
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        "error: the run was not trained on 'gloom', and its strategy answers only what it was trained on"
        " (tasks=[gloom, moods, doom])",
        "  trained on: moods, pairs, echo",
        "error: the run was not trained on 'doom', and its strategy answers only what it was trained on"
        " (tasks=[gloom, moods, doom])",
        "  trained on: moods, pairs, echo",
    ]


def test_mistakes(world, tmp_path):
    def said(*arguments):
        status, out, err = moods.command("evaluate", *arguments)
        assert (status, out) == (2, "")
        return problems(err)

    assert said("run=task_singal") == [
        "error: there is no run folder task_singal (run=task_singal)"
    ]
    assert said("run=data") == ["error: data is no run folder: it has no config.yaml (run=data)"]
    assert said("run=mt_dnn", "out=no/such/scores.json") == [
        "error: there is no folder no/such (out=no/such/scores.json)"
    ]
    assert said("run=mt_dnn", f"out={tmp_path}") == [
        f"error: {tmp_path} is a folder (out={tmp_path})"
    ]
    assert said("run=mt_dnn", "data.root=nowhere") == [
        f"error: no such data folder: {world}/nowhere (data.root=nowhere)"
    ]
    assert said("run=mt_dnn", "signal=wrong") == [
        "error: strategy 'MTDNN' tells a task by no signal, so none can be wrong (signal=wrong)"
    ]
    assert said("run=mt_dnn", "tasks=[mods]") == [
        "error: unknown task 'mods' (command line: tasks=[mods])"
    ]
    unfinished = copied(world, "mt_dnn", tmp_path)
    shutil.rmtree(Path(unfinished, "checkpoints"))
    assert said(f"run={unfinished}") == [
        f"error: there is no checkpoint {unfinished}/checkpoints/last.ckpt"
    ]
