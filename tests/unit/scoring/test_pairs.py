"""Contexts and continuations as token ids; that they are the harness's own is tests/parity/test_lm_eval.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mtl.data.vocabulary import Vocabulary
from mtl.scoring.pairs import encode_pair

TEXTS = ["the cat sat on the mat and the dog sat on the cat"] * 3


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.train(TEXTS, 300)


def written(vocabulary: Vocabulary, context: str, continuation: str) -> tuple[str, str]:
    before, after = encode_pair(vocabulary, context, continuation)
    return vocabulary.decode(before), vocabulary.decode(after)


@pytest.mark.parametrize(
    ("context", "continuation", "expected"),
    [
        ("the cat", " sat", ("the cat", " sat")),
        ("the cat ", "sat", ("the cat", " sat")),
        ("the cat \n", "sat", ("the cat", " \nsat")),
        ("the cat", "", None),
        ("", "sat on", ("", "sat on")),
        ("  ", "sat on", ("", "  sat on")),
    ],
)
def test_blanks_between_belong_to_the_continuation(
    vocabulary: Vocabulary, context: str, continuation: str, expected: tuple[str, str] | None
) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="continuation should not be empty"):
            encode_pair(vocabulary, context, continuation)
    else:
        assert written(vocabulary, context, continuation) == expected


def test_an_empty_context_is_the_end_of_a_text(vocabulary: Vocabulary) -> None:
    sat = vocabulary.encode("sat")
    assert encode_pair(vocabulary, "", "sat") == ([vocabulary.end], sat)
    # Nobody can write the token itself, so that it cannot be there already.
    before, after = encode_pair(vocabulary, "", "<|endoftext|>sat")
    assert before == [vocabulary.end]
    assert vocabulary.decode(after) == "<|endoftext|>sat"
    assert vocabulary.end not in after


def test_a_continuation_that_merges_into_the_context_is_refused(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.encode("the cat")) <= len(vocabulary.encode("the c"))
    with pytest.raises(ValueError, match=r"token of its own\. Found 'at'"):
        encode_pair(vocabulary, "the c", "at")


def test_a_context_met_before_is_not_encoded_again(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [encode_pair(vocabulary, "the cat ", choice) for choice in ("sat", "on the")]
    encoded: list[str] = []

    def encode(text: str, encode: Callable[[str], list[int]] = vocabulary.encode) -> list[int]:
        encoded.append(text)
        return encode(text)

    monkeypatch.setattr(vocabulary, "encode", encode)
    known: dict[str, list[int]] = {}
    for choice, pair in zip(("sat", "on the"), expected, strict=True):
        before, after = encode_pair(vocabulary, "the cat ", choice, known=known)
        assert (before, after) == pair
        before.append(0)  # the caller's own
    assert encoded == ["the cat", "the cat sat", "the cat on the"]
