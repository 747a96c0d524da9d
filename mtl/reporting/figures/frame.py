"""The axes of a panel: grid lines, ticks with their labels, and names."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mtl.reporting.figures.scale import Scale
from mtl.reporting.figures.svg import element, line, words

WIDTH = 400.0
"""Of a panel, in pixels: a phone shows it whole, a screen three beside one another."""
HEIGHT = 250.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 14.0, 30.0, 42.0


def heading(text: str, more: str = "") -> str:
    """The name of a panel, and what it measures in a lighter hand."""
    lighter = element("tspan", escape(more), class_="light", dx="6") if more else ""
    return element("text", escape(text), lighter, x=4, y=15, class_="heading")


def axes(x: Scale, y: Scale, x_name: str, *, ticks: int = 5) -> list[str]:
    """Both axes of a panel with numbers on them."""
    return [*y_axis(y, x.start, x.stop), *x_axis(x, y.start, y.stop, x_name, ticks)]


def y_axis(y: Scale, left: float, right: float) -> list[str]:
    """Grid lines across, with their numbers on the left."""
    found = []
    for tick, label in y.labels():
        found.append(line(left, y(tick), right, y(tick), "grid"))
        found.append(words(left - 5, y(tick) + 3.5, label, anchor="end", class_="tick y"))
    return found


def x_axis(x: Scale, bottom: float, top: float, name: str, ticks: int = 5) -> list[str]:
    """Ticks below, with their numbers; no grid lines."""
    found = [line(x.start, bottom, x.stop, bottom, "base")]
    for tick, label in x.labels(ticks):
        found.append(line(x(tick), bottom, x(tick), bottom + 4, "base"))
        found.append(words(x(tick), bottom + 15, label, anchor="middle", class_="tick x"))
    found.append(words((x.start + x.stop) / 2, bottom + 31, name, anchor="middle", class_="axis"))
    return found


def named_axis(places: Sequence[tuple[float, str]], bottom: float, name: str) -> list[str]:
    """An axis whose places have names instead of numbers."""
    found = [
        words(place, bottom + 15, label, anchor="middle", class_="tick x")
        for place, label in places
    ]
    middle = (places[0][0] + places[-1][0]) / 2
    return [*found, words(middle, bottom + 31, name, anchor="middle", class_="axis")]
