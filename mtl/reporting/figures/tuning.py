"""Expected best score after so many tuning trials (Dodge et al. 2019, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mtl.reporting.figures.figure import Figure, Series
from mtl.reporting.figures.frame import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes
from mtl.reporting.figures.scale import around
from mtl.reporting.figures.spacing import apart
from mtl.reporting.figures.svg import dash, element, hue, link, mark, note, path, picture, words


def expected_best(
    found: Mapping[str, Sequence[tuple[int, float]]], series: Mapping[str, Series], objective: str
) -> Figure:
    """A line for each arm that was tuned."""
    arms = [arm for arm in series if found.get(arm)]
    x = around((n for arm in arms for n, _ in found[arm]), LEFT, WIDTH - RIGHT - 14, margin=0.02)
    x = replace(x, least=1.0)
    y = around((v for arm in arms for _, v in found[arm]), HEIGHT - BOTTOM, TOP - 14)
    lines = []
    for arm in arms:
        one = series[arm]
        places = [(x(float(n)), y(value)) for n, value in found[arm]]
        class_ = f"line {hue(one.index)} {dash(one.index)}"
        marks = [mark(one.index, *place, 2.5) for place in places]
        shown = [note(f"{arm}: {found[arm][-1][1]:.4g}"), path(places, class_), *marks]
        lines.append(link(one.href, element("g", *shown, class_="series", data_series=one.index)))
    heights = apart([y(found[arm][-1][1]) for arm in arms], 10.0, TOP - 14, HEIGHT - BOTTOM)
    numbers = [
        words(
            x(float(found[arm][-1][0])) + 6,
            height + 3,
            series[arm].number,
            class_=f"end {hue(series[arm].index)}",
        )
        for arm, height in zip(arms, heights, strict=True)
    ]
    panel = picture(
        WIDTH,
        HEIGHT,
        "Expected best selection score",
        f"Expected best {objective} after so many trials, for {len(arms)} arms.",
        *axes(x, y, "tuning trials"),
        *lines,
        *numbers,
    )
    return Figure(
        name="expected_best",
        title="What tuning bought",
        reading=f"The {objective} on the selection split that the best of so many trials of the search is expected to "
        "have. A line that still rises says that more trials would have helped; arms are compared fairly where all "
        "have had as many.",
        panels=[panel],
        columns=("arm", "trials", "expected_best"),
        rows=[(arm, n, value) for arm in arms for n, value in found[arm]],
        legend=[series[arm] for arm in arms],
    )
