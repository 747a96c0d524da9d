"""Learning curves of one run as a picture: the loss of each task, and what selection measured, over tokens.

Of running text the loss on held-out documents is measured too, in the unit of the training loss. Both lie on one axis:
apart they say over-fitting, together and high under-fitting.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl.record.folder import RunFolder

WIDEST = (4, 3)
"""Panels a row: the one that leaves fewer holes, the first where both leave as many."""
SMOOTHED_SHARE = 0.025
"""Half-life of the smoothing, as a share of the points."""

CONFLICT = "conflict/mean_cosine"
"""Key of every entry of metrics.jsonl that is a measurement of conflict, see :mod:`mtl.record.conflict`."""

HELD_OUT = "selection_loss_nats_per_token"
"""Name, after the task's, of the loss on held-out running text."""

Series = list[tuple[int, float]]
"""(tokens, value) of each logged step."""

HELD_OUT_COLOUR = "#e08a1e"
LOSS_COLOUR, FAINT_COLOUR, SCORE_COLOURS = "#1f5fa8", "#b9cfe8", ("#d1495b", "#2e933c", "#8a5a9e")


def draw_curves(folder: RunFolder, *, title: str = "", path: Path | None = None) -> Path | None:
    """Draw metrics.jsonl: a panel for the mean loss, and one per task with its loss and its scores.

    :param path: Where to; the ending says the format (.png, .svg). None is curves.png in the run folder.
    :returns: the picture, or None where nothing was logged.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses, scores = read_series(folder)
    if not losses and not scores:
        return None
    tasks = sorted({*losses, *scores} - {""}, key=list({**losses, **scores}).index)
    names = (["", *tasks]) if losses.get("") and len(tasks) > 1 else tasks
    columns = min(len(names), min(WIDEST, key=lambda width: -len(names) % width))
    rows = math.ceil(len(names) / columns)
    # Not pyplot: no global state, no window, and safe beside the drawing of others.
    width, height = 3.6 * columns + 0.4, 2.5 * rows + 0.6
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    # Room for labels in inches: a layout engine would take as long again as all the drawing.
    figure.subplots_adjust(
        left=0.65 / width,
        right=1 - 0.65 / width,
        top=1 - 0.75 / height,
        bottom=0.5 / height,
        wspace=1.15 / 2.5,
        hspace=0.5 / 2.0,
    )
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten()
    last = max(tokens for group in losses.values() for tokens, _ in group) if losses else 0
    scale, unit = token_unit(last)
    for index, (name, panel) in enumerate(zip(names, panels, strict=False)):
        of_task = dict(scores.get(name, {}))
        held_out = of_task.pop(HELD_OUT, [])
        _draw_loss(panel, losses.get(name, []), scale)
        if held_out:
            _draw_held_out(panel, held_out, scale)
            # What else is measured of running text follows from the same likelihood.
            of_task = dict(itertools.islice(of_task.items(), 1))
        # With its height given, nothing is drawn twice to look for what a title might lie on.
        panel.set_title(
            name or "mean of the tasks", fontsize=10, loc="left", y=1.0, fontweight="bold"
        )
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        if index % columns == 0 or held_out:
            label = "loss (nats per token)" if held_out else "loss"
            panel.set_ylabel(label, fontsize=8, color=LOSS_COLOUR)
        if index + columns >= len(names):
            panel.set_xlabel(f"tokens{unit}", fontsize=8)
            panel.tick_params(labelbottom=True)
        if of_task:
            _draw_scores(panel, of_task, scale)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    path = path or folder.curves
    figure.savefig(path)
    return path


def read_series(folder: RunFolder) -> tuple[dict[str, Series], dict[str, dict[str, Series]]]:
    """Losses per task (``""`` is the run's own ``loss``, or else the mean over tasks), and scores per task and name.

    A value belongs to the task before the first slash of its name; values that are null are left out, and so are
    measurements of conflict, which have a picture of their own.
    """
    losses: dict[str, Series] = {}
    scores: dict[str, dict[str, Series]] = {}
    for entry in folder.read_metrics():
        if CONFLICT in entry:
            continue
        tokens = entry["tokens"]
        of_tasks = []
        for name, value in entry.items():
            task, slash, metric = name.partition("/")
            if value is None or (not slash and name != "loss"):
                continue
            if not slash or metric == "loss":
                losses.setdefault(task if slash else "", []).append((tokens, value))
                of_tasks += [value] if slash else []
            else:
                scores.setdefault(task, {}).setdefault(metric, []).append((tokens, value))
        if of_tasks and "loss" not in entry:
            losses.setdefault("", []).append((tokens, math.fsum(of_tasks) / len(of_tasks)))
    return losses, scores


def smoothed(values: Sequence[float], half_life: float) -> list[float]:
    """Exponential mean over both sides of each value, so that a falling curve is not shown too late.

    :param half_life: The weight of a value halves with every ``half_life`` values of distance.
    """
    keep = 0.5 ** (1 / half_life)
    forward, backward = _exponential_sums(values, keep), _exponential_sums(values[::-1], keep)[::-1]
    return [
        (past + future - value) / (past_weight + future_weight - 1.0)
        for value, (past, past_weight), (future, future_weight) in zip(
            values, forward, backward, strict=True
        )
    ]


def _exponential_sums(values: Sequence[float], keep: float) -> list[tuple[float, float]]:
    sums, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1.0
        sums.append((total, weight))
    return sums


def _draw_loss(panel: Any, series: Series, scale: float) -> None:
    if not series:
        return
    x = [tokens / scale for tokens, _ in series]
    y = [value for _, value in series]
    half_life = len(y) * SMOOTHED_SHARE
    if half_life < 1:  # too few points to smooth
        panel.plot(x, y, color=LOSS_COLOUR, linewidth=1.6, marker="." if len(y) < 10 else None)
        return
    panel.plot(x, y, color=FAINT_COLOUR, linewidth=0.8)
    panel.plot(x, smoothed(y, half_life), color=LOSS_COLOUR, linewidth=1.6)


def _draw_held_out(panel: Any, series: Series, scale: float) -> None:
    """The second curve of a panel; the two are named in it."""
    if panel.lines:
        panel.lines[-1].set_label("training")
    panel.plot(
        [tokens / scale for tokens, _ in series],
        [value for _, value in series],
        color=HELD_OUT_COLOUR,
        marker="o",
        markersize=3.5,
        linewidth=1.4,
        label="held out",
    )
    panel.legend(fontsize=7, loc="upper right", framealpha=0.8, edgecolor="none")


def _draw_scores(panel: Any, scores: dict[str, Series], scale: float) -> None:
    axis = panel.twinx()
    axis.spines[["top"]].set_visible(False)
    axis.tick_params(labelsize=8)
    for number, (name, series) in enumerate(scores.items()):
        axis.plot(
            [tokens / scale for tokens, _ in series],
            [value for _, value in series],
            color=SCORE_COLOURS[number % len(SCORE_COLOURS)],
            marker="o",
            markersize=3.5,
            linewidth=1,
            linestyle="--",
            label=name,
        )
    axis.margins(y=0.15)
    if len(scores) == 1:
        axis.set_ylabel(next(iter(scores)).replace("_", " "), fontsize=8, color=SCORE_COLOURS[0])
    else:
        axis.legend(fontsize=7, loc="center right", framealpha=0.8, edgecolor="none")


def token_unit(tokens: int) -> tuple[float, str]:
    """What an axis up to so many tokens is divided by, and what its label adds."""
    for scale, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if tokens >= scale:
            return scale, f" ({name})"
    return 1.0, ""
