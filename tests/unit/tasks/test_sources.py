"""Rows from folders and from the hub, and what is said when they are not there."""

from __future__ import annotations

import gzip
import io
import sys
import types
from pathlib import Path

import pytest
import zstandard

from mtl.config.errors import UserError
from mtl.config.schema import DataConfig, HubConfig, SourceConfig
from mtl.tasks.formats import read_file
from mtl.tasks.sources import read_rows

from .conftest import write_parquet

SOURCE = SourceConfig(folder="reviews")
ROWS = [{"text": 'a "fine" film', "label": "1"}, {"text": "schön, aber lang", "label": "0"}]


def read(root: Path, split: str = "train", source: SourceConfig = SOURCE):
    return read_rows(source, split, DataConfig(root=str(root)), task="reviews")


def place(root: Path, name: str, data: bytes) -> Path:
    path = root / "reviews" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


JSON_LINES = (
    '{"text": "a \\"fine\\" film", "label": "1"}\n{"text": "schön, aber lang", "label": "0"}\n'
)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("train.jsonl", JSON_LINES.encode()),
        ("train.jsonl", JSON_LINES.encode("utf-8-sig")),
        ("train.jsonl", JSON_LINES.replace("\n", "\r\n").encode()),
        ("train.jsonl.zst", zstandard.compress(JSON_LINES.encode())),
        ("train.csv", 'text,label\n"a ""fine"" film",1\n"schön, aber lang",0\n'.encode()),
        ("train.tsv", 'text\tlabel\na "fine" film\t1\nschön, aber lang\t0\n'.encode()),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path, name, data):
    place(tmp_path, name, data)
    rows = read(tmp_path)
    assert rows.rows == ROWS
    assert rows.columns == ("text", "label")
    assert rows.where == str(tmp_path / "reviews" / name)


def test_parquet_keeps_types(tmp_path):
    rows = [{"options": ["a", "b"], "answers": {"text": ["x"]}, "score": 1.5}]
    write_parquet(tmp_path / "reviews" / "train.parquet", rows)
    assert read(tmp_path).rows == rows


def test_lines_end_only_with_a_line_feed(tmp_path):
    text = "one\x85still one\u2028still\n\n two \n"
    place(tmp_path, "train.txt", text.encode())
    place(tmp_path, "test.txt.gz", gzip.compress(text.encode()))
    expected = [{"text": "one\x85still one\u2028still"}, {"text": ""}, {"text": " two "}]
    assert read(tmp_path).rows == expected
    assert read(tmp_path, "test").rows == expected


def test_a_field_of_a_csv_may_hold_a_whole_book(tmp_path):
    book = "word " * 50_000
    place(tmp_path, "train.csv", f"text\n{book}\n".encode())
    assert read(tmp_path).rows == [{"text": book}]


