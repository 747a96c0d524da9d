"""Conflict of the tasks' gradients in one run, as a picture and as a table: what was measured, over all measurements.

Read from metrics.jsonl, where :meth:`mtl.learning.conflict.Conflict.measure` says what the names mean.

Legend: K tasks.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtl.record.curves import CONFLICT, token_unit
from mtl.record.folder import RunFolder

PICTURE = "conflict.png"
"""Name of the picture in the run folder."""
NUMBERED_TASKS = 12
"""Cells show their numbers up to this many tasks."""
LINES = 28
"""Each pair has a line of its own up to this many pairs."""

BETWEEN_COLOUR, NULL_COLOUR, FAINT_COLOUR = "#1f5fa8", "#d1495b", "#b9cfe8"


@dataclass(frozen=True)
class Measurement:
    """One measurement; nan where nothing is defined."""

    tokens: int
    tasks: tuple[str, ...]
    cosine: np.ndarray
    """(K, K); on the diagonal the same-task null."""
    magnitude_similarity: np.ndarray
    """(K, K); on the diagonal that of two batches of one task."""
    layers: Mapping[str, tuple[float, float]]
    """Mean cosine between tasks and mean null of each layer, from the input to the output."""


def read_conflict(folder: RunFolder) -> list[Measurement]:
    """The measurements in metrics.jsonl, in their order."""
    return [_measurement(entry) for entry in folder.read_metrics() if CONFLICT in entry]


def draw_conflict(folder: RunFolder, *, title: str = "", path: Path | None = None) -> Path | None:
    """Draw cosine and magnitude similarity of each pair of tasks, their course, and the layers.

    :param path: Where to; the ending says the format (.png, .svg). None is conflict.png in the run folder.
    :returns: the picture, or None where nothing was measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = read_conflict(folder)
    if not found:
        return None
    size = min(7.0, 2.6 + 0.55 * len(found[0].tasks))
    # Not pyplot: no global state, no window, and safe beside the drawing of others.
    figure = Figure(figsize=(size + 5.6, 2 * size - 0.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, width_ratios=(size, 5.0))
    cosine = _mean([one.cosine for one in found])
    similarity = _mean([one.magnitude_similarity for one in found])
    limit = float(np.nanmax(np.abs(cosine))) if not np.isnan(cosine).all() else 1.0
    _draw_pairs(panels[0, 0], found[0].tasks, cosine, "RdBu", (-limit or -1.0, limit or 1.0))
    panels[0, 0].set_title(
        "cosine (framed: same-task null)", fontsize=10, loc="left", fontweight="bold"
    )
    _draw_course(panels[0, 1], found)
    panels[0, 1].set_title("cosine over training", fontsize=10, loc="left", fontweight="bold")
    _draw_pairs(panels[1, 0], found[0].tasks, similarity, "viridis", (0.0, 1.0))
    panels[1, 0].set_title("magnitude similarity", fontsize=10, loc="left", fontweight="bold")
    _draw_layers(panels[1, 1], found)
    panels[1, 1].set_title("cosine by layer", fontsize=10, loc="left", fontweight="bold")
    count = f"mean of {len(found)} measurements" if len(found) > 1 else "one measurement"
    figure.suptitle(
        ", ".join(filter(None, [title, "gradients on shared parameters", count])),
        fontsize=11,
        x=0.01,
        ha="left",
    )
    path = path or folder.path / PICTURE
    figure.savefig(path, bbox_inches="tight")
    return path


def conflict_table(folder: RunFolder) -> str:
    """Each pair of tasks on a line, the most conflicting first; empty where nothing was measured.

    ``minus null`` is the cosine minus the mean null of the two tasks, ``negative`` the share of measurements in which
    the cosine is below 0.
    """
    found = read_conflict(folder)
    if not found:
        return ""
    tasks = found[0].tasks
    cosine = _mean([one.cosine for one in found])
    similarity = _mean([one.magnitude_similarity for one in found])
    pairs = sorted(
        itertools.combinations(range(len(tasks)), 2),
        key=lambda pair: np.nan_to_num(cosine[pair], nan=2.0),
    )
    rows = [("tasks", "cosine", "minus null", "negative", "magnitude similarity")]
    for i, j in pairs:
        values = [one.cosine[i, j] for one in found if not np.isnan(one.cosine[i, j])]
        rows.append(
            (
                f"{tasks[i]}, {tasks[j]}",
                _number(cosine[i, j]),
                _number(cosine[i, j] - (cosine[i, i] + cosine[j, j]) / 2),
                f"{np.mean(np.array(values) < 0):.0%}" if values else "-",
                _number(similarity[i, j], sign=False),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + "\n"
        for row in rows
    )


def _measurement(entry: Mapping[str, Any]) -> Measurement:
    values = {
        tuple(name.split("/")[1:]): np.nan if value is None else float(value)
        for name, value in entry.items()
        if name.startswith("conflict/")
    }
    tasks = tuple(key[0] for key in values if key[1:] == ("same_task_cosine",))
    layers = {
        key[0]: (value, values[key[0], "mean_same_task_cosine"])
        for key, value in values.items()
        if key[1:] == ("mean_cosine",)
    }
    return Measurement(
        tokens=entry["tokens"],
        tasks=tasks,
        cosine=_square(values, tasks, "cosine"),
        magnitude_similarity=_square(values, tasks, "magnitude_similarity"),
        layers=layers,
    )


def _square(values: Mapping[tuple[str, ...], float], tasks: Sequence[str], name: str) -> np.ndarray:
    found = np.empty((len(tasks), len(tasks)))
    for k, task in enumerate(tasks):
        found[k, k] = values[task, f"same_task_{name}"]
    for (i, one), (j, other) in itertools.combinations(enumerate(tasks), 2):
        found[i, j] = found[j, i] = values[one, other, name]
    return found


def _mean(values: Sequence[np.ndarray | tuple[float, float]]) -> np.ndarray:
    """Mean over measurements, those that are not defined left out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        found: np.ndarray = np.nanmean(np.stack([np.asarray(value) for value in values]), axis=0)
    return found


def _draw_pairs(
    panel: Any, tasks: Sequence[str], values: np.ndarray, colours: str, limits: tuple[float, float]
) -> None:
    from matplotlib.patches import Rectangle

    image = panel.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
    panel.figure.colorbar(image, ax=panel, fraction=0.045, pad=0.03).ax.tick_params(labelsize=8)
    ticks = range(len(tasks))
    panel.set_xticks(ticks, tasks, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    panel.set_yticks(ticks, tasks, fontsize=8)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    for k in ticks:
        frame = Rectangle((k - 0.47, k - 0.47), 0.94, 0.94, fill=False, edgecolor="#333333", lw=1.2)
        panel.add_patch(frame)
    if len(tasks) > NUMBERED_TASKS:
        return
    for (i, j), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = not np.isnan(value) and 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        text = "-" if np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")
        panel.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if dark else "k")


def _draw_course(panel: Any, found: Sequence[Measurement]) -> None:
    scale, unit = token_unit(found[-1].tokens)
    tokens = [one.tokens / scale for one in found]
    pairs = np.triu_indices(len(found[0].tasks), 1)
    cosines = np.stack([one.cosine[pairs] for one in found])
    nulls = np.stack([np.diag(one.cosine) for one in found])
    marker = "o" if len(found) < 20 else None
    panel.axhline(0, color="#999999", linewidth=0.8)
    if cosines.shape[1] <= LINES:
        panel.plot(
            tokens, cosines[:, 0], color=FAINT_COLOUR, linewidth=0.8, label="each pair of tasks"
        )
        panel.plot(tokens, cosines[:, 1:], color=FAINT_COLOUR, linewidth=0.8)
    for values, colour, style, label in (
        (cosines, BETWEEN_COLOUR, "-", "mean of the pairs"),
        (nulls, NULL_COLOUR, "--", "mean of the nulls"),
    ):
        panel.plot(
            tokens,
            _mean([*values.T]),
            style,
            color=colour,
            linewidth=1.8,
            marker=marker,
            markersize=3.5,
            label=label,
        )
    panel.legend(fontsize=8, framealpha=0.8, edgecolor="none")
    panel.set_xlabel(f"tokens{unit}", fontsize=8)
    _plain(panel)


def _draw_layers(panel: Any, found: Sequence[Measurement]) -> None:
    names = list(found[0].layers)
    means = _mean([np.array([*one.layers.values()]) for one in found])
    places = np.arange(len(names))
    panel.axvline(0, color="#999999", linewidth=0.8)
    panel.hlines(places, means[:, 0], means[:, 1], color="#cccccc", linewidth=1.5)
    panel.plot(
        means[:, 1], places, "o", color=NULL_COLOUR, fillstyle="none", label="mean of the nulls"
    )
    panel.plot(means[:, 0], places, "o", color=BETWEEN_COLOUR, label="mean of the pairs")
    panel.set_yticks(places, names)
    panel.invert_yaxis()
    panel.margins(y=0.15)
    panel.legend(fontsize=8, framealpha=0.8, edgecolor="none")
    panel.set_xlabel("mean cosine", fontsize=8)
    _plain(panel)


def _plain(panel: Any) -> None:
    panel.grid(color="#e6e6e6", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _number(value: float, *, sign: bool = True) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:+.3f}" if sign else f"{value:.3f}"
