"""The commands from Python, as in a notebook: runs with frames, any number of times in one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

from mtl import evaluate, fit, predict
from mtl.config.errors import CombinedUserError, UserError
from mtl.record.run import Run

ARGUMENTS = [*moods.SMALL, "tasks=[moods,echo]", "budget.steps=60", "optimizer.learning_rate=0.01"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with data and one run that was made from Python."""
    folder = moods.build(tmp_path_factory.mktemp("python"))
    before = Path.cwd()
    os.chdir(folder)
    try:
        run = fit.run([*ARGUMENTS, "run_dir=first"], config_dir="mine")
    finally:
        os.chdir(before)
    assert run.path == Path("first")
    return folder


@pytest.fixture(autouse=True)
def _in_world(world, monkeypatch):
    monkeypatch.chdir(world)


def same_results(one, other):
    """Weights, curves, predictions and scores of two run folders are the same to the last bit."""
    first, second = Run(one), Run(other)
    pandas.testing.assert_frame_equal(first.scores, second.scores, check_exact=True)
    pandas.testing.assert_frame_equal(first.metrics, second.metrics, check_exact=True)
    for task in ("moods", "echo"):
        pandas.testing.assert_frame_equal(
            first.predictions(task), second.predictions(task), check_exact=True
        )
    import torch

    weights = [
        torch.load(Path(run, "checkpoints", "last.ckpt"), weights_only=True)["state_dict"]
        for run in (one, other)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])
    return True


def test_a_run_has_frames():
    run = Run("first")
    scores = run.scores
    assert list(scores["task"]) == ["moods"] * 3 + ["echo"]
    assert list(scores["metric"]) == [
        "accuracy",
        "decoded_accuracy",
        "invalid_share",
        "exact_match",
    ]
    moods_score = scores[scores["primary"]].set_index("task").loc["moods"]
    assert moods_score["low"] <= moods_score["value"] <= moods_score["high"]
    assert moods_score["value"] > 0.9 > moods_score["chance"] == 0.5
    predictions = run.predictions("moods")
    assert list(predictions.columns) == [
        "row",
        "target",
        "prediction",
        "scores",
        "decoded",
    ]
    assert (predictions["target"] == predictions["prediction"]).mean() == moods_score["value"]
    # The answer is the label of the highest score.
    assert [int(numpy.argmax(row)) for row in predictions["scores"]] == list(
        predictions["prediction"]
    )
    assert {"step", "tokens", "moods/loss", "learning_rate"} <= set(run.metrics.columns)
    assert run.config["task"]["moods"]["prompt"] == ["{{ text }}", "\nAnswer:"]
    assert "exact_match" in run._repr_html_()


def test_a_second_run_in_the_same_process_is_the_same_run():
    run = fit.run([*ARGUMENTS, "run_dir=second"], config_dir="mine")
    assert same_results("first", run.path)


def test_a_finished_run_is_returned_and_not_run_again():
    before = moods.tree("first")
    run = fit.run([*ARGUMENTS, "run_dir=first"], config_dir="mine")
    assert run.average == Run("first").average
    assert moods.tree("first") == before


def test_another_seed_is_another_run():
    run = fit.run([*ARGUMENTS, "seed=1", "budget.steps=5", "run_dir=seed"], config_dir="mine")
    assert run.summary["seed"] == 1
    assert run.summary["data"]["moods"]["notes"][0] == "108 of 120 rows of train, seed 1"


def test_without_a_folder_a_run_gets_a_dated_one(tmp_path, monkeypatch):
    monkeypatch.chdir(moods.build(tmp_path))
    run = fit.run([*ARGUMENTS, "budget.steps=2"], config_dir="mine")
    (folder,) = Path("runs").iterdir()
    assert run.path == folder
    assert folder.name.endswith("_task_signal_seed0")


def test_the_printed_config_repeats_the_run(tmp_path):
    printed = subprocess.run(
        [
            sys.executable,
            "-m",
            "mtl.fit",
            "--config-dir",
            "mine",
            *ARGUMENTS,
            "--cfg",
            "job",
            "--resolve",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(moods.ROOT)},
    )
    assert printed.returncode == 0, printed.stderr
    moods.write(tmp_path / "again" / "again.yaml", printed.stdout)
    status, out, err = moods.command(
        "fit", "--config-dir", str(tmp_path / "again"), "--config-name", "again", "run_dir=third"
    )
    assert (status, err) == (0, "")
    assert "run folder  third" in out
    assert same_results("first", "third")


def test_the_config_of_a_run_repeats_it():
    status, _, err = moods.command(
        "fit", "--config-dir", "first", "--config-name", "config", "run_dir=fourth"
    )
    assert (status, err) == (0, "")
    assert same_results("first", "fourth")


def test_evaluate_and_predict():
    scores = evaluate.run(["run=first", "tasks=[moods]", "resamples=50"])
    assert scores == {"moods": Run("first").summary["tasks"]["moods"]}
    (answer,) = predict.run(["run=first", "task=moods", "text='grim, sad'"])
    assert answer["answer"] == "bad"
    assert json.loads(json.dumps(answer)) == answer


def test_mistakes_are_one_exception():
    with pytest.raises(CombinedUserError) as caught:
        fit.run(["strategy=task_singal", "sede=1"])
    assert [error.problem for error in caught.value.errors] == [
        "unknown strategy 'task_singal'",
        "unknown key 'sede'",
    ]
    with pytest.raises(UserError, match="no such data folder"):
        fit.run([*ARGUMENTS, "data.root=nowhere"], config_dir="mine")
