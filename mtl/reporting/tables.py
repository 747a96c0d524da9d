"""A table before it has a form: the page, Markdown and LaTeX write the same one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mtl.reporting.numerals import DASH


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run that stands behind a number."""

    label: str
    """``seed 3``."""
    value: str
    """What this run alone says."""
    hrefs: Sequence[str] = ()
    """Its folder, or the folders of the two runs that were subtracted."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell."""

    text: str
    more: str = ""
    """In a lighter hand behind the text: an interval."""
    why: str = ""
    """Shown where the pointer rests: the reason for a dash, what decided a verdict."""
    href: str | None = None
    sources: Sequence[Source] = ()
    strong: bool = False
    look: str = ""
    """Class on the page: ``better``, ``worse``, ``undecided``."""

    @property
    def whole(self) -> str:
        return self.text + self.more


def missing(why: str) -> Entry:
    """A dash with its reason."""
    return Entry(text=DASH, why=why)


def words(text: str, *, href: str | None = None, why: str = "") -> Entry:
    """A cell of text."""
    return Entry(text=text, href=href, why=why)


@dataclass(frozen=True)
class Column:
    """A column's heading."""

    heading: str
    number: bool = True
    """Whether it is set to the right."""
    why: str = ""
    """What the heading means."""
    typeset: bool = True
    """Whether LaTeX has it; sentences are too long for a column of a paper."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows below a heading of their own; without one where it is empty."""

    heading: str = ""
    anchor: str = ""
    rows: Sequence[Sequence[Entry]]
    anchors: Sequence[str] = ()
    """Of the rows, where others link to them."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns, and groups of rows with a cell for each column."""

    name: str
    title: str
    columns: Sequence[Column]
    groups: Sequence[Group] = field(default_factory=tuple)
    reading: str = ""
    """How it is read; stands below it."""
    keep: int = 1
    """Columns at the left that stay in sight where the table scrolls."""
