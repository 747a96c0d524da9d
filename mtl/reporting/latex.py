"""Tables as LaTeX with booktabs, to be put into a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mtl.reporting.numerals import DASH, MINUS, TIMES
from mtl.reporting.tables import Entry, Group, Table

PREAMBLE = r"""% Tables of a study. In the preamble of the document:
%   \usepackage[T1]{fontenc}
%   \usepackage{booktabs,longtable}
% The best of a column is bold only where a claim stands.
"""

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    MINUS: "$-$",
    DASH: "--",
    "±": r"$\pm$",
    TIMES: r"$\times$",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "[": "{[}",
    "]": "{]}",
}
"""Characters that LaTeX reads otherwise, and signs of ours that a font may not have. Brackets are put into braces
because one after ``\\\\`` would be an argument."""


def as_latex(tables: Iterable[Table]) -> str:
    """The tables one below the other; each breaks over pages where it is long."""
    return PREAMBLE + "\n" + "\n".join("\n".join(_table(table)) for table in tables)


def _table(table: Table) -> Iterator[str]:
    shown = [index for index, column in enumerate(table.columns) if column.typeset]
    columns = [table.columns[index] for index in shown]
    letters = "".join("r" if column.number else "l" for column in columns)
    headings = " & ".join(escaped(column.heading) for column in columns)
    yield r"{\scriptsize\setlength{\tabcolsep}{3pt}"
    yield rf"\begin{{longtable}}{{@{{}}{letters}@{{}}}}"
    yield rf"\caption{{{escaped(table.title)}}}\label{{tab:{table.name.replace('_', '-')}}}\\"
    yield r"\toprule"
    yield rf"{headings} \\"
    yield r"\midrule"
    yield r"\endhead"
    yield r"\bottomrule"
    yield r"\endlastfoot"
    for index, group in enumerate(table.groups):
        if index:
            yield r"\addlinespace"
        yield from _group(group, shown)
    yield r"\end{longtable}}"
    yield ""


def _group(group: Group, shown: Sequence[int]) -> Iterator[str]:
    if group.heading:
        yield rf"\multicolumn{{{len(shown)}}}{{@{{}}l}}{{\textit{{{escaped(group.heading)}}}}} \\"
    for row in group.rows:
        yield " & ".join(_entry(row[index]) for index in shown) + r" \\"


def _entry(entry: Entry) -> str:
    if entry.strong:
        return rf"\textbf{{{escaped(entry.text)}}}{escaped(entry.more)}"
    return escaped(entry.whole)


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is; a character beyond those that pdfTeX knows is kept, and needs a Unicode engine."""
    return "".join(SIGNS.get(character, character) for character in " ".join(text.split()))