def error_of(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def test_missing_root(tmp_path, monkeypatch):
    (tmp_path / "dataset").mkdir()
    root = tmp_path / "datasets" / "deep"
    expected = (
        f"no such data folder: {root} ({{key}}={root})\n"
        f"  did you mean: {tmp_path}/dataset\n"
        f"  folders in {tmp_path}: dataset"
    )
    monkeypatch.delenv("MTL_DATA_ROOT", raising=False)
    assert error_of(read, root) == expected.format(key="data.root")
    monkeypatch.setenv("MTL_DATA_ROOT", str(root))
    assert error_of(read, root) == expected.format(key="MTL_DATA_ROOT")


def test_missing_dataset(tmp_path, monkeypatch):
    monkeypatch.delenv("MTL_DATA_ROOT", raising=False)
    (tmp_path / "review").mkdir()
    assert error_of(read, tmp_path) == (
        f"no data for task 'reviews': {tmp_path}/reviews is not a folder"
        f" (data.root={tmp_path}, task.reviews.source.folder=reviews)\n"
        f"  did you mean: {tmp_path}/review\n"
        f"  folders in {tmp_path}: review"
    )


def test_missing_split(tmp_path, monkeypatch):
    monkeypatch.delenv("MTL_DATA_ROOT", raising=False)
    place(tmp_path, "train.jsonl", b"{}\n")
    place(tmp_path, "validation_matched.csv", b"text\n")
    assert error_of(read, tmp_path, "validation") == (
        f"task 'reviews' has no split 'validation' (data.root={tmp_path})\n"
        "  did you mean: validation_matched\n"
        f"  splits in {tmp_path}/reviews: train, validation_matched\n"
        "  a split is one file: validation + one of .parquet, .jsonl, .jsonl.zst, .csv, .tsv, .txt, .txt.gz"
    )


def test_a_split_in_two_formats_is_refused(tmp_path):
    place(tmp_path, "train.jsonl", b"{}\n")
    place(tmp_path, "train.csv", b"text\nx\n")
    assert error_of(read, tmp_path) == (
        "split 'train' of task 'reviews' lies there more than once: train.jsonl, train.csv"
        f" ({tmp_path}/reviews)"
    )


@pytest.mark.parametrize(("name", "data"), [("train.txt", b""), ("train.csv", b"text,label\n")])
def test_empty_split(tmp_path, name, data):
    path = place(tmp_path, name, data)
    assert error_of(read, tmp_path) == f"split 'train' of task 'reviews' is empty ({path})"


@pytest.mark.parametrize("cut", [3, 100, -9])
def test_truncated_parquet(tmp_path, cut):
    path = tmp_path / "train.parquet"
    write_parquet(path, ROWS)
    path.write_bytes(path.read_bytes()[:cut])
    first = error_of(read_file, path).splitlines()[0]
    assert first == f"not a whole parquet file (truncated or damaged) ({path})"


@pytest.mark.parametrize("cut", [5, 30, -3])
def test_truncated_compression(tmp_path, cut):
    content = "".join(f"line {index * index}\n" for index in range(500)).encode()
    buffer = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(buffer, closefd=False) as stream:
        stream.write(content)
    for name, data in (("a.txt.gz", gzip.compress(content)), ("a.jsonl.zst", buffer.getvalue())):
        path = tmp_path / name
        path.write_bytes(data[:cut])
        first = error_of(read_file, path).splitlines()[0]
        size = len(data[:cut])
        expected = f"not a whole {path.suffix} file (truncated or damaged) ({path}, {size} bytes)"
        assert first == expected


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_not_utf8(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"text\nfine\nsch\xf6n\n")
    assert error_of(read_file, path) == (
        f"line 3 is not UTF-8: found byte f6 ({path}, byte 13)\n  convert the file: iconv -f LATIN1 -t UTF-8"
    )


def test_bad_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": 1}\n[1]\n{"text": \n' + "3\n" * 5)
    assert error_of(read_file, path) == (
        f"7 bad rows of 8 ({path})\n"
        "  row 2: found list, expected a JSON object\n"
        "  row 3: found '{\"text\": ', expected a JSON object"
        " (Expecting value: line 1 column 10 (char 9))\n"
        "  row 4: found int, expected a JSON object\n"
        "  row 5: found int, expected a JSON object\n"
        "  row 6: found int, expected a JSON object\n"
        "  and 2 more"
    )


def test_ragged_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,1\nb\nc,1,2\n")
    assert error_of(read_file, path) == (
        f"2 bad rows of 3 ({path})\n  row 2: found 1 fields, expected 2\n  row 3: found 3 fields, expected 2"
    )


class FakeDataset:
    column_names = ("text", "label")

    def to_list(self):
        return [dict(row) for row in ROWS]


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the ``datasets`` package that remembers what it was asked."""
    asked: list[tuple] = []

    def load_dataset(path, name=None, *, split):
        asked.append((path, name, split))
        if split == "nothing":
            raise ValueError('Unknown split "nothing". Should be one of ["train"].')
        return FakeDataset()

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_hub_is_asked_where_no_root_is_given(hub):
    source = SourceConfig(
        folder="reviews", hub=HubConfig(path="a/b", name="c", splits={"validation": "test"})
    )
    rows = read_rows(source, "validation", DataConfig(), task="reviews")
    assert hub == [("a/b", "c", "test")]
    assert rows.rows == ROWS
    assert rows.split == "validation"


def test_hub_is_not_asked_where_a_root_is_given(hub, tmp_path):
    source = SourceConfig(folder="reviews", hub=HubConfig(path="a/b"))
    assert "is not a folder" in error_of(read, tmp_path, "train", source)
    assert hub == []


def test_hub_failure_is_a_message(hub):
    source = SourceConfig(hub=HubConfig(path="a/b"))
    with pytest.raises(UserError) as caught:
        read_rows(source, "nothing", DataConfig(), task="reviews")
    assert str(caught.value) == (
        "cannot load the data of task 'reviews' from the hub:"
        ' Unknown split "nothing". Should be one of ["train"].'
        " (hub dataset a/b, split nothing)\n"
        "  or set data.root=DIR to a folder that holds the data"
    )


def test_neither_root_nor_hub():
    with pytest.raises(UserError) as caught:
        read_rows(SOURCE, "train", DataConfig(), task="reviews")
    assert str(caught.value) == (
        "task 'reviews' is not on the hub; it needs a folder of data\n"
        "  set data.root=DIR with DIR/reviews/train.parquet (or .jsonl, .csv, ...) in it"
    )
