"""Runs under a balance: in pieces and on several devices, killed and resumed, recorded, refused."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fitting
import torch
from fitting import assert_close
from test_devices import DDP

from mtl import fit
from mtl.config.errors import UserError
from mtl.learning.module import MultiTaskModule

COMMON = [
    *fitting.SMALL,
    "budget.steps=5",
    "record.every=1",
    "record.checkpoint_every=2",
    "evaluation.times=1",
    "evaluation.rows=2",
    "evaluation.selection_rows=2",
]
# Of three pieces of so few rows many lack a task, and of nine steps some do.
FEW = ["strategy=mixed_batch", *COMMON, "batch.tokens=96"]
# Adam divides a gradient by its own size: where that is nothing but rounding, a small epsilon makes it a step.
CALM = ["optimizer.learning_rate=1e-3", "optimizer.epsilon=1e-4"]
STATIC = [
    "balance=static",
    "balance.weights.microworld_sentiment=1",
    "balance.weights.microworld_translation=2",
    "balance.weights.microworld_similarity=3",
]
METHODS = {
    name: [f"balance={name}"]
    for name in ("random", "uncertainty", "famo", "upgrad", "gradvac", "graddrop", "nash")
} | {"static": STATIC, "dwa": ["balance=dwa", "balance.every=2"]}


def summary(folder) -> dict:
    return json.loads(Path(folder, "summary.json").read_text())


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["static", "random", "uncertainty", "famo", "gradvac"])
def test_pieces_train_as_one_step(name):
    common = [*FEW, *CALM, *METHODS[name]]
    fit.run([*common, "run_dir=one"])
    fit.run([*common, "batch.accumulate=3", "run_dir=pieces"])
    assert_close(Path("one"), Path("pieces"))


def test_two_processes_train_as_one(tmp_path):
    """Weights known before the losses, weights from the losses of the whole step, gradients by task."""
    names = ("uncertainty", "random", "famo", "graddrop")
    jobs = [([*FEW, *CALM, *METHODS[name], *DDP, f"run_dir=two_{name}"], {}) for name in names]
    infinite = [*FEW, *METHODS["upgrad"], *DDP, "run_dir=infinite"]
    jobs.append((infinite, {1: ("not_finite", 3)}))
    endings = fitting.fit_in_pairs(jobs, tmp_path)
    assert endings[:-1] == [(None, None)] * len(names)
    for name in names:
        fit.run([*FEW, *CALM, *METHODS[name], f"run_dir={name}"])
        assert_close(Path(name), Path(f"two_{name}"))
    first, second = endings[-1]
    assert first.startswith(
        "NonFiniteLossError: the loss is not finite after 3 steps, at microworld"
    )
    assert second is None


class Killed(BaseException):
    """The process ends here."""


def killed(step):
    training_step = MultiTaskModule.training_step

    def struck(self, batches, index):
        if self.global_step == step:
            raise Killed
        return training_step(self, batches, index)

    return struck


@pytest.mark.parametrize("name", ["famo", "uncertainty", "dwa", "gradvac", "graddrop", "nash"])
def test_resume_is_exact(name, monkeypatch):
    arguments = [*FEW, *METHODS[name], "decoder.dropout=0.1"]
    fit.run([*arguments, "run_dir=whole"])
    with monkeypatch.context() as patched:
        patched.setattr(MultiTaskModule, "training_step", killed(3))
        with pytest.raises(Killed):
            fit.run([*arguments, "run_dir=stopped"])
    assert fitting.checkpoint("stopped")["global_step"] == 2
    fit.run(["resume=stopped"])
    fitting.assert_same_run("whole", "stopped")


def test_a_single_task_under_a_gradient_method_is_the_plain_run():
    arguments = ["strategy=mixed_batch", *COMMON, "tasks=[microworld_sentiment]"]
    fit.run([*arguments, "run_dir=sum"])
    fit.run([*arguments, "balance=pcgrad", "run_dir=pcgrad"])
    one, other = (fitting.checkpoint(name)["state_dict"] for name in ("sum", "pcgrad"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-6, rtol=0, msg=name)


def test_equal_weights_are_the_mean_of_task_means():
    """Which is the reduction of hard_sharing."""
    arguments = ["strategy=hard_sharing", *COMMON, *CALM]
    equal = [f"{word.partition('=')[0]}=5" for word in STATIC[1:]]
    fit.run([*arguments, "run_dir=sum"])
    fit.run([*arguments, STATIC[0], *equal, "run_dir=static"])
    one, other = (fitting.checkpoint(name)["state_dict"] for name in ("sum", "static"))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-6, rtol=0, msg=name)


def test_every_head_learns_under_a_gradient_method_as_under_the_sum():
    """Its own gradient is that of its task's loss, which in the sum of three tasks counts a third."""
    arguments = ["strategy=hard_sharing", *COMMON, "optimizer.clip=null", "budget.steps=1"]
    fit.run([*arguments, "run_dir=sum"])
    fit.run([*arguments, "balance=mgda", "run_dir=mgda"])
    one, other = (
        fitting.checkpoint(name)["optimizer_states"][0]["state"] for name in ("sum", "mgda")
    )
    weights = fitting.checkpoint("sum")["state_dict"]
    matrices = [name for name, value in weights.items() if value.dim() >= 2]
    vectors = [name for name, value in weights.items() if value.dim() < 2]
    heads = 0
    for index, name in enumerate([*matrices, *vectors]):
        if ".heads." in name:
            heads += 1
            torch.testing.assert_close(
                other[index]["exp_avg"], 3 * one[index]["exp_avg"], rtol=1e-3, atol=1e-7
            )
    assert heads >= 3


