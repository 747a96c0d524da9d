"""What becomes of score and size along an axis of the study, a line for each family of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtl.comparing.answer import Interval
from mtl.reporting.figures.figure import Figure, Series, Value
from mtl.reporting.figures.frame import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    heading,
    named_axis,
    y_axis,
)
from mtl.reporting.figures.scale import Scale, around
from mtl.reporting.figures.spacing import apart
from mtl.reporting.figures.svg import (
    dash,
    element,
    hue,
    line,
    link,
    mark,
    note,
    path,
    picture,
    words,
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """An arm's place on the axis."""

    measure: str
    """What is shown; a panel for each."""
    family: str
    level: str
    arm: str
    value: Interval
    href: str | None = None


def along_axis(
    axis: str, levels: Sequence[str], points: Sequence[Point], families: Mapping[str, Series]
) -> Figure:
    """A panel for each measure; levels stand at equal distances, in their order."""
    measures = list(dict.fromkeys(point.measure for point in points))
    rows: list[tuple[Value, ...]] = [
        (p.measure, p.family, p.level, p.arm, p.value.value, p.value.low, p.value.high)
        for p in points
    ]
    return Figure(
        name=f"along_{''.join(c if c.isalnum() else '_' for c in axis)}",
        title=f"Along {axis}",
        reading=f"A line for each family of arms over the levels of {axis}; means over seeds with 95 % intervals.",
        panels=[
            _panel(measure, axis, levels, [p for p in points if p.measure == measure], families)
            for measure in measures
        ],
        columns=("measure", "family", axis, "arm", "value", "low", "high"),
        rows=rows,
        legend=list(families.values()),
    )


def _panel(
    measure: str,
    axis: str,
    levels: Sequence[str],
    points: Sequence[Point],
    families: Mapping[str, Series],
) -> str:
    gap = (WIDTH - LEFT - RIGHT - 14) / len(levels)
    places = {level: LEFT + gap * (index + 0.5) for index, level in enumerate(levels)}
    ends = [e for p in points for e in (p.value.value, p.value.low, p.value.high) if e is not None]
    y = around(ends, HEIGHT - BOTTOM, TOP)
    lines, last = [], {}
    for family, series in families.items():
        own = sorted((p for p in points if p.family == family), key=lambda p: places[p.level])
        if own:
            lines.append(_line(own, series, places, y))
            last[family] = (places[own[-1].level], y(own[-1].value.value))
    heights = apart([height for _, height in last.values()], 10.0, TOP, HEIGHT - BOTTOM)
    numbers = [
        words(last[family][0] + 9, height + 3, families[family].number, class_="end ink halo")
        for family, height in zip(last, heights, strict=True)
    ]
    return picture(
        WIDTH,
        HEIGHT,
        f"{measure} along {axis}",
        f"{measure} of {len(last)} families at {len(levels)} levels of {axis}.",
        heading(measure),
        *y_axis(y, LEFT, WIDTH - RIGHT),
        *named_axis([(place, level) for level, place in places.items()], y.start, axis),
        *lines,
        *numbers,
    )


def _line(points: Sequence[Point], series: Series, places: Mapping[str, float], y: Scale) -> str:
    parts = [
        path(
            [(places[p.level], y(p.value.value)) for p in points],
            f"line {hue(series.index)} {dash(series.index)}",
        )
    ]
    for p in points:
        x, height = places[p.level], y(p.value.value)
        shown = [note(f"{p.arm}: {p.value.value:.4g}")]
        if p.value.low is not None and p.value.high is not None:
            shown.append(
                line(x, y(p.value.low), x, y(p.value.high), f"whisker {hue(series.index)}")
            )
        shown.append(mark(series.index, x, height))
        parts.append(link(p.href, element("g", *shown)))
    return element("g", *parts, class_="series", data_series=series.index)
