"""The file formats of rows: parquet, JSON lines, comma- or tab-separated values, and plain lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtl.config.errors import UserError

Row = dict[str, Any]
Table = tuple[list[Row], tuple[str, ...]]

SHOWN = 5
"""Bad rows that a message lists; the rest is counted."""


def read_file(path: Path) -> Table:
    """The rows of a file and its columns (empty where each row has its own).

    :raises UserError: Truncated, damaged, not UTF-8, or with rows that do not parse; names file and row.
    """
    suffix = next(suffix for suffix in FORMATS if path.name.endswith(suffix))
    return FORMATS[suffix](path)


def bad_rows(file: str, bad: list[tuple[int, str]], total: int) -> UserError:
    """The error for rows that cannot be used: the first five, each with what was found and expected.

    :param bad: Row (from 1) and what is wrong with it.
    :param total: How many rows there are.
    """
    hints = [f"row {row}: {problem}" for row, problem in bad[:SHOWN]]
    if len(bad) > SHOWN:
        hints.append(f"and {len(bad) - SHOWN} more")
    noun = "row" if len(bad) == 1 else "rows"
    return UserError(f"{len(bad)} bad {noun} of {total}", where=file, hints=hints)


def _parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "not a whole parquet file (truncated or damaged)", where=str(path), hints=[reason]
        ) from error
    return table.to_pylist(), tuple(table.column_names)


def _text(path: Path) -> str:
    """The decompressed content of a text file."""
    data = path.read_bytes()
    try:
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".zst":
            data = _decompress_zstandard(data)
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise UserError(
            f"not a whole {path.suffix} file (truncated or damaged)",
            where=f"{path}, {path.stat().st_size} bytes",
            hints=[str(error)],
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = data[error.start : error.end].hex(" ")
        raise UserError(
            f"line {line} is not UTF-8: found byte {found}",
            where=f"{path}, byte {error.start}",
            hints=["convert the file: iconv -f LATIN1 -t UTF-8"],
        ) from error


def _decompress_zstandard(data: bytes) -> bytes:
    """All frames. The stream reader would take the end of a truncated file for the end of its content."""
    import zstandard

    content = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            content.append(frame.decompress(data))
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if not frame.eof:
            raise ValueError("the last frame is incomplete")
        data = frame.unused_data
    return b"".join(content)


def _lines(text: str) -> list[str]:
    """Lines without their ends. Only a line feed ends a line: str.splitlines would cut at rarer signs too."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _plain(path: Path) -> Table:
    return [{"text": line} for line in _lines(_text(path))], ("text",)


def _json_lines(path: Path) -> Table:
    rows: list[Row] = []
    bad: list[tuple[int, str]] = []
    lines = _lines(_text(path))
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            bad.append((number, f"found {line[:40]!r}, expected a JSON object ({error})"))
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad.append((number, f"found {type(row).__name__}, expected a JSON object"))
    if bad:
        raise bad_rows(str(path), bad, len(lines))
    return rows, ()


def _separated(path: Path, *, delimiter: str, quoting: Any) -> Table:
    csv.field_size_limit(sys.maxsize)  # whole articles stand in one field
    text = io.StringIO(_text(path), newline="")
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    rows: list[Row] = []
    bad: list[tuple[int, str]] = []
    number = 0
    try:
        columns = next(reader, [])
        for number, fields in enumerate((line for line in reader if line), start=1):
            if len(fields) == len(columns):
                rows.append(dict(zip(columns, fields, strict=True)))
            else:
                bad.append((number, f"found {len(fields)} fields, expected {len(columns)}"))
    except csv.Error as error:
        bad.append((number + 1, str(error)))
    if bad:
        raise bad_rows(str(path), bad, number)
    if len(set(columns)) < len(columns):
        raise UserError(f"a column name stands twice: {', '.join(columns)}", where=str(path))
    return rows, tuple(columns)


def _comma(path: Path) -> Table:
    return _separated(path, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _tab(path: Path) -> Table:
    return _separated(path, delimiter="\t", quoting=csv.QUOTE_NONE)


FORMATS: dict[str, Callable[[Path], Table]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".jsonl.zst": _json_lines,
    ".csv": _comma,
    ".tsv": _tab,
    ".txt": _plain,
    ".txt.gz": _plain,
}
"""Reader of each format, by the end of the file's name."""
