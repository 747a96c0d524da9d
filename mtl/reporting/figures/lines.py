"""Lines over something: learning curves, the search, and the study's axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtl.comparing.answer import Answer
from mtl.comparing.results import Arm, Results
from mtl.reporting.svg import Drawing, Figure, Scale, colour, dash, legend, padded

WIDE, TALL = 330, 230
MARGIN = {"left": 52, "right": 12, "top": 28, "bottom": 44}
COLUMNS = 3


@dataclass(frozen=True)
class Line:
    """One line of a panel."""

    name: str
    points: list[tuple[float, float]]
    low: list[float] | None = None
    """Lower end of the band at each point."""
    high: list[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One picture of several beside each other."""

    title: str
    label: str
    """Of the horizontal axis."""
    lines: list[Line]
    log: bool = False
    labels: list[str] | None = None
    """Names of the places 0, 1, 2, ... where the axis has no numbers."""


def panels(found: Sequence[Panel], names: list[str], title: str) -> str:
    """Panels beside and below each other, with one legend.

    :param names: All lines that the page knows, in the order of their colours.
    """
    columns = min(COLUMNS, len(found))
    lines = -(-len(found) // columns)
    drawing = Drawing(columns * WIDE, lines * TALL, title)
    for position, panel in enumerate(found):
        _draw(drawing, panel, names, (position % columns) * WIDE, (position // columns) * TALL)
    shown = {line.name for panel in found for line in panel.lines}
    return legend([name for name in names if name in shown], names) + drawing.svg()


def learning_curves(results: Results, answer: Answer) -> Figure | None:
    """What the selection split was scored during training: all tasks, then each; mean over seeds, band from the
    lowest to the highest."""
    order = [s.arm for s in answer.standings]
    # What reads running text alone is selected by the likelihood of text, which is another scale.
    arms = [results.arm(s.arm) for s in answer.standings if s.panel == "supervised"]
    wanted = ["selection_average"]
    for task in results.tasks:
        wanted += sorted(
            {
                n
                for arm in arms
                for run in arm.runs
                for n in run.curves
                if n.startswith(f"{task}/selection_")
            }
            & {f"{task}/selection_{cell.metric}" for cell in answer.cells if cell.task == task}
        )
    found: list[Panel] = []
    rows: list[list[object]] = []
    for name in wanted:
        lines = []
        for arm in arms:
            if (line := _curve(arm, name)) is None:
                continue
            lines.append(line)
            assert line.low is not None
            assert line.high is not None
            rows += [
                [name, arm.name, tokens, value, low, high]
                for (tokens, value), low, high in zip(line.points, line.low, line.high, strict=True)
            ]
        if lines:
            found.append(Panel(name.replace("selection_", ""), "tokens", lines))
    if not found:
        return None
    return Figure(
        "learning_curves",
        "Learning curves",
        "The selection split over training tokens: mean over seeds, the band from the lowest seed to the highest. Ways "
        "that train each task alone have no score of all tasks before their end, and are not shown.",
        panels(found, order, "Learning curves"),
        ["curve", "arm", "tokens", "mean", "lowest", "highest"],
        rows,
    )


def search(answer: Answer) -> Figure | None:
    """Expected best score over the number of trials."""
    lines = [
        Line(arm, [(float(n), value) for n, value in points])
        for arm, points in answer.expected_best.items()
        if len(points) > 1
    ]
    if not lines:
        return None
    order = [s.arm for s in answer.standings]
    order += [line.name for line in lines if line.name not in order]
    return Figure(
        "search",
        "What tuning is worth",
        "Expected best score on the selection split after so many trials (Dodge et al. 2019). Where a line still "
        "rises, more trials would have helped that arm. A zero-shot arm is tuned by the likelihood of held-out text.",
        panels([Panel("expected best", "trials", lines)], order, "Expected best over trials"),
        ["arm", "trials", "expected_best"],
        [[line.name, int(x), y] for line in lines for x, y in line.points],
    )


def axis(results: Results, answer: Answer, name: str) -> Figure | None:
    """Score, parameters and seconds along one of the study's axes."""
    levels = results.axes[name]
    others = [other for other in results.axes if other != name]
    groups: dict[str, dict[str, list[int]]] = {}
    for index, standing in enumerate(answer.standings):
        arm = results.arm(standing.arm)
        if name not in arm.factors:
            continue
        line = " / ".join([arm.family, *(arm.factors[other] for other in others)])
        groups.setdefault(line, {}).setdefault(arm.factors[name], []).append(index)
    if not groups:
        return None
    found: list[Panel] = []
    rows: list[list[object]] = []
    for title in ("score", "parameters", "seconds"):
        lines = []
        for line, by_level in groups.items():
            points, lows, highs = [], [], []
            for place, level in enumerate(levels):
                for index in by_level.get(level, []):
                    standing = answer.standings[index]
                    value = {
                        "score": standing.average.value,
                        "parameters": standing.cost.parameters_total,
                        "seconds": standing.cost.seconds,
                    }[title]
                    low = standing.average.low if title == "score" else None
                    high = standing.average.high if title == "score" else None
                    points.append((float(place), value))
                    lows.append(value if low is None else low)
                    highs.append(value if high is None else high)
                    rows.append([title, line, level, value, low, high])
            lines.append(Line(line, points, lows, highs))
        found.append(Panel(title, name, lines, labels=levels))
    return Figure(
        f"axis_{name}",
        f"Along the axis: {name}",
        "Mean over seeds; the band is the 95 % interval of the score. Parameters and seconds of training are means "
        "over runs.",
        panels(found, list(groups), f"Score, parameters and seconds over {name}"),
        ["measure", "line", name, "value", "low", "high"],
        rows,
    )


def _curve(arm: Arm, name: str) -> Line | None:
    """Mean and range over seeds at each scoring; only of runs in which all tasks are trained together."""
    curves = [
        run.curves[name]
        for run in arm.runs
        if run.ending == "finished" and name in run.curves and "selection_average" in run.curves
    ]
    if not curves:
        return None
    shortest = min(map(len, curves))
    if shortest == 0:
        return None
    at = [[curve[i] for curve in curves] for i in range(shortest)]
    points = [(sum(t for t, _ in one) / len(one), sum(v for _, v in one) / len(one)) for one in at]
    return Line(
        arm.name,
        points,
        [min(v for _, v in one) for one in at],
        [max(v for _, v in one) for one in at],
    )


def _draw(drawing: Drawing, panel: Panel, names: list[str], x0: float, y0: float) -> None:
    xs = [x for line in panel.lines for x, _ in line.points]
    ys = [y for line in panel.lines for _, y in line.points]
    ys += [v for line in panel.lines for v in [*(line.low or []), *(line.high or [])]]
    x_low, x_high = padded(xs, 0.05)
    y_low, y_high = padded(ys)
    x = Scale(low=x_low, high=x_high, start=x0 + MARGIN["left"], end=x0 + WIDE - MARGIN["right"])
    y = Scale(low=y_low, high=y_high, start=y0 + TALL - MARGIN["bottom"], end=y0 + MARGIN["top"])
    drawing.text(x.start, y0 + 16, panel.title, kind="heading")
    if panel.labels is None:
        whole = panel.label == "trials"
        ticks = [t for t in x.ticks(4) if t >= 0 and (not whole or t == int(t))]
        drawing.axes(x, y, x_label=panel.label, x_ticks=ticks)
    else:
        drawing.axes(x, y, x_label=panel.label, x_ticks=[])
        for place, label in enumerate(panel.labels):
            drawing.text(x(float(place)), y.start + 16, label, anchor="middle", kind="tick")
    for line in panel.lines:
        position = names.index(line.name)
        if line.low is not None and line.high is not None and len(line.points) > 1:
            upper = [(x(px), y(v)) for (px, _), v in zip(line.points, line.high, strict=True)]
            lower = [(x(px), y(v)) for (px, _), v in zip(line.points, line.low, strict=True)]
            drawing.area([*upper, *reversed(lower)], colour=colour(position), opacity=0.12)
        places = [(x(px), y(py)) for px, py in line.points]
        if len(places) > 1:
            drawing.path(places, colour=colour(position), dash=dash(position))
        for (px, py), (vx, vy) in zip(places, line.points, strict=True):
            drawing.dot(
                px, py, colour=colour(position), size=2.6, note=f"{line.name}: {vy:.4g} at {vx:g}"
            )
