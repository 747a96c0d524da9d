from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.record.curves import draw_curves, read_series, smoothed
from mtl.record.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.append_metrics(
        {"step": 1, "tokens": 10, "a/loss": 1.0, "b/loss": 3.0, "learning_rate": 1.0}
    )
    folder.append_metrics({"step": 2, "tokens": 20, "a/loss": 0.5, "b/loss": None})
    folder.append_metrics({"step": 2, "tokens": 20, "a/selection/accuracy": 0.7})
    return folder


def test_series_belong_to_their_tasks_and_the_mean_is_over_tasks_present(folder: RunFolder) -> None:
    losses, scores = read_series(folder)
    assert losses == {"a": [(10, 1.0), (20, 0.5)], "b": [(10, 3.0)], "": [(10, 2.0), (20, 0.5)]}
    assert scores == {"a": {"selection/accuracy": [(20, 0.7)]}}


def test_the_runs_own_loss_goes_before_the_mean(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics({"step": 1, "tokens": 10, "loss": 9.0, "a/loss": 1.0})
    assert read_series(folder)[0] == {"": [(10, 9.0)], "a": [(10, 1.0)]}


def test_the_picture_names_every_task_and_the_axis(folder: RunFolder) -> None:
    path = draw_curves(folder, title="mt_dnn", path=folder.path / "curves.svg")
    assert path == folder.path / "curves.svg"
    text = path.read_text()
    for comment in ("mt_dnn", "mean of the tasks", "a", "b", "tokens", "selection/accuracy"):
        assert f"<!-- {comment} -->" in text


def test_held_out_loss_lies_on_the_axis_of_the_training_loss(tmp_path: Path) -> None:
    """One scale says the gap; of what else is measured of running text the first alone has the other axis."""
    folder = RunFolder(tmp_path)
    for step in range(1, 6):
        entry = {"step": step, "tokens": 10 * step, "ptb/loss": 5.0 - step}
        if step % 2 == 0:
            entry |= {
                "ptb/selection_bits_per_byte_disjoint": 2.0,
                "ptb/selection_perplexity_per_word_disjoint": 900.0,
                "ptb/selection_loss_nats_per_token": 6.0,
            }
        folder.append_metrics(entry)
    text = draw_curves(folder, path=tmp_path / "curves.svg").read_text()  # type: ignore[union-attr]
    for shown in (
        "training",
        "held out",
        "loss (nats per token)",
        "tokens",
        "selection bits per byte disjoint",
    ):
        assert f"<!-- {shown} -->" in text
    assert "perplexity" not in text
    # 0 to 4 of training and 6 of held-out text are on one axis.
    assert all(f"<!-- {tick} -->" in text for tick in range(7))


def test_a_png_lies_in_the_run_folder(folder: RunFolder) -> None:
    assert draw_curves(folder) == folder.curves
    assert folder.curves.read_bytes().startswith(b"\x89PNG")


def test_nothing_logged_nothing_drawn(tmp_path: Path) -> None:
    assert draw_curves(RunFolder(tmp_path)) is None
    assert not list(tmp_path.iterdir())


def test_smoothing_weights_halve_with_distance() -> None:
    assert smoothed([0.0, 0.0, 7.0], 1.0) == pytest.approx([1.0, 1.75, 4.0])


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50), st.floats(1, 20))
def test_smoothing_stays_within_the_values_and_does_not_favour_a_side(
    values: list[float], half_life: float
) -> None:
    means = smoothed(values, half_life)
    assert all(min(values) - 1e-9 <= mean <= max(values) + 1e-9 for mean in means)
    assert smoothed(values[::-1], half_life)[::-1] == pytest.approx(means)
