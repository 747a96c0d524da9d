"""Stop texts, against a slow form that generates everything and then cuts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.generation import generate
from mtl.decoder.writing import Written, first_of, write

# Letters, pieces of words, and halves of characters of two, three and four bytes; token 49 has no text at all.
PIECES = [
    *(letter.encode() for letter in "abcdefgh \n."),
    *(b"ab", b"abc", b"cde", b"a\n", b"\n\n", b" the", b"the cat"),
    *(b"\xc3", b"\xa9", b"\xc3\xa9", b"\xe2", b"\x82", b"\xac", b"\xe2\x82", b"\x82\xac"),
    *(b"\xf0", b"\x9f", b"\x98", b"\x80", b"\xf0\x9f\x98", "é€".encode(), b"e\xcc", b"\x81"),
]
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13]]
NEW = 24


def decode(tokens: list[int]) -> str:
    whole = b"".join(b"" if token == 49 else PIECES[token % len(PIECES)] for token in tokens)
    return whole.decode("utf-8", "replace")


def slowly(tokens: list[int], stop: set[int], texts: list[str]) -> Written:
    """Cut what was generated without any stop."""
    end = next((place for place, token in enumerate(tokens) if token in stop), None)
    kept = tokens[:end]
    text = decode(kept)
    begins = [(text.index(wanted), len(wanted), wanted) for wanted in texts if wanted in text]
    if not begins:
        return Written(kept, text, None if end is None else tokens[end])
    begin, size, wanted = min(begins)
    count = next(
        n for n in range(len(kept) + 1) if decode(kept[:n])[begin : begin + size] == wanted
    )
    return Written(kept[:count], text[:begin], wanted)


@pytest.fixture(scope="module")
def free():
    """A decoder and what it writes without any stop, for several random streams of each prompt."""
    from mtl.config.schema import DecoderConfig
    from mtl.decoder.gpt import Decoder

    shape = DecoderConfig(name="test", layers=1, width=16, heads=2, context=48)
    decoder = Decoder(shape, 50).eval()
    prompts = PROMPTS * 15
    return decoder, prompts, generate(decoder, prompts, max_new_tokens=NEW, temperature=1.0)


@settings(max_examples=150)
@given(data=st.data())
def test_stop_texts_equal_generating_everything_and_cutting(free, data) -> None:
    decoder, prompts, whole = free
    rows = data.draw(st.lists(st.integers(0, len(prompts) - 1), min_size=1, max_size=4))
    text = decode(whole[rows[0]])
    bounds = st.tuples(st.integers(0, len(text)), st.integers(1, 9))
    inside = bounds.map(lambda b: text[b[0] : b[0] + b[1]])
    anything = st.text("abce \n.é€😀", min_size=1, max_size=4)
    texts = data.draw(
        st.lists((inside | anything).filter(lambda t: t and "\ufffd" not in t), max_size=4)
    )
    stop = data.draw(st.sets(st.integers(0, 49), max_size=2))
    found = write(
        decoder,
        [prompts[row] for row in rows],
        decode=decode,
        max_new_tokens=NEW,
        stop=stop,
        stop_texts=texts,
        streams=rows,
        temperature=1.0,
    )
    assert found == [slowly(whole[row], stop, texts) for row in rows]


def scripted(make, pieces: list[str]):
    """A decoder that writes the pieces in turn, whatever it reads, and how often it was asked."""
    decoder, asked = make(len(pieces)), [0]

    def project(hidden: torch.Tensor) -> torch.Tensor:
        asked[0] += 1
        wanted = torch.full((len(hidden),), asked[0] - 1)
        return torch.nn.functional.one_hot(wanted, len(pieces)).float()

    def text_of(tokens: list[int]) -> str:
        return "".join(pieces[token] for token in tokens)

    return decoder, {"project": project, "decode": text_of, "max_new_tokens": len(pieces)}, asked


@pytest.mark.parametrize(
    ("pieces", "texts", "text", "tokens", "by"),
    [
        (["one", " two", "\n", "three"], ["\n"], "one two", 3, "\n"),
        (["one", " t", "wo\nth", "ree"], ["wo\nt"], "one t", 3, "wo\nt"),  # inside one token
        (["one", " t", "w", "o thr", "ee"], [" two "], "one", 4, " two "),  # over four tokens
        (["a.b", "c!", "d"], ["!", "."], "a", 1, "."),  # the first in the text, not in the list
        (["Q", "A:", "x"], ["A:", "QA"], "", 2, "QA"),
        (["ab", "cd", "ef", "gh"], ["cd", "abcdef"], "", 3, "abcdef"),  # begun before the other
        (["ab", "cd", "eX", "gh"], ["cd", "abcdef"], "ab", 2, "cd"),  # begun, and not ended
        (["ab", "cd"], ["cd", "abcdef"], "ab", 2, "cd"),
        (["abc", "d"], ["abc", "ab"], "", 1, "ab"),
        (["one", "two"], ["three"], "onetwo", 2, None),
        (["", "", "x", "", "y", ""], ["xy"], "", 5, "xy"),  # tokens without text
    ],
)
def test_known_stop_texts(make, pieces, texts, text, tokens, by) -> None:
    decoder, options, _ = scripted(make, pieces)
    (found,) = write(decoder, [[0]], stop_texts=texts, **options)
    assert found == Written(list(range(tokens)), text, by)


def test_generation_ends_with_the_stop_text(make) -> None:
    pieces = ["a", "b", "\n", "c", "d", "e", "f"]
    for texts, steps in ((["\n"], 3), (["b\nc", "\n"], 4), (["b\nd", "\n"], 4), (["x"], 7)):
        decoder, options, asked = scripted(make, pieces)
        write(decoder, [[0]], stop_texts=texts, **options)
        assert asked == [steps]


def test_only_the_end_of_a_long_text_is_decoded(make) -> None:
    pieces = [chr(0x4E00 + n) for n in range(40)]
    decoder, options, _ = scripted(make, pieces)
    text_of, lengths = options.pop("decode"), []

    def counted(tokens: list[int]) -> str:
        lengths.append(len(tokens))
        return text_of(tokens)

    (found,) = write(decoder, [[0]], stop_texts=["\n"], decode=counted, **options)
    assert found.text == "".join(pieces)
    assert max(lengths[:-1]) < 16
    assert lengths[-1] == 40


def test_a_text_whose_pieces_do_not_simply_add_up(make) -> None:
    """Tokens that end a word write the blank only when another one follows, as in GPT-1's vocabulary."""
    words = ["one", "two", "three", "four"]
    decoder, options, asked = scripted(make, words)
    options["decode"] = lambda tokens: " ".join(words[token] for token in tokens)
    (found,) = write(decoder, [[0]], stop_texts=["two "], **options)
    assert found == Written([0, 1, 2], "one ", "two ")
    assert asked == [3]


