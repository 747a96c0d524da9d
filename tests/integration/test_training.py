"""What training promises beside resume and devices: repeatable, finite or stopped, safe to load."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fitting
import pyarrow.parquet
import torch

from mtl import execution, fit
from mtl.config.errors import Interrupted
from mtl.learning.module import MultiTaskModule, NonFiniteLossError
from mtl.record.tracking import NullTracker

COMMON = [*fitting.SMALL, "budget.steps=8", "record.every=1", "record.checkpoint_every=3"]
PLAIN = ["strategy=mixed_batch", *COMMON]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return fit.run([*PLAIN, f"run_dir={tmp_path_factory.mktemp('plain') / 'run'}"]).path


@pytest.fixture
def striking(monkeypatch):
    """``MultiTaskModule.training_step`` may be replaced for one test."""
    monkeypatch.setattr(MultiTaskModule, "training_step", MultiTaskModule.training_step)
    return monkeypatch


def losses(folder):
    """(steps,) mean over the tasks of the logged losses."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [[v for k, v in line.items() if k.endswith("/loss")] for line in lines]
    return [sum(values) / len(values) for values in found if values]


def test_the_same_config_twice_is_the_same_run(plain, tmp_path):
    """Also in another process, with other hashes of strings; another seed is another run."""
    assert fitting.fit_elsewhere([*PLAIN, "run_dir=run"], tmp_path)[0] == 0
    fitting.assert_same_run(plain, tmp_path / "run")
    fit.run([*PLAIN, "seed=1", "run_dir=other"])
    first, other = fitting.checkpoint(plain), fitting.checkpoint("other")
    assert not fitting.same(first["state_dict"], other["state_dict"])
    assert losses(plain) != losses(Path("other"))


def test_predictions_do_not_depend_on_the_batches_of_the_evaluation(plain):
    run = fit.run([*PLAIN, "evaluation.batch_tokens=150", "run_dir=run"])
    assert run.folder.metrics.read_text() == (plain / "metrics.jsonl").read_text()
    for path in sorted((plain / "predictions").iterdir()):
        mine, theirs = (
            pyarrow.parquet.read_table(folder / "predictions" / path.name).to_pydict()
            for folder in (run.path, plain)
        )
        for column in ("row", "target"):
            assert mine[column] == theirs[column]
        for column in ("prediction", "scores"):
            for one, other in zip(mine.get(column, []), theirs.get(column, []), strict=True):
                assert one == (other if isinstance(other, str) else pytest.approx(other, abs=1e-5))


def test_checkpoints_hold_plain_values_in_full_precision(plain):
    last, best = fitting.checkpoint(plain), fitting.checkpoint(plain, "best")
    assert last["state_dict"].keys() == best["state_dict"].keys()
    for saved in (last, best):
        assert {value.dtype for value in saved["state_dict"].values()} == {torch.float32}
    assert last["optimizer_states"]
    assert not best.get("optimizer_states")


def test_bf16_stays_near_float32(plain):
    """Losses of about 7 nats agree to 0.02 (a bf16 number has 8 bits); weights stay in float32."""
    fit.run([*PLAIN, "trainer.precision=bf16", "run_dir=run"])
    run = Path("run")
    assert losses(run) == pytest.approx(losses(plain), abs=0.02)
    assert losses(run) != losses(plain)
    for name in ("last", "best"):
        saved = fitting.checkpoint(run, name)
        assert {value.dtype for value in saved["state_dict"].values()} == {torch.float32}
    moments = [v for state in saved.get("optimizer_states", []) for v in state["state"].values()]
    assert all(value["exp_avg"].dtype == torch.float32 for value in moments)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    status, out, err = fitting.fit_elsewhere(
        [*PLAIN, "run_dir=run"], tmp_path, hook=("not_finite", 4)
    )
    assert (status, out) == (2, "")
    row = r"microworld_(sentiment|translation|similarity) \S+"
    assert re.fullmatch(
        rf"error: the loss is not finite after 4 steps, at {row}\n"
        r"  no update was made with it; the last checkpoint stays\n"
        r"  a lower optimizer\.learning_rate or optimizer\.clip may help; or look at these rows\n",
        err,
    )
    saved = fitting.checkpoint(tmp_path / "run")
    assert saved["global_step"] == 3
    assert all(value.isfinite().all() for value in saved["state_dict"].values())
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "failed: the loss is not finite after 4 steps, at microworld_" in log
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_update(striking):
    """A finite loss can have one; the weights would be lost, and the next checkpoint with them."""
    training_step = MultiTaskModule.training_step

    def steep(self, batch, batch_index):
        loss = training_step(self, batch, batch_index)
        if self.global_step == 5:
            weight = next(self.parameters()).sum()
            loss = loss + torch.sqrt(weight - weight.detach())  # the root's slope at 0 is infinite
        return loss

    striking.setattr(MultiTaskModule, "training_step", steep)
    with pytest.raises(
        NonFiniteLossError, match="the gradient is not finite after 5 steps"
    ) as caught:
        fit.run([*PLAIN, "record.checkpoint_every=1", "run_dir=run"])
    assert len(caught.value.rows) > 5
    saved = fitting.checkpoint("run")
    assert saved["global_step"] == 5
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


@pytest.mark.parametrize(
    ("hook", "error", "ending"),
    [
        (("not_finite", 1), NonFiniteLossError, "failed"),
        (("in_step", 1, 15), Interrupted, "interrupted"),
    ],
)
def test_the_tracker_hears_how_a_run_ended(striking, hook, error, ending):
    endings = []

    class Tracker(NullTracker):
        def finish(self, status):
            endings.append(status)

    striking.setattr(execution, "make_tracker", lambda *_, **__: Tracker())
    getattr(fitting, hook[0])(*hook[1:])
    with pytest.raises(error):
        fit.run([*PLAIN, "run_dir=run"])
    assert endings == [ending]
