"""``python -m mtl.fit`` with a balance that cannot be: status 2, what to do instead, and nothing left on disk."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

BASE = ("--config-dir", "mine", *moods.SMALL, "budget.steps=2", "tasks=[moods,pairs]")


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.delenv("MTL_DATA_ROOT", raising=False)
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(moods.build(tmp_path / "work").absolute())


def mistakes(*arguments):
    above = Path.cwd().parent
    before = moods.tree(above)
    status, out, err = moods.command("fit", *BASE, *arguments)
    assert (status, out) == (2, ""), err
    assert "Traceback" not in err
    assert moods.tree(above) == before
    return err.splitlines()


def test_a_gradient_method_with_one_task_a_step():
    assert mistakes("strategy=mt_dnn", "balance=pcgrad") == [
        "error: strategy 'mt_dnn' has one task in a step, and pcgrad needs several (balance=pcgrad)",
        "  use a strategy whose steps hold several tasks (python -m mtl lists all strategies)",
        "  or change how often a task is drawn, or what it counts: mixture=explicit, balance=static",
    ]


def test_misspelt_and_misplaced():
    lines = mistakes("strategy=mixed_batch", "balance=pc_grad")
    assert lines[:2] == [
        "error: unknown balance 'pc_grad' (command line: balance=pc_grad)",
        "  did you mean: pcgrad",
    ]
    weights = ("balance.weights.moods=0", "balance.weights.pairs=0")
    lines = mistakes("strategy=mixed_batch", "balance=static", *weights, "balance.c=1")
    assert [line.partition(", found")[0] for line in lines if line.startswith("error: ")] == [
        "error: balance.weights must be more than 0 for at least one task",
        "error: balance.c must be left out, unless balance=cagrad",
    ]
