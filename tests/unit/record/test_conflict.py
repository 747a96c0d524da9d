from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtl.record.conflict import conflict_table, draw_conflict, read_conflict
from mtl.record.curves import read_series
from mtl.record.folder import RunFolder

TASKS = ("a", "b", "c")


def entry(step: int, cosines: dict[tuple[str, str], float]) -> dict[str, object]:
    """A measurement of three tasks in two layers; nulls 0.5, but task c has none."""
    found: dict[str, object] = {"step": step, "tokens": 100 * step, "conflict/mean_cosine": 0.1}
    for task in TASKS:
        found[f"conflict/{task}/same_task_cosine"] = None if task == "c" else 0.5
        found[f"conflict/{task}/same_task_magnitude_similarity"] = 0.9
        found[f"conflict/{task}/block_0/same_task_cosine"] = 9.0
    for (one, other), value in cosines.items():
        found[f"conflict/{one}/{other}/cosine"] = value
        found[f"conflict/{one}/{other}/magnitude_similarity"] = 0.8
        found[f"conflict/{one}/{other}/block_0/cosine"] = 9.0
    for layer in ("embeddings", "block_0"):
        found[f"conflict/{layer}/mean_cosine"] = 0.2
        found[f"conflict/{layer}/mean_same_task_cosine"] = 0.4
    return found


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.append_metrics({"step": 1, "tokens": 10, "a/loss": 1.0})
    folder.append_metrics(entry(1, {("a", "b"): 0.3, ("a", "c"): -0.5, ("b", "c"): 0.0}))
    folder.append_metrics(entry(2, {("a", "b"): 0.1, ("a", "c"): 0.1, ("b", "c"): float("nan")}))
    return folder


def test_measurements_are_read_as_they_were_named(folder: RunFolder) -> None:
    first, second = read_conflict(folder)
    assert (first.tasks, first.tokens, second.tokens) == (TASKS, 100, 200)
    expected = [[0.5, 0.3, -0.5], [0.3, 0.5, 0.0], [-0.5, 0.0, np.nan]]
    np.testing.assert_array_equal(first.cosine, expected)
    assert first.magnitude_similarity.tolist() == [
        [0.9, 0.8, 0.8],
        [0.8, 0.9, 0.8],
        [0.8, 0.8, 0.9],
    ]
    assert first.layers == {"embeddings": (0.2, 0.4), "block_0": (0.2, 0.4)}
    assert np.isnan(second.cosine[1, 2])


def test_the_table_begins_with_the_pair_that_conflicts_most(folder: RunFolder) -> None:
    assert conflict_table(folder) == (
        "tasks  cosine  minus null  negative  magnitude similarity\n"
        "a, c   -0.200           -       50%                 0.800\n"
        "b, c   +0.000           -        0%                 0.800\n"
        "a, b   +0.200      -0.300        0%                 0.800\n"
    )


def test_the_picture_names_tasks_and_layers(folder: RunFolder) -> None:
    path = draw_conflict(folder, title="hard_sharing", path=folder.path / "conflict.svg")
    assert path is not None
    text = path.read_text()
    shown = ("hard_sharing, gradients on shared parameters, mean of 2 measurements", "block_0")
    for comment in (*shown, *TASKS, "-0.20", "0.50"):
        assert f"<!-- {comment} -->" in text, comment
    assert draw_conflict(folder) == folder.path / "conflict.png"
    assert (folder.path / "conflict.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_measured_nothing_drawn(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics({"step": 1, "tokens": 10, "a/loss": 1.0})
    assert draw_conflict(folder) is None
    assert conflict_table(folder) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_one_undefined_measurement_is_drawn_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    nothing = entry(1, dict.fromkeys([("a", "b"), ("a", "c"), ("b", "c")], float("nan")))
    folder.append_metrics({name: None if "/" in name else v for name, v in nothing.items()})
    path = draw_conflict(folder, path=tmp_path / "conflict.svg")
    assert path is not None
    assert "one measurement -->" in path.read_text()
    assert conflict_table(folder).count(" - ") > 3


def test_learning_curves_leave_measurements_out(folder: RunFolder) -> None:
    assert read_series(folder) == ({"a": [(10, 1.0)], "": [(10, 1.0)]}, {})
