"""A run that was stopped, in whatever way, ends as one that never was: bit for bit."""

import re
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fitting

from mtl import fit

PLAIN = ["strategy=task_signal", *fitting.LONG]
PIECES = [
    "strategy=mixed_batch",
    *fitting.LONG,
    "decoder.dropout=0.1",
    "batch.accumulate=2",
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An uninterrupted run."""
    return fit.run([*PLAIN, f"run_dir={tmp_path_factory.mktemp('plain') / 'run'}"])


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """An uninterrupted run with dropout, each step in two pieces."""
    return fit.run([*PIECES, f"run_dir={tmp_path_factory.mktemp('pieces') / 'run'}"])


def steps_logged(folder):
    return [
        int(re.match(r'\{"step": (\d+)', line)[1])
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def test_killed_before_its_first_checkpoint_and_while_writing_one(tmp_path, plain):
    command, run = [*PLAIN, "run_dir=run"], tmp_path / "run"
    status, _, _ = fitting.fit_elsewhere(command, tmp_path, hook=("in_step", 2))
    assert status == -signal.SIGKILL
    assert not (run / "checkpoints").exists()
    assert steps_logged(run) == [2]

    # The same command again goes on; here it begins anew, and does not log a step twice.
    status, _, _ = fitting.fit_elsewhere(command, tmp_path, hook=("while_writing", 6))
    assert status == -signal.SIGKILL
    assert fitting.checkpoint(run)["global_step"] == 3
    assert (run / "checkpoints" / ".last.ckpt.partial").exists()
    assert steps_logged(run) == [2, 4, 6]

    fit.run(command)
    fitting.assert_same_run(plain.path, run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]


def test_killed_three_times_with_dropout_and_accumulation(tmp_path, pieces):
    run = tmp_path / "run"
    status, _, _ = fitting.fit_elsewhere(
        [*PIECES, "run_dir=run"], tmp_path, hook=("in_step", 7, signal.SIGKILL, 1)
    )
    assert status == -signal.SIGKILL
    assert fitting.checkpoint(run)["global_step"] == 6
    status, _, _ = fitting.fit_elsewhere(["resume=run"], tmp_path, hook=("before_scoring", 10))
    assert status == -signal.SIGKILL
    assert fitting.checkpoint(run)["global_step"] == 9
    assert not (run / "checkpoints" / "best.ckpt").exists()
    status, _, _ = fitting.fit_elsewhere(["resume=run"], tmp_path, hook=("after_best", 10))
    assert status == -signal.SIGKILL
    assert fitting.checkpoint(run)["global_step"] == 9
    assert fitting.checkpoint(run, "best")["global_step"] == 10

    status, table, err = fitting.fit_elsewhere(["resume=run"], tmp_path)
    assert (status, err) == (0, "")
    assert "microworld_translation" in table
    fitting.assert_same_run(pieces.path, run)


def test_signals_end_a_run_with_a_checkpoint_and_their_status(tmp_path, plain):
    command, run = [*PLAIN, "run_dir=run"], tmp_path / "run"
    go_on = "interrupted; go on with: python -m mtl.fit resume=run\n"

    # Before training: nothing is there to go on with, and nothing was made.
    for number in (signal.SIGINT, signal.SIGTERM):
        hook = ("in_function", "load_data", number)
        assert fitting.fit_elsewhere(command, tmp_path, hook=hook) == (128 + number, "", "")
        assert not run.exists()

    # Inside a step: it is finished and saved.
    hook = ("in_step", 7, signal.SIGINT)
    assert fitting.fit_elsewhere(command, tmp_path, hook=hook) == (130, "", go_on)
    assert fitting.checkpoint(run)["global_step"] == 8
    hook = ("in_step", 12, signal.SIGTERM)
    assert fitting.fit_elsewhere(["resume=run"], tmp_path, hook=hook) == (143, "", go_on)
    assert fitting.checkpoint(run)["global_step"] == 13

    # Inside the last step, and while the final scores are computed: training is not repeated.
    hook = ("in_step", 19, signal.SIGINT)
    assert fitting.fit_elsewhere(["resume=run"], tmp_path, hook=hook) == (130, "", go_on)
    saved = (run / "checkpoints" / "last.ckpt").read_bytes()
    for number in (signal.SIGINT, signal.SIGTERM):
        hook = ("in_function", "save_answers", number)
        ending = (128 + number, "", go_on)
        assert fitting.fit_elsewhere(["resume=run"], tmp_path, hook=hook) == ending
        assert not (run / "summary.json").exists()

    fit.run(["resume=run"])
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == saved
    fitting.assert_same_run(plain.path, run)
    said = [line.split(" ", 1)[1] for line in (run / "log.txt").read_text().splitlines()]
    assert [line for line in said if not line.startswith(("trainer: ", "blocks "))] == [
        "started: task_signal, seed 0",
        "interrupted",
        *["resumed: task_signal, seed 0", "interrupted"] * 4,
        "resumed: task_signal, seed 0",
        "finished",
    ]


def test_signal_handlers_come_back(tmp_path, monkeypatch):
    """Whoever calls this from Python has their own handlers again, however the run ended."""
    from mtl.config.errors import Interrupted
    from mtl.learning.module import MultiTaskModule

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(MultiTaskModule, "training_step", MultiTaskModule.training_step)
    fitting.in_step(1, signal.SIGTERM)
    with pytest.raises(Interrupted, match="interrupted by signal 15"):
        fit.run([*PLAIN, "run_dir=run"])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert fitting.checkpoint("run")["global_step"] == 2


def test_a_finished_run_is_shown_again(tmp_path, plain):
    """Neither the same command nor resume trains anything, or changes a file."""
    files = {p: p.stat().st_mtime_ns for p in plain.path.rglob("*") if p.is_file()}
    tables = [
        fitting.fit_elsewhere(arguments, tmp_path)
        for arguments in ([*PLAIN, f"run_dir={plain.path}"], [f"resume={plain.path}"])
    ]
    assert tables[0] == tables[1]
    status, table, err = tables[0]
    assert (status, err) == (0, "")
    assert "microworld_similarity" in table
    assert {p: p.stat().st_mtime_ns for p in plain.path.rglob("*") if p.is_file()} == files


def test_an_occupied_folder_names_the_keys_that_differ(tmp_path, plain):
    """Before anything is loaded, and without touching it."""
    changed = ["seed=7", "decoder.width=64"]
    status, out, err = fitting.fit_elsewhere([*PLAIN, *changed, f"run_dir={plain.path}"], tmp_path)
    assert (status, out) == (2, "")
    assert err == (
        f"error: {plain.path} holds a run with another config (run_dir={plain.path})\n"
        "  decoder.width: 32 there, 64 here\n"
        "  seed: 0 there, 7 here\n"
        f"  name another folder, or go on with that run: resume={plain.path}\n"
    )
