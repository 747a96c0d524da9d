"""Files of documents: every format gives the same rows, and damage is said with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from mtl.config.errors import UserError
from mtl.corpora.reading import READ, Document, Reading, read_documents
from mtl.tasks.templates import Template

ROWS = [
    {"text": f"Row {i}: caf\u00e9 \u2028 {'x' * (i % 7)}\n", "url": f"http://a.b/{i}"}
    for i in range(300)
]
READING = Reading(Template("{{ text }}", field="corpus.text", verbatim=True), url="url")
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def squeeze(data: bytes, packing: str) -> bytes:
    if packing == ".gz":
        return gzip.compress(data[:500]) + gzip.compress(data[500:]) + b"\0" * 64
    if packing == ".zst":
        one = zstandard.ZstdCompressor()
        return one.compress(data[:500]) + one.compress(data[500:])
    return data


def read(path: Path, reading: Reading = READING) -> list[Document]:
    return list(read_documents(path, reading, name="part"))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_json_lines_packed_or_not(tmp_path: Path, packing: str) -> None:
    found = read(write(tmp_path / f"a.jsonl{packing}", squeeze(LINES, packing)))
    assert found == [
        Document(f"part:{i}", row["text"], row["url"]) for i, row in enumerate(ROWS, start=1)
    ]
    assert read(write(tmp_path / f"b.jsonl{packing}", squeeze(LINES.rstrip(), packing))) == found
    assert (
        read(write(tmp_path / f"c.jsonl{packing}", squeeze(b"\xef\xbb\xbf" + LINES, packing)))
        == found
    )


def test_parquet(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", LINES)
    assert read(tmp_path / "a.parquet") == read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.gz", "a.txt.zst", "a.zst"])
def test_text_files_whole_or_in_lines(tmp_path: Path, name: str) -> None:
    text = "one \u2028 two\r\nthree\n\nfour"
    path = write(tmp_path / name, squeeze(text.encode(), Path(name).suffix if "z" in name else ""))
    assert read(path) == [Document("part:1", text)]
    lines = Reading(READING.text, tuple)
    assert [d.text for d in read(path, lines)] == ["one \u2028 two", "three", "", "four"]


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    return str(caught.value).replace(str(path), "FILE")


BIG = b"".join(b"%d " % i for i in range(60_000))


def test_truncated_archives_name_the_byte_they_end_at(tmp_path: Path) -> None:
    whole = gzip.compress(BIG, mtime=0)
    for cut in (len(whole) - 1, READ, 5):
        path = write(tmp_path / "a.txt.gz", whole[:cut])
        assert message(path) == f"truncated gzip: it ends in the middle (FILE, byte {cut}, its end)"
    packed = zstandard.ZstdCompressor().compress(LINES)
    path = write(tmp_path / "a.jsonl.zst", packed[:-3])
    assert message(path).startswith("truncated zstandard: it ends in the middle (FILE, byte ")
    packed = zstandard.ZstdCompressor().compress(BIG)
    path = write(tmp_path / "a.zst", packed[:-3])
    expected = f"truncated zstandard: it ends in the middle (FILE, byte {len(packed) - 3}, its end)"
    assert message(path) == expected
    assert "truncated gzip" in message(write(tmp_path / "empty.gz", b""))


def test_damaged_archives_name_the_bytes_between_which(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(BIG, mtime=0))
    assert len(whole) > READ
    whole[READ + 100 : READ + 200] = bytes(100)
    found = message(write(tmp_path / "a.gz", bytes(whole)))
    assert found.startswith(f"damaged gzip (FILE, between bytes {READ} and ")
    assert message(write(tmp_path / "b.gz", b"plain text")).startswith(
        "damaged gzip (FILE, between bytes 0 and 10)"
    )


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    assert message(write(tmp_path / "a.txt", b"caf\xe9 au lait")) == (
        "not UTF-8: found byte e9 (FILE, byte 3)\n  convert the file: iconv -f LATIN1 -t UTF-8"
    )
    lines = b'{"text": "a"}\n{"text": "\xff"}\n'
    assert message(write(tmp_path / "a.jsonl", lines)).startswith(
        "not UTF-8: found byte ff (FILE, byte 24)"
    )
    packed = gzip.compress(lines)
    assert message(write(tmp_path / "a.jsonl.gz", packed)).startswith(
        "not UTF-8: found byte ff (FILE, of its content, byte 24)"
    )


def test_rows_without_a_text_are_named(tmp_path: Path) -> None:
    good = b'{"text": "a"}\n'
    cases = {
        b'{"text": \n': "expected a JSON object (Expecting value",
        b"[1]\n": "found list, expected a JSON object (FILE, line 2, byte 14)",
        b'{"body": "b"}\n': "row 2 has no text: column 'text' is missing (FILE, line 2, byte 14)\n"
        "  columns there: body",
        b'{"text": "\\ud800"}\n': "the text of row 2 holds half a surrogate pair (U+D800) "
        "(FILE, line 2, byte 14)",
    }
    for line, expected in cases.items():
        assert expected in message(write(tmp_path / "a.jsonl", good + line))


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, compression="zstd")
    whole = path.read_bytes()
    write(path, whole[:-20])
    assert message(path).startswith(
        f"not a whole parquet file: damaged after row 0 (FILE, {len(whole) - 20} bytes)"
    )
