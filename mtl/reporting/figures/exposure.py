"""How much of each task the arms trained on: a bar for each arm, the plan as a thin strip above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.comparing.answer import Exposure
from mtl.reporting.figures.figure import Figure, Series
from mtl.reporting.figures.frame import WIDTH
from mtl.reporting.figures.svg import HUES, element, hue, link, note, picture, words
from mtl.reporting.numerals import share

ROW = 46.0
LEAST = 16.0
"""A piece as wide as this has its task's number written in."""


def exposure_bars(
    exposures: Sequence[Exposure], arms: Mapping[str, Series], tasks: Mapping[str, Series]
) -> Figure:
    """The figure; arms and tasks in the order of their series."""
    shown = [arm for arm in arms if any(one.arm == arm for one in exposures)]
    rows = [
        _row(
            arms[arm],
            [one for task in tasks for one in exposures if (one.arm, one.task) == (arm, task)],
            tasks,
            ROW * index,
        )
        for index, arm in enumerate(shown)
    ]
    panel = picture(
        WIDTH,
        ROW * len(shown) + 4,
        "Exposure to each task",
        f"Shares of {len(tasks)} tasks in the training of {len(shown)} arms.",
        *rows,
    )
    return Figure(
        name="exposure",
        title="What the arms trained on",
        reading="Share of training rows from each task; the thin strip above a bar is what the mixture planned.",
        panels=[panel],
        columns=("arm", "task", "planned", "share", "tokens", "passes"),
        rows=[(e.arm, e.task, e.planned, e.share, e.tokens, e.passes) for e in exposures],
        legend=[tasks[name] for name in tasks if any(one.task == name for one in exposures)],
    )


def _row(
    arm: Series, exposures: Sequence[Exposure], tasks: Mapping[str, Series], top: float
) -> str:
    parts = [link(arm.href, words(4, top + 13, f"{arm.number}  {arm.name}", class_="label"))]
    planned = realised = 4.0
    whole = WIDTH - 8
    for one in exposures:
        series = tasks[one.task]
        width, plan = whole * one.share, whole * one.planned
        about = f"{one.task}: {share(one.share)} of rows, planned {share(one.planned)}"
        fill = f"piece {hue(series.index)}{' second' if series.index >= HUES else ''}"
        pieces = [
            note(about),
            element("rect", x=planned, y=top + 18, width=plan, height=5.0, class_=fill),
            element("rect", x=realised, y=top + 25, width=width, height=17.0, class_=fill),
        ]
        if width >= LEAST:
            pieces.append(
                words(
                    realised + width / 2,
                    top + 37.5,
                    series.number,
                    anchor="middle",
                    class_="inside",
                )
            )
        parts.append(element("g", *pieces, class_="series", data_series=series.index))
        planned, realised = planned + plan, realised + width
    return "".join(parts)
