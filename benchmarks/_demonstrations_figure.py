"""The figure of ``demonstrations.py``: a panel for each task, its score over the share of demonstrations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = 4
METRIC_NAMES = {
    "token_f1": "F1",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "matthews": "Matthews",
    "pearson": "Pearson",
}
LIGHT = {
    "background": "#ffffff",
    "text": "#1b1f24",
    "faint": "#6a737d",
    "grid": "#eceff2",
    "band": "#dfe3e8",
    "rates": "#1f5fa8",
    "controls": "#c8553d",
}
DARK = {
    "background": "#0d1117",
    "text": "#e6edf3",
    "faint": "#8b949e",
    "grid": "#1d242d",
    "band": "#30363d",
    "rates": "#6cb0f5",
    "controls": "#ef8a6f",
}


def draw(result: Mapping[str, Any], path: Path, *, dark: bool = False) -> Path:
    """Draw what ``demonstrations.py`` has measured.

    :param result: As in its JSON.
    :param path: Where to; the ending says the format (.png, .svg).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = DARK if dark else LIGHT
    tasks = result["tasks"]
    columns = min(COLUMNS, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(
        figsize=(2.55 * columns + 0.5, 2.05 * rows + 1.1), dpi=150, facecolor=colours["background"]
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    places = positions(sorted({run["rate"] for run in result["runs"]}))
    for index, panel in enumerate(panels.flatten()):
        if index >= len(tasks):
            panel.set_visible(False)
            continue
        name = list(tasks)[index]
        _panel(panel, name, tasks[name], result["runs"], places, colours)
        panel.tick_params(labelbottom=index + columns >= len(tasks))
    _header(figure, result, colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=colours["background"])
    return path


def positions(rates: Sequence[float]) -> dict[float, float]:
    """Where each rate stands: the logarithm to base 10, and 0 one place before the smallest other."""
    above = [rate for rate in rates if rate > 0]
    places = {rate: math.log10(rate) for rate in above}
    if 0 in rates:
        places[0.0] = min(places.values(), default=1.0) - 1
    return places


def _panel(
    panel: Any,
    name: str,
    task: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    places: Mapping[float, float],
    colours: Mapping[str, str],
) -> None:
    metric, band = task["metric"], task["band"]
    left, right = min(places.values()) - 0.35, max(places.values()) + 0.35
    panel.set_facecolor(colours["background"])
    panel.axhspan(band["low"], band["high"], color=colours["band"], linewidth=0, zorder=1)
    for kind, permuted in (("controls", True), ("rates", False)):
        own = [run for run in runs if run["permuted"] == permuted]
        _series(panel, name, metric, own, places, colours[kind], control=permuted)
    values = [run["scores"][name][metric]["low"] for run in runs]
    floor = min([band["low"], *values])
    panel.set_xlim(left, right)
    panel.set_ylim(floor - 0.06 * (1 - floor), 1 + 0.04 * (1 - floor))
    panel.set_title(
        name.replace("_", " "),
        fontsize=9.5,
        loc="left",
        fontweight="bold",
        color=colours["text"],
        pad=5,
    )
    panel.set_title(
        METRIC_NAMES.get(metric, metric.replace("_", " ")),
        fontsize=8,
        loc="right",
        color=colours["faint"],
        pad=5,
    )
    panel.set_xticks([places[rate] for rate in sorted(places)])
    panel.set_xticklabels([_share(rate) for rate in sorted(places)])
    panel.tick_params(labelsize=8, colors=colours["faint"], length=0)
    panel.grid(axis="y", color=colours["grid"], linewidth=0.8, zorder=0)
    panel.set_axisbelow(True)
    for side, spine in panel.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colours["faint"])
        spine.set_linewidth(0.8)
    if 0.0 in places and len(places) > 1:
        # The scale is broken between 0 and the smallest rate.
        gap = (places[0.0] + sorted(places.values())[1]) / 2
        panel.plot(
            [gap],
            [0],
            transform=panel.get_xaxis_transform(),
            marker=[(-0.6, -1), (0.6, 1)],
            markersize=7,
            linestyle="none",
            color=colours["faint"],
            clip_on=False,
            zorder=5,
        )


def _series(
    panel: Any,
    name: str,
    metric: str,
    runs: Sequence[Mapping[str, Any]],
    places: Mapping[float, float],
    colour: str,
    *,
    control: bool,
) -> None:
    """The mean over seeds, and a bar from the lowest to the highest end of their intervals."""
    rates = sorted({run["rate"] for run in runs})
    scores = {
        rate: [run["scores"][name][metric] for run in runs if run["rate"] == rate] for rate in rates
    }
    # Beside each other, not over each other.
    shift = 0.09 if control else 0.0
    x = [places[rate] + shift for rate in rates]
    means = [sum(score["value"] for score in scores[rate]) / len(scores[rate]) for rate in rates]
    for place, rate in zip(x, rates, strict=True):
        low = min(score["low"] for score in scores[rate])
        high = max(score["high"] for score in scores[rate])
        panel.plot([place, place], [low, high], color=colour, linewidth=1.1, zorder=3)
    panel.plot(
        x,
        means,
        color=colour,
        linewidth=0 if control else 1.7,
        marker="D" if control else "o",
        markersize=4.6 if control else 5,
        markerfacecolor=panel.get_facecolor() if control else colour,
        markeredgewidth=1.3,
        zorder=4,
    )


def _header(figure: Any, result: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.045,
        right=0.99,
        top=1 - 0.98 / height,
        bottom=0.52 / height,
        wspace=0.22,
        hspace=0.34,
    )
    figure.text(
        0.012,
        1 - 0.11 / height,
        "Zero-shot scores by how often the training text demonstrates the tasks",
        fontsize=12.5,
        fontweight="bold",
        color=colours["text"],
        va="top",
    )
    handles = [
        Line2D([], [], color=colours["rates"], marker="o", markersize=5, linewidth=1.7),
        Line2D(
            [],
            [],
            color=colours["controls"],
            marker="D",
            markersize=4.6,
            linewidth=0,
            markerfacecolor=colours["background"],
            markeredgewidth=1.3,
        ),
        Patch(color=colours["band"], linewidth=0),
    ]
    figure.legend(
        handles,
        [
            "score on unseen rows",
            "control: the same text, its answers permuted",
            "95 % of the scores of random answers",
        ],
        loc="upper left",
        bbox_to_anchor=(0.004, 1 - 0.34 / height),
        ncols=3,
        fontsize=8.5,
        frameon=False,
        labelcolor=colours["text"],
        handletextpad=0.6,
        columnspacing=1.8,
        borderpad=0.2,
    )
    figure.supxlabel(
        "training documents that demonstrate a task, in %",
        fontsize=8.5,
        color=colours["text"],
        y=0.1 / height,
    )


def _share(rate: float) -> str:
    """In per cent, as on the axis."""
    return f"{100 * rate:g}"
