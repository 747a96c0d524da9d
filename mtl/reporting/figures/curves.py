"""Learning curves: the mean over an arm's seeds, and the band from its lowest to its highest seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl.reporting.figures.figure import Figure, Series, Value
from mtl.reporting.figures.frame import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, heading
from mtl.reporting.figures.scale import Scale, around
from mtl.reporting.figures.spacing import apart
from mtl.reporting.figures.svg import (
    HUES,
    dash,
    element,
    hue,
    joined,
    link,
    note,
    path,
    picture,
    words,
)

POINTS = 40
"""Of a curve; more are put together into so many, each the mean of its neighbours."""

Curve = Sequence[tuple[int, float]]
"""(tokens, value) of one run."""


@dataclass(frozen=True)
class Band:
    """A curve of an arm over its seeds; all arrays (P,)."""

    tokens: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    seeds: int


def band(curves: Sequence[Curve]) -> Band:
    """One curve for the seeds of an arm.

    Curves with as many points as one another were logged at the same steps and are put together point by point;
    otherwise they are read at the points of the first, as far as all of them reach.
    """
    thin = [_thin(np.asarray(curve, dtype=np.float64)) for curve in curves]
    if len({len(curve) for curve in thin}) == 1:
        tokens = np.mean([curve[:, 0] for curve in thin], axis=0)
        values = np.stack([curve[:, 1] for curve in thin])
    else:
        start = max(curve[0, 0] for curve in thin)
        stop = min(curve[-1, 0] for curve in thin)
        tokens = thin[0][:, 0]
        tokens = tokens[(tokens >= start) & (tokens <= stop)]
        values = np.stack([np.interp(tokens, curve[:, 0], curve[:, 1]) for curve in thin])
    return Band(tokens, values.mean(axis=0), values.min(axis=0), values.max(axis=0), len(thin))


def _thin(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(curve) <= POINTS:
        return curve
    return np.stack([piece.mean(axis=0) for piece in np.array_split(curve, POINTS)])


def learning_curves(
    name: str, title: str, curves: Mapping[str, Mapping[str, Band]], series: Mapping[str, Series]
) -> Figure:
    """A panel for each kind of curve, in it a line for each arm.

    :param curves: Name of the panel to arm to its curve.
    """
    rows: list[tuple[Value, ...]] = []
    for panel, arms in curves.items():
        for arm, found in arms.items():
            rows += [
                (panel, arm, *(float(value) for value in point), found.seeds)
                for point in zip(found.tokens, found.mean, found.low, found.high, strict=True)
            ]
    shown = {arm for arms in curves.values() for arm in arms}
    return Figure(
        name=name,
        title=title,
        reading="The line is the mean over seeds, the band reaches from the lowest seed to the highest. The number at "
        "the end of a line is the arm's in the legend.",
        panels=[_panel(panel, arms, series) for panel, arms in curves.items()],
        columns=("curve", "arm", "tokens", "mean", "low", "high", "seeds"),
        rows=rows,
        legend=[one for arm, one in series.items() if arm in shown],
    )


def _panel(name: str, arms: Mapping[str, Band], series: Mapping[str, Series]) -> str:
    x = around(
        (t for found in arms.values() for t in found.tokens), LEFT, WIDTH - RIGHT - 14, margin=0
    )
    y = around(
        (v for found in arms.values() for v in (*found.low, *found.high)), HEIGHT - BOTTOM, TOP
    )
    lines = [_line(arm, found, series[arm], x, y, len(arms) > HUES) for arm, found in arms.items()]
    ends = apart([y(float(found.mean[-1])) for found in arms.values()], 10.0, TOP, HEIGHT - BOTTOM)
    numbers = [
        words(
            x(float(found.tokens[-1])) + 4,
            end + 3,
            series[arm].number,
            class_=f"end {hue(series[arm].index)}",
        )
        for (arm, found), end in zip(arms.items(), ends, strict=True)
    ]
    task, _, measure = name.rpartition("/")
    return picture(
        WIDTH,
        HEIGHT,
        name,
        f"{name} over training tokens for {len(arms)} arms.",
        heading(*((task, measure) if task else (name,))),
        *axes(x, y, "training tokens"),
        *lines,
        *numbers,
    )


def _line(arm: str, found: Band, series: Series, x: Scale, y: Scale, crowded: bool) -> str:
    xs = [x(float(tokens)) for tokens in found.tokens]
    means, lows, highs = (
        list(zip(xs, (y(float(v)) for v in values), strict=True))
        for values in (found.mean, found.low, found.high)
    )
    parts = [note(f"{arm}: {found.mean[-1]:.4g} at the end, {found.seeds} seeds")]
    if found.seeds > 1:
        around_it = joined([*lows, *reversed(highs)])
        parts.append(
            element(
                "polygon",
                points=around_it,
                class_=f"band {hue(series.index)}{' faint' if crowded else ''}",
            )
        )
    parts.append(path(means, f"line {hue(series.index)} {dash(series.index)}"))
    return link(series.href, element("g", *parts, class_="series", data_series=series.index))
