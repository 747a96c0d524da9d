"""Documents out of files, one by one: plain text, JSON lines and parquet, plain or compressed.

JSON lines and parquet are streamed; a text file is held whole. What is damaged is said with the file and the byte or
the row, and a damaged file is never taken for a whole one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.config.errors import UserError

ENDINGS = (".txt", ".jsonl", ".parquet", ".gz", ".zst")
"""Ends of the names of files that can be read; what is compressed is plain text unless .jsonl stands before."""
READ = 1 << 16
"""Bytes of a compressed file read at once: how exactly the place of damage is known."""
ROWS = 256
"""Rows of a parquet file read at once."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it stands in its source."""

    row: str
    """``<source>:<row>``, rows counted from 1."""
    text: str
    url: str | None = None


@dataclass(frozen=True)
class Reading:
    """How rows and texts become documents."""

    text: Callable[[Mapping[str, Any]], str]
    """The text of a row; a ValueError says why it has none."""
    divide: Callable[[Sequence[str]], Sequence[str]] | None = None
    """Documents of the lines of a text file; None where the whole file is one."""
    url: str | None = None
    """Column with the address."""


def read_documents(path: Path, reading: Reading, *, name: str) -> Iterator[Document]:
    """The documents of a file in their order.

    :param name: What the rows of the file are called by.
    :raises UserError: Truncated, damaged, not UTF-8, or a row without text.
    """
    if path.name.endswith(".parquet"):
        rows = _parquet(path)
    elif ".jsonl" in path.name:
        rows = _json_lines(path)
    else:
        text = _decode(b"".join(_pieces(path)), path, 0).removeprefix("\ufeff")
        whole = [text] if reading.divide is None else reading.divide(_lines(text))
        for number, document in enumerate(whole, start=1):
            yield Document(f"{name}:{number}", document)
        return
    for number, (where, row) in enumerate(rows, start=1):
        try:
            text = reading.text(row)
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            found = f"U+{ord(text[error.start]):04X}"
            problem = f"the text of row {number} holds half a surrogate pair ({found})"
            raise UserError(problem, where=f"{path}, {where}") from None
        except ValueError as error:
            problem = f"row {number} has no text: {error}"
            columns = f"columns there: {', '.join(row)}"
            raise UserError(problem, where=f"{path}, {where}", hints=[columns]) from None
        url = row.get(reading.url) if reading.url is not None else None
        yield Document(f"{name}:{number}", text, str(url) if url is not None else None)


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"not a whole parquet file: damaged after row {number}",
            where=f"{path}, {path.stat().st_size} bytes",
            hints=[reason],
        ) from None


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    offset = 0
    for number, line in enumerate(_byte_lines(path), start=1):
        text = _decode(line, path, offset)
        text = text.removeprefix("\ufeff") if number == 1 else text
        where = f"line {number}, byte {offset}"
        try:
            row = json.loads(text)
        except ValueError as error:
            problem = f"found {text[:40].strip()!r}, expected a JSON object ({error})"
            raise UserError(problem, where=f"{path}, {where}") from None
        if not isinstance(row, dict):
            problem = f"found {type(row).__name__}, expected a JSON object"
            raise UserError(problem, where=f"{path}, {where}")
        yield where, row
        offset += len(line)


def _byte_lines(path: Path) -> Iterator[bytes]:
    """Lines with their ends; a line feed alone ends one."""
    rest: list[bytes] = []
    for piece in _pieces(path):
        first, *more = piece.split(b"\n")
        rest.append(first)
        for part in more:
            yield b"".join(rest) + b"\n"
            rest = [part]
    if last := b"".join(rest):
        yield last


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _decode(data: bytes, path: Path, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = data[error.start : error.end].hex(" ")
        place = "of its content, " if path.suffix in (".gz", ".zst") else ""
        raise UserError(
            f"not UTF-8: found byte {found}",
            where=f"{path}, {place}byte {offset + error.start}",
            hints=["convert the file: iconv -f LATIN1 -t UTF-8"],
        ) from None


def _pieces(path: Path) -> Iterator[bytes]:
    """The decompressed content."""
    if path.suffix == ".gz":
        yield from _inflated(path, lambda: zlib.decompressobj(wbits=31), zlib.error, "gzip")
    elif path.suffix == ".zst":
        import zstandard

        def frame() -> Any:
            return zstandard.ZstdDecompressor().decompressobj()

        yield from _inflated(path, frame, zstandard.ZstdError, "zstandard")
    else:
        with path.open("rb") as file:
            while piece := file.read(READ):
                yield piece


def _inflated(
    path: Path, begin: Callable[[], Any], fault: type[Exception], name: str
) -> Iterator[bytes]:
    """The content of all members or frames, one behind the other."""
    offset, member = 0, None
    with path.open("rb") as file:
        while piece := file.read(READ):
            data = piece
            while data:
                if member is None:
                    if not (data := data.lstrip(b"\0")):
                        break  # members may be padded with zeros
                    member = begin()
                try:
                    yield member.decompress(data)
                except fault as error:
                    raise UserError(
                        f"damaged {name}",
                        where=f"{path}, between bytes {offset} and {offset + len(piece)}",
                        hints=[str(error)],
                    ) from None
                data = member.unused_data if member.eof else b""
                member = None if member.eof else member
            offset += len(piece)
    if member is not None or not offset:
        raise UserError(
            f"truncated {name}: it ends in the middle", where=f"{path}, byte {offset}, its end"
        )
