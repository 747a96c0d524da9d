"""Pieces of a picture as SVG text: elements, words, marks. Colours are classes, which the page's style sheet fills."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

HUES = 8
"""Colours in the palette (Okabe and Ito 2008, told apart with every common colour blindness); after these the marks
and dashes change."""
SHAPES = 4


def element(tag: str, *content: str, **attributes: object) -> str:
    """``<tag ...>content</tag>``: attributes that are None are left out, ``_`` becomes ``-``, numbers are rounded.

    :param content: Already SVG; see :func:`words` for text.
    """
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(content)
    return f"<{tag}{said}>{inside}</{tag}>" if inside else f"<{tag}{said}/>"


def words(x: float, y: float, content: str, **attributes: object) -> str:
    """Text at a point; ``anchor`` is ``start`` (the default), ``middle`` or ``end``."""
    anchor = attributes.pop("anchor", None)
    return element("text", escape(content), x=x, y=y, text_anchor=anchor, **attributes)


def note(content: str) -> str:
    """What is said of a mark where the pointer rests on it, and by a screen reader."""
    return element("title", escape(content))


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    """A line through points."""
    return element("polyline", points=joined(points), class_=class_, fill="none")


def joined(points: Sequence[tuple[float, float]]) -> str:
    """Points as an attribute says them."""
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def link(href: str | None, *content: str) -> str:
    """Content that leads somewhere, where there is somewhere to go."""
    return element("a", *content, href=href) if href else "".join(content)


def mark(series: int, x: float, y: float, size: float = 4.0) -> str:
    """The mark of a series: its colour, and its shape, which differs between neighbours in the order."""
    class_ = f"mark {hue(series)}"
    match series % SHAPES:
        case 0:
            return element("circle", cx=x, cy=y, r=size, class_=class_)
        case 1:
            side = 1.8 * size
            corner = (x - side / 2, y - side / 2)
            return element("rect", x=corner[0], y=corner[1], width=side, height=side, class_=class_)
        case 2:
            return polygon(
                [(x, y - 1.25 * size), (x + 1.2 * size, y + size), (x - 1.2 * size, y + size)],
                class_,
            )
        case _:
            far = 1.35 * size
            return polygon([(x, y - far), (x + far, y), (x, y + far), (x - far, y)], class_)


def polygon(points: Sequence[tuple[float, float]], class_: str) -> str:
    """A filled shape."""
    return element("polygon", points=joined(points), class_=class_)


def hue(series: int) -> str:
    """The class of a series' colour."""
    return f"hue{series % HUES}"


def dash(series: int) -> str:
    """The class of a series' line: whole for the first eight, then dashed, then dotted."""
    return f"dash{series // HUES % 3}"


def picture(width: float, height: float, title: str, description: str, *content: str) -> str:
    """A whole SVG; the title names it, the description says in a sentence what it shows."""
    return element(
        "svg",
        note(title),
        element("desc", escape(description)),
        *content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="group",
        aria_label=title,
        style=f"--width:{number(width)}px",
    )


def number(value: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def _attribute(value: object) -> str:
    return number(value) if isinstance(value, float) else escape(str(value))
