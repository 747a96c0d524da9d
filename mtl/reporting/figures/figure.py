"""What a figure is: its panels, what is said of it, and the very numbers that it draws."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtl.reporting.figures.svg import dash, hue, mark, path

Value = str | int | float | None


@dataclass(frozen=True)
class Series:
    """What a line or a mark stands for."""

    name: str
    index: int
    """Position in the palette; one more is the number that stands beside its marks."""
    href: str | None = None
    """Where its runs are listed."""

    @property
    def number(self) -> str:
        return str(self.index + 1)

    @property
    def sample(self) -> str:
        """A piece of its line with its mark, for a legend."""
        line = path([(1, 5), (25, 5)], f"line {hue(self.index)} {dash(self.index)}")
        return line + mark(self.index, 13, 5, 3.4)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of the page."""

    name: str
    """Of its CSV."""
    title: str
    reading: str
    """How it is read, in a sentence or two."""
    panels: Sequence[str]
    """One SVG each; they are set beside one another as the screen allows."""
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    """What is drawn, a row for each mark; numbers are not rounded."""
    legend: Sequence[Series] = field(default_factory=tuple)
    wide: bool = False
    """Whether a panel is wider than a column, and scrolls on a small screen."""

    @property
    def grid(self) -> str:
        """Class of how its panels are set."""
        if self.wide:
            return "wide"
        return {1: "single", 4: "pairs"}.get(len(self.panels), "many")

    def as_csv(self) -> str:
        """The rows as CSV (RFC 4180, lines end in a line feed); what is missing is empty."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return file.getvalue()
