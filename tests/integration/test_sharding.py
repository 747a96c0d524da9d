"""Two processes that split the parameters between them do what one does with whole ones."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fitting
import torch

from mtl import fit

COMMON = [
    *fitting.SMALL,
    "budget.steps=8",
    "record.every=1",
    "record.checkpoint_every=3",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "evaluation.times=1",
    "optimizer.learning_rate=1e-3",
    # Adam divides a gradient by its own size: where that is nothing but rounding, a small epsilon makes it a step.
    "optimizer.epsilon=1e-4",
]
STRATEGIES = {
    "hard_sharing": ["strategy=hard_sharing"],
    # A step of one task leaves the heads of the others without a gradient, and two of its rows one process idle.
    "mt_dnn": ["strategy=mt_dnn", "strategy.head_dropout=0", "strategy.prediction_dropout=0"],
    "zero_shot": ["strategy=zero_shot"],
}
SPLIT = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision='32'"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Each strategy, in one process."""
    folder = tmp_path_factory.mktemp("one")
    for name, own in STRATEGIES.items():
        fit.run([*own, *COMMON, f"run_dir={folder / name}"])
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes made: the folder, and how each fit ended."""
    folder = tmp_path_factory.mktemp("two")
    jobs = {
        name: ([*own, *COMMON, *SPLIT, f"run_dir={name}"], {}) for name, own in STRATEGIES.items()
    }
    own = [*STRATEGIES["mt_dnn"], *COMMON, *SPLIT]
    jobs["pieces"] = ([*own, "batch.accumulate=3", "run_dir=pieces"], {})
    hooks = {0: ("note_own_share", str(folder / "share")), 1: ("in_step", 4, 15)}
    jobs["stopped"] = ([*own, "run_dir=stopped"], hooks)
    jobs["resumed"] = ([*own, "run_dir=stopped"], {})
    own = [*STRATEGIES["zero_shot"], *COMMON, *SPLIT]
    jobs["held"] = ([*own, "run_dir=held"], dict.fromkeys(range(2), ("hold_logits", 20000)))
    endings = fitting.fit_in_pairs(list(jobs.values()), folder)
    return folder, dict(zip(jobs, endings, strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
def test_split_parameters_train_as_whole_ones(name, one, two):
    """Scoring and the final report included; a single process finds in the checkpoint what it would have written."""
    folder, endings = two
    assert endings[name] == (None, None)
    fitting.assert_close(one / name, folder / name)
    moments = [of_optimizer(path / name) for path in (one, folder)]
    assert len(moments[0]) == len(moments[1])
    for mine, theirs in zip(*moments, strict=True):
        torch.testing.assert_close(theirs, mine, atol=1e-5, rtol=0)


def of_optimizer(run):
    """The optimizer's state of each parameter, in the order in which a single process reads it."""
    (saved,) = fitting.checkpoint(run)["optimizer_states"]
    order = [parameter for group in saved["param_groups"] for parameter in group["params"]]
    return [saved["state"].get(parameter, {}) for parameter in order]


def test_pieces_of_a_step(one, two):
    folder, endings = two
    assert endings["pieces"] == (None, None)
    fitting.assert_close(one / "mt_dnn", folder / "pieces")


def test_logits_in_pieces(one, two):
    folder, endings = two
    assert endings["held"] == (None, None)
    fitting.assert_close(one / "zero_shot", folder / "held")


def test_stopped_and_resumed(one, two):
    folder, endings = two
    assert endings["stopped"] == ("Interrupted: interrupted by signal 15", None)
    assert endings["resumed"] == (None, None)
    fitting.assert_same_run(folder / "mt_dnn", folder / "stopped")


def test_each_process_holds_half(two):
    # A vector that two cannot share evenly is padded.
    assert float((two[0] / "share").read_text()) == pytest.approx(0.5, abs=0.01)
