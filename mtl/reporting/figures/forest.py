"""Forest plot: each arm's paired difference to the reference with its interval, a panel for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.comparing.answer import Comparison, Interval
from mtl.reporting.figures.figure import Figure, Series
from mtl.reporting.figures.frame import WIDTH, heading, x_axis
from mtl.reporting.figures.scale import Scale, around
from mtl.reporting.figures.svg import element, line, link, note, picture, polygon, words
from mtl.reporting.numerals import change, span

ROW = 34.0
SIDE = 16.0
TOP = 26.0
COLUMNS = ("task", "arm", "reference", "points", "low", "high", "p", "p_holm", "verdict", "seeds")


def forest(
    comparisons: Sequence[Comparison], series: Mapping[str, Series], reference: str
) -> Figure:
    """The figure of comparisons, which are drawn in their order.

    :param reference: What they are with, in words.
    """
    tasks = list(dict.fromkeys(one.task for one in comparisons))
    panels = [_panel([one for one in comparisons if one.task == task], series) for task in tasks]
    rows = [
        (
            one.task,
            one.arm,
            one.reference,
            one.points.value,
            one.points.low,
            one.points.high,
            one.p,
            one.p_holm,
            one.verdict,
            len(one.seeds),
        )
        for one in comparisons
    ]
    return Figure(
        name="forest",
        title=f"Difference to {reference}, task by task",
        reading="Mean difference over seeds, each run against the reference's run of the same seed, with its 95 % "
        "interval; right of 0 is better. A filled triangle is a claim: the interval excludes 0 and the corrected test "
        "agrees. A hollow circle is undecided, which is not the same as equal. Panels have scales of their own.",
        panels=panels,
        columns=COLUMNS,
        rows=rows,
    )


def _panel(comparisons: Sequence[Comparison], series: Mapping[str, Series]) -> str:
    task = comparisons[0].task
    ends = [end for one in comparisons for end in _ends(one.points)]
    scale = around(ends, SIDE, WIDTH - SIDE, zero=True)
    bottom = TOP + ROW * len(comparisons) + 6
    rows = [
        _row(one, series[one.arm], scale, TOP + ROW * index)
        for index, one in enumerate(comparisons)
    ]
    return picture(
        WIDTH,
        bottom + 38,
        task,
        f"Differences of {len(comparisons)} arms to their reference on {task}, in points.",
        heading("average over tasks" if task == "average" else task),
        line(scale(0), TOP, scale(0), bottom, "zero"),
        *rows,
        *x_axis(scale, bottom, TOP, "points"),
    )


def _row(one: Comparison, series: Series, scale: Scale, top: float) -> str:
    middle = top + 24
    x = scale(one.points.value)
    parts = [
        words(4, top + 12, f"{series.number}  {one.arm}", class_="label halo"),
        words(
            WIDTH - 4,
            top + 12,
            f"{change(one.points.value)} {one.verdict}",
            anchor="end",
            class_=f"label halo {one.verdict}",
        ),
    ]
    if one.points.low is not None and one.points.high is not None:
        low, high = scale(one.points.low), scale(one.points.high)
        parts.append(line(low, middle, high, middle, f"whisker {one.verdict}"))
        parts += [
            line(end, middle - 4, end, middle + 4, f"whisker {one.verdict}") for end in (low, high)
        ]
    parts.append(_sign(one.verdict, x, middle))
    about = (
        f"{one.arm}: {change(one.points.value)} points{span(one.points, change)}, {one.verdict_why}"
    )
    return link(series.href, element("g", note(about), *parts, class_="row"))


def _sign(verdict: str, x: float, y: float) -> str:
    class_ = f"sign {verdict}"
    match verdict:
        case "better":
            return polygon([(x, y - 6), (x + 6, y + 5), (x - 6, y + 5)], class_)
        case "worse":
            return polygon([(x, y + 6), (x + 6, y - 5), (x - 6, y - 5)], class_)
        case _:
            return element("circle", cx=x, cy=y, r=4.5, class_=class_)


def _ends(interval: Interval) -> list[float]:
    return [end for end in (interval.value, interval.low, interval.high) if end is not None]
