"""How lines of running text become documents. Joined end to end, the documents are the file again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

BLOCK = 64
"""Lines of a block."""

_TITLE = re.compile(r"= (?!=).*(?<!=) =")
"""A top-level heading of WikiText; ``= = Section = =`` is a lower one."""


def join_lines(lines: Sequence[str], how: Literal["articles", "blocks"]) -> list[str]:
    """Documents of the lines of a file.

    ``articles``: a document begins at each ``= Title =`` that stands between blank lines. ``blocks``: a
    document ends with its 64th line, or, in a text with blank lines, with the first blank line from there on.
    """
    ends_block = any(not line.strip() for line in lines)
    documents: list[str] = []
    current: list[str] = []
    for index, line in enumerate(lines):
        if how == "articles" and _is_title(lines, index) and any(part.strip() for part in current):
            documents.append("".join(current))
            current = []
        current.append(line.removesuffix("\n") + "\n")
        if how == "blocks" and len(current) >= BLOCK and (not ends_block or not line.strip()):
            documents.append("".join(current))
            current = []
    if current:
        documents.append("".join(current))
    if len(documents) > 1 and not documents[-1].strip():
        documents[-2:] = ["".join(documents[-2:])]
    return documents


def _is_title(lines: Sequence[str], index: int) -> bool:
    if not _TITLE.fullmatch(lines[index].strip()):
        return False
    before = lines[index - 1] if index else ""
    after = lines[index + 1] if index + 1 < len(lines) else ""
    return not before.strip() and not after.strip()
