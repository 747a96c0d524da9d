"""Vocabulary: parity with transformers, losslessness, and special tokens that no text can write."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mtl.config.errors import UserError
from mtl.data.vocabulary import SPECIAL, Vocabulary

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "Zürich, 7 o'clock"] * 5


@pytest.fixture(scope="session")
def gpt2_folder() -> Path:
    root = os.environ.get("MTL_DATA_ROOT")
    if not root or not (Path(root) / "gpt2_tokenizer").is_dir():
        pytest.skip("GPT-2's tokenizer files are read from MTL_DATA_ROOT, which is not set")
    return Path(root) / "gpt2_tokenizer"


@pytest.fixture(scope="session")
def gpt2(gpt2_folder: Path) -> Vocabulary:
    return Vocabulary.load(gpt2_folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return Vocabulary.train(TEXTS, 280, root=tmp_path_factory.mktemp("cache"))


def test_gpt2_known_ids(gpt2: Vocabulary) -> None:
    assert gpt2.encode("Hello world") == [15496, 995]
    assert (gpt2.base_size, gpt2.size, gpt2.end) == (50257, 50260, 50256)
    assert (gpt2.start, gpt2.delimiter, gpt2.extract) == (50257, 50258, 50259)


def test_gpt2_ids_equal_transformers(gpt2_folder: Path, gpt2: Vocabulary) -> None:
    from transformers import GPT2Tokenizer

    reference = GPT2Tokenizer(str(gpt2_folder / "vocab.json"), str(gpt2_folder / "merges.txt"))

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=60))
    def same(text: str) -> None:
        assert gpt2.encode(text) == reference(text).input_ids
        assert gpt2.decode(gpt2.encode(text)) == text

    same()
    assert gpt2.encode("  It's 12,345 naïve  cafés\n\n日本") == (
        reference("  It's 12,345 naïve  cafés\n\n日本").input_ids
    )


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_trained_is_lossless(trained: Vocabulary, text: str) -> None:
    assert trained.decode(trained.encode(text)) == text


@pytest.mark.parametrize("token", [*SPECIAL, "<|task:a|>"])
def test_special_tokens_are_never_read_in_text(
    trained: Vocabulary, token: str, tmp_path: Path
) -> None:
    extended = trained.with_special(["<|task:a|>"])
    extended.save(tmp_path)
    for vocabulary in (extended, Vocabulary.load(tmp_path)):
        ids = vocabulary.encode(f"a {token} b")
        assert max(ids) < vocabulary.base_size
        assert vocabulary.decode(ids) == f"a {token} b"


def test_gpt2_end_of_text_is_not_read_in_text(gpt2: Vocabulary, tmp_path: Path) -> None:
    gpt2.save(tmp_path)
    for vocabulary in (gpt2, Vocabulary.load(tmp_path)):
        assert vocabulary.end not in vocabulary.encode("<|endoftext|>")


def test_special_tokens_follow_the_base_in_order(trained: Vocabulary) -> None:
    n = trained.base_size
    assert (trained.start, trained.delimiter, trained.extract, trained.end) == (
        n,
        n + 1,
        n + 2,
        n + 3,
    )
    extended = trained.with_special(["<|b|>", "<|a|>"]).with_special(["<|a|>", "<|c|>"])
    assert [extended.special(f"<|{c}|>") for c in "bac"] == [n + 4, n + 5, n + 6]
    assert (trained.size, extended.size) == (n + 4, n + 7)
    with pytest.raises(KeyError):
        trained.special("<|b|>")


def test_decode_leaves_special_tokens_out_and_replaces_broken_bytes(trained: Vocabulary) -> None:
    ids = [trained.start, *trained.encode("the cat"), trained.end]
    assert trained.decode(ids) == "the cat"
    assert trained.decode(trained.encode("ü")[:1]) == "\ufffd"
    with pytest.raises(IndexError):
        trained.decode([trained.size])


def test_saved_folder_is_the_same_vocabulary_and_opens_in_transformers(
    trained: Vocabulary, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    extended = trained.with_special(["<|task:a|>"])
    extended.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.fingerprint == extended.fingerprint
    assert (loaded.size, loaded.base_size) == (extended.size, extended.base_size)
    other = AutoTokenizer.from_pretrained(tmp_path)
    assert len(other) == extended.size
    assert other("the log").input_ids == extended.encode("the log")
    assert other.convert_tokens_to_ids("<|task:a|>") == extended.special("<|task:a|>")
    assert other.eos_token_id == extended.end


def test_transformers_reads_a_saved_folder_as_we_do(trained: Vocabulary, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    extended = trained.with_special(["<|task:a|>"])
    extended.save(tmp_path, beginning=extended.end, context=9)
    other = AutoTokenizer.from_pretrained(tmp_path)
    assert (other.bos_token_id, other.pad_token_id) == (extended.end, extended.end)
    assert (other.model_max_length, other.padding_side) == (9, "left")
    assert other("a<|task:a|>b<|endoftext|>", verbose=False).input_ids == extended.encode(
        "a<|task:a|>b<|endoftext|>"
    )
    assert other("<|task:a|>", split_special_tokens=False).input_ids == [
        extended.special("<|task:a|>")
    ]
    other.save_pretrained(tmp_path / "again")
    assert Vocabulary.load(tmp_path / "again").fingerprint == extended.fingerprint


def test_whether_two_vocabularies_read_alike(trained: Vocabulary, tmp_path: Path) -> None:
    trained.save(tmp_path)
    assert trained.reads_like(Vocabulary.load(tmp_path).with_special(["<|task:a|>"]))
    other = Vocabulary.train(["another text altogether"] * 9, trained.base_size, root=tmp_path)
    assert not trained.reads_like(other)
    assert [trained.token_of(i) for i in (trained.end, 0)] == ["<|endoftext|>", None]


def test_training_is_deterministic_and_cached(trained: Vocabulary, tmp_path: Path) -> None:
    again = Vocabulary.train(iter(TEXTS), 280, root=tmp_path)
    assert again.fingerprint == trained.fingerprint
    (entry,) = tmp_path.iterdir()
    written = (entry / "tokenizer.json").stat().st_mtime_ns
    assert Vocabulary.train(TEXTS, 280, root=tmp_path).fingerprint == trained.fingerprint
    assert (entry / "tokenizer.json").stat().st_mtime_ns == written
    other = Vocabulary.train(TEXTS, 270, root=tmp_path)
    assert other.fingerprint != trained.fingerprint
    assert len(list(tmp_path.iterdir())) == 2


def test_prefetched_encodings_are_the_same_and_cannot_be_changed(trained: Vocabulary) -> None:
    text = "the cat on the log"
    before = trained.encode(text)
    trained.prefetch([text, text, "", "half \ud800 pair"][:3])
    trained.encode(text).append(0)
    assert trained.encode(text) == before
    assert trained.encode("") == []


def test_added_tokens_of_a_foreign_tokenizer_keep_their_ids(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<pad>", "<|endoftext|>"])
    tokenizer.enable_truncation(4)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A", special_tokens=[("<pad>", 256)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = Vocabulary.load(tmp_path)
    assert (vocabulary.base_size, vocabulary.end, vocabulary.start) == (258, 257, 258)
    assert len(vocabulary.encode("<pad><|endoftext|>")) == 18
    vocabulary.save(tmp_path / "saved")
    other = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert other("<pad> a").input_ids == vocabulary.encode("<pad> a")


def test_half_a_surrogate_pair_is_refused(trained: Vocabulary) -> None:
    trained.prefetch(["fine", "a\ud800"])
    with pytest.raises(UserError) as raised:
        trained.encode("a\ud800")
    assert str(raised.value) == (
        "the text holds half a surrogate pair (U+D800), which is no character "
        "(text that begins 'a\\\\ud800')"
    )


def test_folders_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no such tokenizer folder \(.*nowhere\)"):
        Vocabulary.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"^no tokenizer found") as raised:
        Vocabulary.load(tmp_path)
    assert raised.value.hints == (
        "a tokenizer folder holds tokenizer.json, or vocab.json and merges.txt",
    )
    (tmp_path / "vocab.json").write_text(json.dumps({"a</w>": 0, "<unk>": 1}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(UserError, match="not byte-level: 256 of 256 bytes have no token"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{]")
    with pytest.raises(UserError, match="the tokenizer cannot be read"):
        Vocabulary.load(tmp_path)


def test_training_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at least 256 tokens \(tokenizer.vocabulary=255\)"):
        Vocabulary.train(TEXTS, 255, root=tmp_path)
    with pytest.raises(UserError, match="without any text"):
        Vocabulary.train([""], 300, root=tmp_path)