def test_characters_of_several_bytes_in_a_real_vocabulary(make) -> None:
    vocabulary = Vocabulary.train(["ab " * 9], 257)  # every byte of these characters is a token
    tokens = vocabulary.encode("Où est l'été 😀? Là.")
    for stop, text in (("é", "Où est l'"), ("😀", "Où est l'été "), ("à.", "Où est l'été 😀? L")):
        decoder, options, _ = scripted(make, [""] * len(tokens))
        options["decode"] = lambda places: vocabulary.decode(tokens[place] for place in places)
        (found,) = write(decoder, [[0]], stop_texts=[stop], **options)
        assert (found.text, found.stopped_by) == (text, stop)


def test_what_stopped_a_row_is_said(make) -> None:
    decoder, options, _ = scripted(make, ["a", "b", "c", "d"])
    (found,) = write(decoder, [[0]], stop={2}, stop_texts=["d"], **options)
    assert found == Written([0, 1], "ab", 2)
    decoder, options, _ = scripted(make, ["a", "b", "c", "d"])
    (found,) = write(decoder, [[0]], stop={3}, **options)  # the last token there is room for
    assert found == Written([0, 1, 2], "abc", 3)


def test_an_empty_stop_text_is_a_mistake(make) -> None:
    with pytest.raises(UserError, match="a stop text is empty"):
        write(make(), [[0]], decode=str, max_new_tokens=1, stop_texts=["a", ""])


def test_the_first_of_several_texts() -> None:
    assert first_of(["b", "ab", "a"], "xab") == (1, "a")
    assert first_of(["z"], "xab") is None
    assert first_of([], "xab") is None
