from __future__ import annotations

import math
from pathlib import Path

import pytest

from mtl.config.errors import UserError
from mtl.record.folder import RunFolder
from mtl.record.predictions import write_predictions
from mtl.record.run import Run
from mtl.record.summary import Summary, write_summary
from mtl.record.table import as_text


@pytest.fixture
def run(tmp_path: Path, summary: Summary) -> Run:
    folder, _ = RunFolder.claim(
        tmp_path / "run", "seed: 3\nbatch:\n  tokens: 4096\n", lambda found: []
    )
    folder.append_metrics({"step": 20, "tokens": 80, "a/loss": 0.5})
    folder.append_metrics({"step": 40, "tokens": 160, "a/loss": 0.25})
    write_predictions(folder, "sst2", "validation", rows=["r"], targets=[1], predictions=[0])
    write_summary(folder, summary)
    return Run(folder.path)


def test_scores_are_one_row_per_metric(run: Run) -> None:
    scores = run.scores
    assert list(scores.columns) == [
        "task", "metric", "value", "low", "high", "chance", "majority", "primary", "rows",
    ]  # fmt: skip
    accuracy, secondary = scores.iloc[0], scores.iloc[1]
    assert tuple(accuracy) == ("sst2", "accuracy", 0.812, 0.783, 0.84, 0.5, 0.509, True, 872)
    assert (secondary["task"], secondary["metric"], bool(secondary["primary"])) == (
        "mrpc",
        "accuracy",
        False,
    )
    assert math.isnan(secondary["chance"])
    assert math.isnan(secondary["majority"])
    assert scores["primary"].sum() == 3


def test_everything_a_run_holds(run: Run, summary: Summary) -> None:
    assert run.summary == summary
    assert run.average == 0.5123
    assert run.config == {"seed": 3, "batch": {"tokens": 4096}}
    assert run.metrics.to_dict("list") == {
        "step": [20, 40],
        "tokens": [80, 160],
        "a/loss": [0.5, 0.25],
    }
    assert run.predictions("sst2").to_dict("list") == {
        "row": ["r"],
        "target": [1],
        "prediction": [0],
    }
    assert str(run) == as_text(summary, run.path)
    assert "<table>" in (run._repr_html_() or "")


def test_an_unfinished_run_can_be_looked_at(run: Run) -> None:
    run.folder.summary.unlink()
    assert str(run) == f"{run.path}: not finished"
    assert run._repr_html_() is None
    assert len(run.metrics) == 2
    with pytest.raises(UserError, match=r"has no summary\.json"):
        _ = run.scores


def test_no_run_no_object(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        Run(tmp_path)