def test_what_is_recorded():
    """The weights of a step, the backward passes it took, and the balance."""
    fit.run([*FEW, "balance=pcgrad", "run_dir=pcgrad"])
    fit.run([*FEW, "balance=uncertainty", "run_dir=uncertainty"])
    fit.run([*FEW, "run_dir=sum"])
    tasks = list(summary("pcgrad")["tasks"])
    for name in ("pcgrad", "uncertainty"):
        weights = [{key for key in line if key.startswith("balance/")} for line in lines(name)[:5]]
        losses = [{key for key in line if key.endswith("/loss")} for line in lines(name)[:5]]
        assert [{f"balance/{key[:-5]}_weight" for key in step} for step in losses] == weights
        assert summary(name)["balance"] == name
    assert not any(key.startswith("balance/") for line in lines("sum") for key in line)
    present = sum(
        len([key for key in line if key.endswith("/loss")]) for line in lines("pcgrad")[:5]
    )
    assert 5 < present < 5 * len(tasks)
    fit.run([*FEW, "balance=pcgrad", "decoder.trunk=lstm", "run_dir=lstm"])
    assert summary("lstm")["ledger"]["backward_passes"] == present
    for name in ("pcgrad", "uncertainty", "sum"):
        assert summary(name)["ledger"]["backward_passes"] == 5
    first = lines("uncertainty")[0]
    assert {value for key, value in first.items() if key.startswith("balance/")} == {0.5}
    # The numbers of the balance are no parameters of the model.
    assert summary("uncertainty")["ledger"]["parameters"] == summary("sum")["ledger"]["parameters"]


def test_tasks_of_one_row_share_a_forward_pass_and_have_gradients_apart(data_root):
    """Both label sets of TREC ask the same questions; in two pieces as in one."""
    arguments = [*FEW, *CALM, "tasks=[trec,trec_fine]", f"data.root={data_root}", "balance=pcgrad"]
    fit.run([*arguments, "run_dir=one"])
    fit.run([*arguments, "batch.accumulate=2", "run_dir=pieces"])
    assert_close(Path("one"), Path("pieces"))
    # Of rows that both have drawn one for each; of all others of a piece one.
    passes = [summary(name)["ledger"]["backward_passes"] for name in ("one", "pieces")]
    assert 2 * 5 < passes[0] <= 3 * 5
    assert 2 * 2 * 5 < passes[1] <= 2 * 3 * 5
    apart = [*arguments, "strategy.same_rows=apart", "run_dir=apart"]
    fit.run(apart)
    assert summary("apart")["ledger"]["backward_passes"] == 5
    joint, alone = (summary(name)["ledger"] for name in ("one", "apart"))
    rows = [sum(ledger["examples_by_task"].values()) for ledger in (joint, alone)]
    assert rows[0] > 1.5 * rows[1]


def test_a_gradient_that_is_not_finite_is_no_update(monkeypatch):
    from mtl.learning.balance.rows import Rows

    add, calls = Rows.add_product, []

    def broken(self, task, parameter, left, right):
        if parameter == calls[0] if calls else True:
            calls.append(parameter)
        add(self, task, parameter, left * (float("nan") if len(calls) == 8 else 1), right)

    # Three tasks a step, one call for each of them and each matrix.
    monkeypatch.setattr(Rows, "add_product", broken)
    arguments = ["strategy=hard_sharing", *COMMON, "balance=cagrad", "run_dir=run"]
    with pytest.raises(UserError) as caught:
        fit.run(arguments)
    assert str(caught.value).startswith("the gradient is not finite after 2 steps, at microworld_")
    assert fitting.checkpoint("run")["global_step"] == 2


def test_a_meaningless_combination_leaves_nothing_behind():
    with pytest.raises(UserError) as caught:
        fit.run(["strategy=mt_dnn", *COMMON, "balance=pcgrad", "run_dir=run"])
    assert str(caught.value).splitlines()[0] == (
        "strategy 'mt_dnn' has one task in a step, and pcgrad needs several (balance=pcgrad)"
    )
    with pytest.raises(UserError, match="has no parameters that tasks share"):
        fit.run(["strategy=soft_sharing", *COMMON, "balance=pcgrad", "run_dir=run"])
    assert os.listdir() == []
