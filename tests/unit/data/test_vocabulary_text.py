"""The vocabulary on much text: GPT-2's ids on real prose, GPT-2's categories in what is learnt, every byte encoded."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from mtl.data.vocabulary import BYTES, Vocabulary
from mtl.tasks import microworld

CATEGORIES = regex.compile(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+")
"""GPT-2's pre-split: a token lies in one category, a blank before it allowed."""
MIXED = st.text(alphabet="abz AZ019 .,'\n\t\u00e9\u4e2d\u0661\U0001f600\u200b\xa0", max_size=80)


@pytest.fixture(scope="module")
def folder() -> Path:
    root = Path(os.environ.get("MTL_DATA_ROOT", "nowhere"))
    if not (root / "gpt2_tokenizer").is_dir():
        pytest.skip("GPT-2's tokenizer files are read from MTL_DATA_ROOT, which is not set")
    return root


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    texts = microworld.documents(demonstrations=0.5, count=300)
    texts.append("It's 3pm, 42km; don't!  \n\n caf\u00e9")
    return Vocabulary.train(texts * 3, 600, root=tmp_path_factory.mktemp("c"))


def real_texts(root: Path) -> list[str]:
    import pyarrow.parquet

    def column(file: str, name: str, rows: slice) -> list[str]:
        return pyarrow.parquet.read_table(root / file, columns=[name])[name].to_pylist()[rows]

    books = [text[:30_000] for text in column("gutenberg/train.parquet", "text", slice(0, 50, 12))]
    news = column("cnn_dailymail/validation.parquet", "article", slice(0, 20))
    german = ["\n".join(column("multi30k/validation.parquet", "de", slice(0, 300)))]
    with gzip.open(root / "wikitext2/validation.txt.gz", "rt", encoding="utf-8") as file:
        return [*books, *news, *german, file.read(100_000)]


def test_gpt2_ids_on_real_prose_equal_transformers(folder: Path) -> None:
    from transformers import GPT2Tokenizer

    pair = [str(folder / "gpt2_tokenizer" / name) for name in ("vocab.json", "merges.txt")]
    reference, ours = GPT2Tokenizer(*pair), Vocabulary.load(folder / "gpt2_tokenizer")
    texts = real_texts(folder)
    ours.prefetch(texts[::2])  # many at once or one by one
    for text in texts:
        ids = ours.encode(text)
        assert ids == reference(text).input_ids
        assert ours.decode(ids) == text


@settings(max_examples=150)
@given(MIXED)
def test_gpt2_ids_across_categories_equal_transformers(folder: Path, text: str) -> None:
    reference, ours = _references(folder)
    assert ours.encode(text) == reference(text).input_ids
    assert ours.decode(ours.encode(text)) == text


_LOADED: list[tuple[object, Vocabulary]] = []


def _references(folder: Path):
    if not _LOADED:
        from transformers import GPT2Tokenizer

        pair = [str(folder / "gpt2_tokenizer" / name) for name in ("vocab.json", "merges.txt")]
        _LOADED.append((GPT2Tokenizer(*pair), Vocabulary.load(folder / "gpt2_tokenizer")))
    return _LOADED[0]


def test_no_learnt_token_crosses_a_category(learnt: Vocabulary) -> None:
    tokens = [learnt.decode([number]) for number in range(learnt.base_size)]
    whole = [token for token in tokens if "\ufffd" not in token]
    assert len(whole) > 400
    assert [token for token in whole if not CATEGORIES.fullmatch(token)] == []
    assert max(map(len, whole)) > 5


@settings(max_examples=150)
@given(MIXED | st.text())
def test_what_is_learnt_loses_nothing(learnt: Vocabulary, text: str) -> None:
    assert learnt.decode(learnt.encode(text)) == text


def test_each_byte_has_an_id_of_its_own(learnt: Vocabulary) -> None:
    """So every sequence of bytes has an encoding, and its bytes can be read off the ids."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    ids = {learnt._tokenizer.token_to_id(sign) for sign in alphabet}
    assert len(alphabet) == len(ids) == BYTES
    assert None not in ids


def test_memory_of_encodings_is_bounded_by_their_text(
    learnt: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtl.data import vocabulary

    monkeypatch.setattr(vocabulary, "REMEMBERED", 1000)
    fresh = learnt.base
    for begin in range(0, 4000, 400):
        fresh.prefetch([f"{number:<100}" for number in range(begin, begin + 400, 100)])
        assert sum(map(len, fresh._remembered)) <= 1000
    assert fresh.encode("0") == learnt.encode("0")
