"""``diagnostics.conflict=true``: what is measured in a run, and that the run does not notice."""

import json
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fitting

from mtl import fit
from mtl.config.errors import UserError

TASKS = ("microworld_sentiment", "microworld_translation", "microworld_similarity")
UNSEEN = [
    "strategy=mixed_batch",
    *fitting.SMALL,
    "budget.steps=7",
    "record.every=2",
    "record.checkpoint_every=2",
    "decoder.dropout=0.1",
]
SEEN = [
    *UNSEEN,
    "diagnostics.conflict=true",
    "diagnostics.every=3",
    "diagnostics.batch_tokens=300",
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A run that was measured."""
    return fit.run([*SEEN, f"run_dir={tmp_path_factory.mktemp('seen') / 'run'}"]).path


def entries(folder):
    """What was logged: measurements of conflict, and all else."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "conflict/mean_cosine" in line]
    return measured, [line for line in lines if line not in measured]


def test_a_measured_run_is_the_same_run(seen, tmp_path):
    """To the last bit, with dropout."""
    plain = fit.run([*UNSEEN, f"run_dir={tmp_path / 'run'}"]).path
    for name in ("last", "best"):
        one, other = fitting.checkpoint(seen, name), fitting.checkpoint(plain, name)
        for key in ("state_dict", "optimizer_states"):
            assert fitting.same(one.get(key), other.get(key)), f"{key} of {name}.ckpt"
    assert entries(seen)[1] == entries(plain)[1]
    assert entries(plain)[0] == []
    assert not (plain / "conflict.png").exists()


def test_every_pair_is_logged_every_few_steps_and_at_the_last(seen):
    measured, _ = entries(seen)
    assert [line["step"] for line in measured] == [3, 6, 7]
    for line in measured:
        for name in (
            f"{TASKS[0]}/{TASKS[1]}/cosine",
            f"{TASKS[1]}/{TASKS[2]}/block_1/magnitude_similarity",
            f"{TASKS[2]}/same_task_cosine",
            "embeddings/mean_cosine_minus_null",
        ):
            assert -2 <= line[f"conflict/{name}"] <= 2
    assert (seen / "conflict.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_run_measures_the_same(seen, tmp_path):
    hook = ("in_step", 5)
    assert fitting.fit_elsewhere([*SEEN, "run_dir=run"], tmp_path, hook=hook)[0] == -signal.SIGKILL
    fit.run([f"resume={tmp_path / 'run'}"])
    assert (tmp_path / "run/metrics.jsonl").read_text() == (seen / "metrics.jsonl").read_text()
    weights = [fitting.checkpoint(folder)["state_dict"] for folder in (seen, tmp_path / "run")]
    assert fitting.same(*weights)


def test_two_processes_measure_as_one(tmp_path):
    common = [*SEEN, "decoder.dropout=0", "optimizer.epsilon=1e-4"]
    one = fit.run([*common, f"run_dir={tmp_path / 'one'}"]).path
    two = [*common, "trainer=ddp", "trainer.accelerator=cpu", "run_dir=two"]
    assert fitting.fit_in_pairs([(two, {})], tmp_path) == [(None, None)]
    mine, theirs = entries(one)[0], entries(tmp_path / "two")[0]
    assert len(mine) == len(theirs) == 3
    for first, second in zip(mine, theirs, strict=True):
        assert first == pytest.approx(second, abs=2e-3)


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        ("single_task", "strategy 'single_task' trains no two tasks together here"),
        ("zero_shot", "strategy 'zero_shot' trains no two tasks together here"),
    ],
)
def test_what_has_no_conflict_is_refused_before_anything_is_made(strategy, problem, tmp_path):
    with pytest.raises(UserError, match=problem):
        fit.run([*SEEN, f"strategy={strategy}", f"run_dir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
