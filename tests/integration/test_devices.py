"""Two processes do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fitting
import torch

from mtl import fit

STRATEGIES = {
    "soft_sharing": [],
    "hard_sharing": [],
    # Every process draws dropout of its own.
    "mt_dnn": ["strategy.head_dropout=0", "strategy.prediction_dropout=0"],
    "mixed_batch": [],
    "task_signal": [],
    "zero_shot": [],
}
COMMON = [
    *fitting.SMALL,
    "budget.steps=8",
    "record.every=1",
    "record.checkpoint_every=3",
    "evaluation.rows=4",
    # Fewer answers lie so close together that their correlation is of rounding.
    "evaluation.selection_rows=16",
    "optimizer.learning_rate=1e-3",
    # Adam divides a gradient by its own size: where that is nothing but rounding, a small epsilon makes it a step.
    "optimizer.epsilon=1e-4",
]
DDP = ["trainer=ddp", "trainer.accelerator=cpu"]
STOPPED = ["strategy=mt_dnn", *COMMON, *DDP, "decoder.dropout=0.1"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Each strategy, in one process."""
    folder = tmp_path_factory.mktemp("one")
    return {
        name: fit.run([f"strategy={name}", *own, *COMMON, f"run_dir={folder / name}"]).path
        for name, own in STRATEGIES.items()
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes made: the folder, and how each fit ended."""
    folder = tmp_path_factory.mktemp("two")
    jobs = {
        name: ([f"strategy={name}", *own, *COMMON, *DDP, f"run_dir={name}"], {})
        for name, own in STRATEGIES.items()
    }
    own = STRATEGIES["mt_dnn"]
    pieces = ["strategy=mt_dnn", *own, *COMMON, *DDP, "batch.accumulate=3", "run_dir=pieces"]
    jobs["pieces"] = (pieces, {})
    jobs["whole"] = ([*STOPPED, "run_dir=whole"], {})
    jobs["stopped"] = ([*STOPPED, "run_dir=stopped"], {1: ("in_step", 4, 15)})
    jobs["resumed"] = ([*STOPPED, "run_dir=stopped"], {})
    jobs["infinite"] = (
        ["strategy=hard_sharing", *COMMON, *DDP, "run_dir=infinite"],
        {1: ("not_finite", 4)},
    )
    endings = fitting.fit_in_pairs(list(jobs.values()), folder)
    return folder, dict(zip(jobs, endings, strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
def test_two_processes_train_as_one(name, one, two):
    folder, endings = two
    assert endings[name] == (None, None)
    fitting.assert_close(one[name], folder / name)
    summaries = [
        json.loads((path / name / "summary.json").read_text())
        for path in (one[name].parent, folder)
    ]
    for key in ("tokens", "tokens_by_task", "steps", "parameters"):
        assert summaries[0]["ledger"][key] == summaries[1]["ledger"][key]
    assert summaries[1]["ledger"]["backward_passes"] == 2 * 8


def test_pieces_on_two_processes_train_as_one_step(one, two):
    """Also where a head has a gradient from one piece alone."""
    folder, endings = two
    assert endings["pieces"] == (None, None)
    fitting.assert_close(one["mt_dnn"], folder / "pieces")


def test_a_piece_without_an_example_moves_no_head():
    """Steps of a row or two: most of six pieces are empty, and stand for the first task."""
    own = ["strategy=mt_dnn", *STRATEGIES["mt_dnn"], *COMMON, "batch.tokens=24"]
    # No similarity: after four steps its answers are nearly equal, and their correlation is of rounding.
    own += ["optimizer.weight_decay=10", "tasks=[microworld_sentiment,microworld_translation]"]
    fit.run([*own, "run_dir=whole"])
    fit.run([*own, "batch.accumulate=6", "run_dir=pieces"])
    fitting.assert_close(Path("whole"), Path("pieces"))


@pytest.mark.parametrize("name", ["hard_sharing", "mt_dnn"])
def test_three_pieces_train_as_one_step(name, one):
    own = STRATEGIES[name]
    fit.run([f"strategy={name}", *own, *COMMON, "batch.accumulate=3", "run_dir=pieces"])
    fitting.assert_close(one[name], Path("pieces"))


def test_a_loss_that_is_not_finite_ends_both_processes_alike(two):
    folder, endings = two
    first, second = endings["infinite"]
    assert second is None
    assert first.startswith(
        "NonFiniteLossError: the loss is not finite after 4 steps, at microworld_"
    )
    assert fitting.checkpoint(folder / "infinite")["global_step"] == 3


def test_the_launcher_makes_one_run(tmp_path, one):
    """``trainer=ddp`` starts its second process itself."""
    name = "hard_sharing"
    done = subprocess.run(
        [sys.executable, "-m", "mtl.fit", f"strategy={name}", *COMMON, *DDP],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("run folder") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    fitting.assert_close(one[name], folder)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_two_machines_make_one_run(tmp_path, one):
    """A launcher on each starts one process; they share the folder."""
    name, port = "hard_sharing", fitting.free_port()
    command = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    training = [f"strategy={name}", *COMMON, *DDP, "trainer.devices=1", "trainer.nodes=2"]
    machines = [
        subprocess.Popen(
            [
                sys.executable,
                *command,
                f"--node-rank={rank}",
                "-m",
                "mtl.fit",
                *training,
                "run_dir=run",
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [machine.communicate(timeout=240) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], ended
    assert "run folder" in ended[0][0]
    assert ended[1][0] == ""
    fitting.assert_close(one[name], tmp_path / "run")


def test_one_machine_of_two_says_how_to_start_both(tmp_path):
    arguments = ["strategy=mt_dnn", *fitting.SMALL, "budget.steps=8", *DDP, "trainer.nodes=2"]
    assert fitting.fit_elsewhere(arguments, tmp_path) == (
        2,
        "",
        "error: on 2 machines a launcher starts the processes, and this one was started alone"
        " (trainer.nodes=2)\n"
        "  on each machine: torchrun --nnodes=2 --nproc-per-node=2 --rdzv-backend=c10d"
        " --rdzv-endpoint=HOST:PORT -m mtl.fit ... run_dir=DIR\n",
    )


def test_a_signal_to_one_process_stops_both_and_resume_is_exact(two):
    """Bit for bit, on two processes as on one."""
    folder, endings = two
    assert endings["stopped"] == ("Interrupted: interrupted by signal 15", None)
    assert endings["resumed"] == endings["whole"] == (None, None)
    fitting.assert_same_run(folder / "whole", folder / "stopped")
    log = (folder / "stopped" / "log.txt").read_text()
    assert "interrupted" in log
    assert "resumed" in log


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("trainer", ["fsdp", "gpu"])
def test_without_a_gpu_its_trainers_say_so(trainer, tmp_path):
    arguments = ["strategy=mt_dnn", *fitting.SMALL, "budget.steps=8", f"trainer={trainer}"]
    before = set(os.listdir(tmp_path))
    status, out, err = fitting.fit_elsewhere(arguments, tmp_path)
    assert (status, out) == (2, "")
    assert err == (
        f"error: there is no GPU here (trainer={trainer})\n"
        "  trainer=cpu\n"
        "  for two processes: trainer=ddp trainer.accelerator=cpu\n"
    )
    assert set(os.listdir(tmp_path)) == before
