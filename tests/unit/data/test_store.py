"""Stores give back what was encoded, from memory and from disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.data.encoding import Encoded
from mtl.data.store import CHUNK, EncodedSplit, chunks
from mtl.tasks.task import Example


def example(number: int) -> Example:
    return Example(row=f"train:{number}", segments=(f"text {number}",), prompt=(), target=number)


def encode(example: Example, scale: int = 1) -> Encoded:
    number = int(example.target or 0)
    n = 3 + number % 4
    labelled = np.zeros(n, dtype=np.bool_)
    labelled[1 : number % 3] = True
    return Encoded(
        tokens=(np.arange(n, dtype=np.int32) + number) * scale,
        labelled=labelled,
        branches=(1, 1) if number % 2 else (),
        target=float("nan") if number == 2 else number / 2,
        cut=number % 5,
    )


def assert_same(found: Encoded, expected: Encoded) -> None:
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.labelled, expected.labelled)
    assert (found.tokens.dtype, found.labelled.dtype) == (np.int32, np.bool_)
    assert (found.branches, found.cut) == (expected.branches, expected.cut)
    np.testing.assert_equal(found.target, expected.target)


@pytest.mark.parametrize("key", [None, "some rows"])
@pytest.mark.parametrize("scale", [1, 1000])
def test_rows_come_back(key: str | None, scale: int, tmp_path: Path) -> None:
    examples = [example(i) for i in range(CHUNK + 70)]
    store = EncodedSplit.build(examples, lambda e: encode(e, scale), key=key, root=tmp_path)
    expected = [encode(e, scale) for e in examples]
    assert len(store) == len(examples)
    for i in (0, 1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 69, -1):
        assert_same(store[i], expected[i])
    assert store.lengths.tolist() == [len(e.tokens) for e in expected]
    assert store.terms.tolist() == [e.terms for e in expected]
    assert store.label_counts.tolist() == [e.labelled.sum() for e in expected]
    assert store.end_counts.tolist() == [len(e.branches) or 1 for e in expected]
    # A prefix sees itself, a branch of one token the prefix and itself.
    seen = [e.prefix * (e.prefix + 1) // 2 + len(e.branches) * (e.prefix + 1) for e in expected]
    assert store.seen_counts.tolist() == seen
    assert store.tokens_total == sum(len(e.tokens) for e in expected)
    assert store.cut_rows == sum(e.cut > 0 for e in expected)
    assert store.cut_tokens == sum(e.cut for e in expected)
    with pytest.raises(IndexError):
        store[len(store)]


def test_tokens_take_two_bytes_where_they_fit(tmp_path: Path) -> None:
    small = EncodedSplit.build([example(1)], encode, key="small", root=tmp_path)
    large = EncodedSplit.build(
        [example(1)], lambda e: encode(e, 99_999), key="large", root=tmp_path
    )
    sizes = [p.stat().st_size for p in sorted(tmp_path.glob("*/tokens.bin"))]
    assert sorted(sizes) == [2 * small.tokens_total, 4 * large.tokens_total]
    assert large[0].tokens.max() == 4 * 99_999


def test_encoded_once_with_a_key(tmp_path: Path) -> None:
    calls: list[str] = []

    def counted(one: Example) -> Encoded:
        calls.append(one.row)
        return encode(one)

    for _ in range(2):
        store = EncodedSplit.build([example(1), example(2)], counted, key="k", root=tmp_path)
        assert_same(store[1], encode(example(2)))
    assert calls == ["train:1", "train:2"]
    EncodedSplit.build([example(1)], counted, key="other", root=tmp_path)
    assert len(calls) == 3


def test_texts_are_announced_before_they_are_encoded() -> None:
    seen: list[str] = []

    def late(one: Example) -> Encoded:
        assert one.segments[0] in seen
        return encode(one)

    EncodedSplit.build([example(1), example(2)], late, prefetch=seen.extend)
    assert seen == ["text 1", "text 2"]


@pytest.mark.parametrize("key", [None, "documents"])
def test_an_example_may_have_several_encodings_or_none(key: str | None, tmp_path: Path) -> None:
    def several(one: Example) -> list[Encoded]:
        return [encode(one)] * (int(one.target or 0) % 3)

    store = EncodedSplit.build([example(i) for i in range(6)], several, key=key, root=tmp_path)
    assert store.examples.tolist() == [1, 2, 2, 4, 5, 5]
    assert_same(store[3], encode(example(4)))


@pytest.mark.parametrize("key", [None, "nothing"])
def test_an_empty_split(key: str | None, tmp_path: Path) -> None:
    store = EncodedSplit.build([], encode, key=key, root=tmp_path)
    assert (len(store), store.tokens_total, store.cut_rows) == (0, 0, 0)


def test_damage_is_seen(tmp_path: Path) -> None:
    EncodedSplit.build([example(1)], encode, key="k", root=tmp_path)
    (tokens,) = tmp_path.glob("*/tokens.bin")
    tokens.write_bytes(b"")
    with pytest.raises(UserError, match=r"damaged: tokens.bin has 0 bytes where 8 were written"):
        EncodedSplit.build([example(1)], encode, key="k", root=tmp_path)


def test_an_empty_encoding_names_its_row() -> None:
    empty = Encoded(tokens=np.zeros(0, np.int32), labelled=np.zeros(0, np.bool_))
    with pytest.raises(ValueError, match="train:7"):
        EncodedSplit.build([example(7)], lambda e: empty)


@given(st.lists(st.integers(0, 99), max_size=40), st.integers(2, 12))
def test_chunks_predict_each_token_once(tokens: list[int], context: int) -> None:
    pieces = chunks(tokens, context, first=100)
    predicted = [int(t) for p in pieces for t, on in zip(p.tokens, p.labelled, strict=True) if on]
    assert predicted == tokens
    assert all(len(p.tokens) <= context and not p.labelled[0] for p in pieces)
    # Each chunk stands on the last token of the one before it.
    assert [int(p.tokens[0]) for p in pieces] == [100, *(int(p.tokens[-1]) for p in pieces)][
        : len(pieces)
    ]
    assert len(pieces) == -(-len(tokens) // (context - 1))
