"""Drawing in SVG: scales, axes and marks whose colours are those of the page, in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = 8
"""Colours of the page, ``--c0`` to ``--c7`` (Okabe and Ito's, told apart by the colour-blind); then dashes vary."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Figure:
    """A picture, and the very numbers that it shows."""

    name: str
    """Of its CSV file."""
    title: str
    caption: str
    """How to read it."""
    svg: str
    header: list[str]
    rows: list[list[object]]


@dataclass(kw_only=True)
class Scale:
    """Values to places on the picture."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(value)
        else:
            low, high = self.low, self.high
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the scale."""
        return log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, most)


@dataclass
class Drawing:
    """Pieces of one picture."""

    width: float
    height: float
    title: str
    pieces: list[str] = field(default_factory=list)

    def line(
        self,
        points: Sequence[tuple[float, float]],
        *,
        colour: str = "var(--faint)",
        wide: float = 1,
    ) -> None:
        """A line through places."""
        self.path(points, colour=colour, wide=wide)

    def path(
        self,
        points: Sequence[tuple[float, float]],
        *,
        colour: str,
        wide: float = 2,
        dash: str = "",
    ) -> None:
        """A line through places, dashed or not."""
        d = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.pieces.append(
            f'<path d="{d}" fill="none" style="stroke:{colour}" stroke-width="{wide:g}"{dashed}/>'
        )

    def area(self, points: Sequence[tuple[float, float]], *, colour: str, opacity: float) -> None:
        """A filled shape."""
        d = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points) + " Z"
        self.pieces.append(f'<path d="{d}" style="fill:{colour}" opacity="{opacity:g}"/>')

    def box(
        self, x: float, y: float, width: float, height: float, *, colour: str, note: str = ""
    ) -> None:
        """A filled rectangle, with words for whoever points at it."""
        title = f"<title>{escape(note)}</title>" if note else ""
        self.pieces.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
            f'style="fill:{colour}">{title}</rect>'
        )

    def dot(
        self,
        x: float,
        y: float,
        *,
        colour: str,
        filled: bool = True,
        size: float = 4,
        note: str = "",
    ) -> None:
        """A dot, full or hollow."""
        title = f"<title>{escape(note)}</title>" if note else ""
        fill = colour if filled else "var(--paper)"
        self.pieces.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" style="fill:{fill};stroke:{colour}" '
            f'stroke-width="1.6">{title}</circle>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "start",
        kind: str = "",
        turned: bool = False,
    ) -> None:
        """Words at a place."""
        turn = f' transform="rotate(-40 {x:.1f} {y:.1f})"' if turned else ""
        css = f' class="{kind}"' if kind else ""
        self.pieces.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}{turn}>{escape(words)}</text>'
        )

    def axes(
        self,
        x: Scale,
        y: Scale,
        *,
        x_label: str = "",
        x_ticks: Iterable[float] | None = None,
        y_ticks: Iterable[float] | None = None,
    ) -> None:
        """Grid lines with their values, below and to the left of the scales."""
        for value in x.ticks(4) if x_ticks is None else x_ticks:
            self.text(x(value), y.start + 16, short(value), anchor="middle", kind="tick")
        for value in y.ticks() if y_ticks is None else y_ticks:
            self.line([(x.start, y(value)), (x.end, y(value))])
            self.text(x.start - 6, y(value) + 4, short(value), anchor="end", kind="tick")
        self.line([(x.start, y.start), (x.end, y.start)], colour="var(--ink)")
        if x_label:
            self.text((x.start + x.end) / 2, y.start + 34, x_label, anchor="middle", kind="label")

    def svg(self) -> str:
        """The picture as a whole."""
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" role="img" '
            f'style="max-width:{self.width:.0f}px"><title>{escape(self.title)}</title>'
            f"{''.join(self.pieces)}</svg>"
        )


def colour(position: int) -> str:
    """The colour of the n-th line of a picture."""
    return f"var(--c{position % COLOURS})"


def dash(position: int) -> str:
    """Its dashes, so that lines of one colour differ."""
    return DASHES[position // COLOURS % len(DASHES)]


def legend(names: Sequence[str], order: Sequence[str]) -> str:
    """Names with their colours, as HTML beside pictures.

    :param order: All names that the page knows: the place in it is the colour, in every picture.
    """
    items = "".join(
        f'<li><svg viewBox="0 0 26 10" width="26" height="10" aria-hidden="true"><path d="M0 5 L26 5" '
        f'style="stroke:{colour(order.index(name))}" stroke-width="3" fill="none" '
        f'stroke-dasharray="{dash(order.index(name))}"/></svg> {escape(name)}</li>'
        for name in names
    )
    return f'<ul class="legend">{items}</ul>'


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` + 1 round values between two."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    return [(first + i) * step for i in range(count + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two values, or 1, 2 and 5 times them where there are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**e for e in exponents if low <= 10.0**e <= high]
    if len(tens) >= 3:
        return tens
    found = [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    return found or [low, high]


def short(value: float) -> str:
    """A value at an axis: ``0.4``, ``250k``, ``1.2M``."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{0.0 if abs(value) < 1e-12 else value:.3g}"


def padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of some values with room at both ends."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room
