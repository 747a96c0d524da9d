"""Runs whose decoder has an LSTM for a trunk: they learn, repeat to the last bit, and are restored."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import fitting
import moods

from mtl import evaluate, fit

ARGUMENTS = [
    *moods.SMALL,
    "decoder.trunk=lstm",
    "decoder.layers=1",
    "decoder.units=40",
    "tasks=[moods,pairs,echo]",
    "budget.steps=60",
    "optimizer.learning_rate=0.01",
]


@pytest.mark.parametrize("strategy", ["task_signal", "hard_sharing"])
def test_an_lstm_learns_repeats_and_is_restored(strategy, tmp_path, monkeypatch):
    monkeypatch.chdir(moods.build(tmp_path))
    arguments = [*ARGUMENTS, f"strategy={strategy}"]
    one = fit.run([*arguments, "run_dir=one"], config_dir="mine")
    two = fit.run([*arguments, "run_dir=two"], config_dir="mine")
    scores = one.scores[one.scores["primary"]].set_index("task")["value"]
    assert scores["moods"] > 0.9
    assert scores["echo"] > 0.9
    fitting.assert_same_run(one.path, two.path)
    assert any(name.endswith("weight_hh_l0") for name in fitting.checkpoint("one")["state_dict"])
    again = evaluate.run(["run=one", "tasks=[moods,pairs,echo]", "resamples=50"])
    for task, found in one.summary["tasks"].items():
        assert again[task]["metrics"][found["primary"]] == found["metrics"][found["primary"]]
