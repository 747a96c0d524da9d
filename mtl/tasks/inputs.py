"""What a person hands to a finished run: the rows of a file, or the lines of standard input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from mtl.config.errors import UserError
from mtl.tasks.formats import FORMATS, Row, read_file


def given_rows(file: str, standard_input: Iterable[str]) -> Iterator[tuple[str, str | Row]]:
    """Each row with its place (``prompts.txt, row 3``): its columns, or the text of a plain line.

    :param file: A file in one of the formats of rows; ``-`` reads ``standard_input``, where a line that begins with
        ``{`` is a JSON object.
    :raises UserError: no such file, an unknown format, a bad row (file and row, or line).
    """
    if file == "-":
        for number, line in enumerate(standard_input, start=1):
            where = f"standard input, line {number}"
            yield where, _parsed(line, where)
        return
    path = Path(file)
    if not path.is_file():
        raise UserError(f"there is no file {path}", where=f"file={path}")
    if not path.name.endswith(tuple(FORMATS)):
        raise UserError(
            f"the format of {path.name} is not known",
            where=f"file={path}",
            hints=[f"a file of inputs ends in one of {', '.join(FORMATS)}"],
        )
    rows, _ = read_file(path)
    plain = path.name.endswith((".txt", ".txt.gz"))
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row["text"] if plain else row


def _parsed(line: str, where: str) -> str | Row:
    """A line of standard input: a JSON object, or the text itself."""
    if not line.lstrip().startswith("{"):
        return line.rstrip("\n")
    try:
        row: Row = json.loads(line)
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", where=where) from None
    return row
