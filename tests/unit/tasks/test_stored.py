"""Files as a corpus: documents on disk behave as examples in memory do, and no document stands on two sides."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.config.schema import (
    C4Config,
    CleaningConfig,
    CorpusConfig,
    DataConfig,
    DeduplicationConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
    SourceConfig,
)
from mtl.storage.texts import StoredTexts, digest, write_texts
from mtl.tasks.corpus import load_corpus
from mtl.tasks.prepared import is_prepared
from mtl.tasks.splits import make_split
from mtl.tasks.stored import StoredExamples, divide, sample

from .conftest import read_corpus_file

TEXTS = [f"Document {number % 90}, caf\u00e9.\n" * (1 + number % 3) for number in range(300)]
FILES = CorpusConfig(name="mine", kind="files", files=["*.jsonl.gz", "more/*"], held_out=0.2)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS]
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[:200]).encode()))
    (folder / "more" / "b.jsonl").write_text("\n".join(rows[200:]), encoding="utf-8")
    return DataConfig(root=str(folder), cache=str(tmp_path / "cache"))


def texts(split) -> list[str]:
    return [example.references[0] for example in split.examples]


def test_the_documents_of_files_are_examples_read_from_disk(data: DataConfig) -> None:
    corpus = load_corpus(FILES, [], data, seed=0)
    splits = (corpus.train, corpus.selection, corpus.report)
    assert sorted(text for split in splits for text in texts(split)) == sorted(TEXTS)
    sides = [set(texts(split)) for split in splits]
    assert sum(map(len, sides)) == len(set(TEXTS))
    assert all(sides)
    examples = corpus.train.examples
    assert isinstance(examples, StoredExamples)
    assert list(examples[3:9:2]) == [examples[3], examples[5], examples[7]]
    assert examples[-1] == list(examples)[-1]
    with pytest.raises(IndexError):
        examples[len(examples)]
    in_memory = make_split("train", examples)
    assert in_memory.examples == tuple(examples)
    rows = {example.row for split in splits for example in split.examples}
    assert len(rows) == 300
    assert {"a.jsonl.gz:1", "a.jsonl.gz:200", "more/b.jsonl:100"} <= rows
    number = int(examples[0].row.split(":")[1])
    assert examples[0].references == (TEXTS[number - 1],)
    assert examples.bytes_total == sum(len(text.encode()) for text in texts(corpus.train))


def test_a_second_time_nothing_is_read(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_corpus(FILES, [], data, seed=0)
    from mtl.corpora import files, shards

    monkeypatch.setattr(files, "read_documents", None)
    monkeypatch.setattr(shards, "clean", None)
    again = load_corpus(FILES, [], data, seed=0)
    assert [s.fingerprint for s in (again.train, again.selection, again.report)] == [
        s.fingerprint for s in (first.train, first.selection, first.report)
    ]
    other = load_corpus(FILES, [], data, seed=1)
    assert other.train.fingerprint != first.train.fingerprint
    whole = DeduplicationConfig(exact=True)
    with pytest.raises(TypeError):  # other settings are built, and that needs the reader
        load_corpus(replace(FILES, deduplicate=whole, text="{{ text }}!"), [], data, seed=0)


def test_a_changed_file_is_another_corpus(data: DataConfig) -> None:
    first = load_corpus(FILES, [], data, seed=0)
    path = Path(str(data.root), "more", "b.jsonl")
    path.write_text(path.read_text(encoding="utf-8") + '\n{"text": "one more"}', encoding="utf-8")
    second = load_corpus(FILES, [], data, seed=0)
    assert len(second.train.examples.store.texts) == 301
    # A corpus that grows moves no document to another side.
    assert set(texts(second.report)) - {"one more"} == set(texts(first.report))
    assert set(texts(second.selection)) - {"one more"} == set(texts(first.selection))


def test_at_most_so_many_documents_of_files(data: DataConfig) -> None:
    whole = load_corpus(FILES, [], data, seed=0)
    part = load_corpus(replace(FILES, documents=40), [], data, seed=0)
    assert len(part.train.examples) == 40
    assert isinstance(part.train.examples, StoredExamples)
    assert set(part.train.examples) < set(whole.train.examples)
    assert part.report.fingerprint == whole.report.fingerprint
    assert part.train.note.endswith(f"; 40 of {len(whole.train.examples)} documents, seed 0")


def test_cleaning_another_kind_touches_its_training_documents_alone(tmp_path: Path) -> None:
    plain = replace(read_corpus_file("microworld"), documents=60)
    assert not is_prepared(plain)
    doubled = replace(plain, deduplicate=DeduplicationConfig(exact=True, near=True, threshold=0.5))
    data = DataConfig(cache=str(tmp_path))
    before, after = (load_corpus(config, [], data, seed=0) for config in (plain, doubled))
    assert set(texts(after.train)) <= set(texts(before.train))
    assert {example.row for example in after.train.examples} <= {
        e.row for e in before.train.examples
    }
    assert (after.selection, after.report) == (before.selection, before.report)
    assert after.train.note.endswith(f"{len(after.train.examples)} of 60 documents after cleaning")


def test_rows_of_a_source_can_be_excluded_by_their_domain(write, tmp_path: Path) -> None:
    hosts = ["en.wikipedia.org", "a.org", None]
    rows = [{"text": f"page {i}", "url": hosts[i % 3]} for i in range(60)]
    data = replace(write("pages", train=rows, validation=rows[:9]), cache=str(tmp_path / "cache"))
    source = SourceConfig(folder="pages", report="validation", validation=None)
    plain = CorpusConfig(name="pages", kind="source", source=source, url="url")
    whole = load_corpus(plain, [], data, seed=0)
    without = load_corpus(replace(plain, exclude_domains=["wikipedia.org"]), [], data, seed=0)

    def of(*kinds: int) -> list[str]:
        return [text for text in texts(whole.train) if int(text.split()[1]) % 3 in kinds]

    assert texts(without.train) == of(1, 2)
    assert without.train.examples.store.account.without_address == len(of(2))
    assert without.report == whole.report  # what is published stays as it is
    others = replace(plain, exclude_domains=["a.org"])
    assert texts(load_corpus(others, [], data, seed=0).train) == of(0, 2)
    with pytest.raises(UserError, match=r"^no column 'address' in .*\n  columns there: text, url"):
        load_corpus(replace(others, url="address"), [], data, seed=0)


def test_clean_news_stays(data_root: Path, tmp_path: Path) -> None:
    """Precision on real text: every one of 100 articles passes all rules, and lines lose next to nothing."""
    config = replace(
        FILES,
        files=["cnn_dailymail/validation.parquet"],
        text="{{ article }}",
        clean=CleaningConfig(
            c4=C4Config(),
            gopher_quality=GopherQualityConfig(),
            gopher_repetition=GopherRepetitionConfig(),
        ),
        deduplicate=DeduplicationConfig(exact=True, near=True),
    )
    corpus = load_corpus(config, [], DataConfig(root=str(data_root), cache=str(tmp_path)), seed=0)
    account = corpus.train.examples.store.account
    assert account.documents == 100
    assert account.kept_documents == 100
    assert account.kept_bytes >= 0.99 * account.bytes


@pytest.mark.parametrize("documents", [["one"], ["one", "two", "one"]])
def test_too_few_documents_to_hold_any_out(tmp_path: Path, documents: list[str]) -> None:
    (tmp_path / "a.txt").write_text("\n".join(documents))
    config = replace(FILES, files=["a.txt"], text_files="lines")
    found = len(set(documents))
    noun = "document" if found == 1 else "documents"
    with pytest.raises(
        UserError, match=f"^corpus 'mine' has {found} different {noun}; 3 are needed"
    ):
        load_corpus(config, [], DataConfig(root=str(tmp_path), cache=str(tmp_path / "c")), seed=0)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=80),
    st.floats(0.001, 0.999),
    st.integers(0, 5),
)
def test_equal_documents_stand_on_one_side(numbers: list[int], share: float, seed: int) -> None:
    numbers = [*numbers, 100, 101, 102]
    digests = np.array([digest(str(number).encode()) for number in numbers], dtype="S16")
    sides = divide(digests, share, seed)
    assert sorted(np.concatenate(sides).tolist()) == list(range(len(numbers)))
    contents = [{numbers[place] for place in side} for side in sides]
    assert all(contents)
    assert sum(map(len, contents)) == len(set(numbers))


def test_the_share_is_held_out() -> None:
    digests = np.array([digest(str(number).encode()) for number in range(20_000)], dtype="S16")
    train, selection, report = divide(digests, 0.1, 0)
    for side, expected in ((train, 18_000), (selection, 1000), (report, 1000)):
        assert abs(len(side) - expected) < 4 * np.sqrt(20_000 * 0.1 * 0.9)
    other = divide(digests, 0.1, 1)[2]
    assert len(np.intersect1d(report, other)) < 100  # 50 by chance


def test_a_vocabulary_learns_from_an_even_sample(tmp_path: Path) -> None:
    write_texts(tmp_path, ((b"x" * 100, {}) for _ in range(1000)), {})

    class Store:
        texts = StoredTexts(tmp_path)

        def row(self, index: int) -> str:
            return f"a:{index}"

    examples = StoredExamples(Store(), np.arange(1000))
    assert len(sample(examples, 100_000)) == 1000
    assert [e.row for e in sample(examples, 9_900)] == [f"a:{i}" for i in range(0, 1000, 11)]
    assert sample((1, 2), 1) == (1, 2)


@given(texts=st.lists(st.binary(max_size=20), max_size=10))
def test_stored_texts_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    columns = {"row": np.dtype(np.int64)}
    write_texts(folder, ((text, {"row": i}) for i, text in enumerate(texts)), columns)
    stored = StoredTexts(folder)
    assert [stored.raw(i) for i in range(len(stored))] == texts
    assert stored.columns["row"].tolist() == list(range(len(texts)))
    assert stored.lengths.tolist() == [len(text) for text in texts]


def test_damaged_texts_are_said(tmp_path: Path) -> None:
    write_texts(tmp_path, [(b"abc", {})], {})
    (tmp_path / "text.bin").write_bytes(b"ab")
    with pytest.raises(UserError, match=r"stored texts are damaged: text\.bin has 2 bytes where 3"):
        StoredTexts(tmp_path)
