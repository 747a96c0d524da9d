"""Score against cost, and the front of arms that no other one beats at no higher cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.comparing.answer import Standing
from mtl.reporting.figures.figure import Figure, Series, Value
from mtl.reporting.figures.frame import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, heading
from mtl.reporting.figures.scale import Scale, around
from mtl.reporting.figures.spacing import Box, beside
from mtl.reporting.figures.svg import element, hue, line, link, mark, note, path, picture, words
from mtl.reporting.numerals import score, span

KINDS = {
    "tokens": "training tokens",
    "flops": "floating-point operations",
    "seconds": "seconds of training",
    "parameters_total": "parameters",
}
"""Cost to its name in words."""


def score_against_cost(
    standings: Sequence[Standing], series: Mapping[str, Series], *, falls: bool, primary: str
) -> Figure:
    """A panel for each cost.

    :param standings: Of one panel of the leaderboard.
    :param falls: Whether the primary metric is better where it is lower.
    """
    rows: list[tuple[Value, ...]] = []
    for kind in KINDS:
        for one in standings:
            at = one.cost.whole(kind)
            ends = (one.average.value, one.average.low, one.average.high)
            rows.append((kind, one.arm, at, *ends, "yes" if one.efficient.get(kind) else "no"))
    better = "lower" if falls else "higher"
    return Figure(
        name="cost",
        title="Score against cost",
        reading=f"Each mark is an arm: the mean over seeds of its score ({primary}, {better} is better) with its 95 % "
        "interval, against what training it cost, pretraining counted in. The line joins the arms that no other one "
        "beats at the same cost or less; a ring marks them.",
        panels=[_panel(kind, standings, series, falls, primary) for kind in KINDS],
        columns=("cost", "arm", "value", "score", "low", "high", "efficient"),
        rows=rows,
        legend=[series[one.arm] for one in standings],
    )


def _panel(
    kind: str,
    standings: Sequence[Standing],
    series: Mapping[str, Series],
    falls: bool,
    primary: str,
) -> str:
    costs = [one.cost.whole(kind) for one in standings]
    x = around(costs, LEFT, WIDTH - RIGHT, margin=0.08)
    ends = [
        end
        for one in standings
        for end in (one.average.value, one.average.low, one.average.high)
        if end is not None
    ]
    y = around(ends, HEIGHT - BOTTOM, TOP)
    points = [(x(at), y(one.average.value)) for at, one in zip(costs, standings, strict=True)]
    marks = [
        _mark(one, series[one.arm], kind, place, y)
        for one, place in zip(standings, points, strict=True)
    ]
    return picture(
        WIDTH,
        HEIGHT,
        f"Score against {KINDS[kind]}",
        f"{len(standings)} arms: {primary} against {KINDS[kind]}, with the Pareto front.",
        heading(KINDS[kind]),
        *axes(x, y, KINDS[kind], ticks=4),
        _front(standings, points, kind, x, falls, y),
        *marks,
        *_labels(standings, series, points),
    )


def _front(
    standings: Sequence[Standing],
    points: Sequence[tuple[float, float]],
    kind: str,
    x: Scale,
    falls: bool,
    y: Scale,
) -> str:
    """A staircase: at any cost, the best score that can be had for it."""
    on_it = sorted(
        point for one, point in zip(standings, points, strict=True) if one.efficient.get(kind)
    )
    if not on_it:
        return ""
    steps = [(on_it[0][0], y.start)] if not falls else [(on_it[0][0], y.stop)]
    for place, height in on_it:
        steps += [(place, steps[-1][1]), (place, height)]
    return path([*steps, (x.stop, steps[-1][1])], "front")


def _mark(one: Standing, series: Series, kind: str, place: tuple[float, float], y: Scale) -> str:
    parts = [note(f"{one.arm}: {score(one.average.value)}{span(one.average)}")]
    if one.average.low is not None and one.average.high is not None:
        ends = y(one.average.low), y(one.average.high)
        parts.append(line(place[0], ends[0], place[0], ends[1], f"whisker {hue(series.index)}"))
    if one.efficient.get(kind):
        parts.append(element("circle", cx=place[0], cy=place[1], r=8.0, class_="ring"))
    parts.append(mark(series.index, *place))
    return link(series.href, element("g", *parts, class_="series", data_series=series.index))


def _labels(
    standings: Sequence[Standing],
    series: Mapping[str, Series],
    points: Sequence[tuple[float, float]],
) -> list[str]:
    texts = [series[one.arm].number for one in standings]
    room = Box(LEFT, TOP, WIDTH - 2, HEIGHT - BOTTOM)
    places = beside(points, [7.0 * len(text) + 2 for text in texts], 11.0, room)
    found = []
    for text, (x, y), (px, py) in zip(texts, places, points, strict=True):
        if abs(x - px) > 24 or abs(y - py) > 14:
            found.append(line(px, py, x, y, "leader"))
        found.append(words(x, y + 3.5, text, anchor="middle", class_="end ink halo"))
    return found
