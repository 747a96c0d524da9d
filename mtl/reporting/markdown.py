"""Tables as GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mtl.reporting.tables import Entry, Table


def as_markdown(tables: Iterable[Table]) -> str:
    """The tables one below the other, each under its title."""
    return "\n".join("\n".join(_table(table)) for table in tables)


def _table(table: Table) -> Iterator[str]:
    yield f"### {escaped(table.title)}\n"
    headings = [escaped(column.heading) for column in table.columns]
    yield _line(headings)
    yield _line("---:" if column.number else "---" for column in table.columns)
    for group in table.groups:
        if group.heading:
            cells = [""] * len(headings)
            cells[table.keep - 1] = f"**{escaped(group.heading)}**"
            yield _line(cells)
        for row in group.rows:
            yield _line(_entry(entry) for entry in row)
    yield ""
    if table.reading:
        yield f"{escaped(table.reading)}\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _entry(entry: Entry) -> str:
    text = escaped(entry.whole)
    return f"**{text}**" if entry.strong else text


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    shown = re.sub(r"([\\`*_<>|~$])", r"\\\1", " ".join(text.split()))
    return shown.replace("](", r"]\(")
