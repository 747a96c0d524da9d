"""N-grams of words, and the indices that hold them."""

from __future__ import annotations

import random
import string
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mtl.tasks.ngrams import (
    BloomIndex,
    ExactIndex,
    count_ngrams,
    ngrams,
    normalise,
    row_texts,
)
from mtl.tasks.task import Example


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  U.S.\n\tdidn't -- <unk> pay $3,000!", "the u s didn t unk pay 3 000"),
        ("snake_case\u2019s \u00c9T\u00c9 \u0130", "snake case s \u00e9t\u00e9 i"),
        ("\u4f60\u597d \u4e16\u754c 9\u00bd", "\u4f60\u597d \u4e16\u754c 9\u00bd"),
        (" ... ", ""),
    ],
)
def test_normalisation(text, expected):
    assert normalise(text) == expected


@given(st.text())
def test_normalising_again_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)
    assert set(normalise(text)) & set(string.punctuation + string.ascii_uppercase) == set()


@given(st.text(alphabet="aB. '", max_size=60), st.integers(1, 9))
def test_ngrams_are_slices_of_the_normalised_text(text, n):
    parts = normalise(text).split()
    expected = [" ".join(parts[i : i + n]) for i in range(len(parts)) if i + n <= len(parts)]
    assert list(ngrams(text, n)) == expected
    assert count_ngrams(text, n) == len(expected)


def example(**parts) -> Example:
    return Example(**{"row": "test:0", "segments": (), "prompt": (), "target": None, **parts})


def test_a_document_is_one_text():
    row = example(references=("whole text",), original="whole <unk> text")
    assert row_texts(row) == ["whole text"]


def test_the_words_of_a_prompt_and_of_labels_do_not_count():
    row = example(
        segments=("A man sleeps.", "He is awake."),
        prompt=("A man sleeps.", "\nClaim: He is awake.", "\nTrue or false? Answer:"),
        target=1,
        answers=(" true", " false"),
    )
    assert row_texts(row) == ["A man sleeps.", "He is awake."]


def test_the_last_word_of_a_passage_is_read_on():
    row = example(segments=("He went to the",), prompt=("He went to the",), references=("sea",))
    assert row_texts(row) == ["He went to the sea"]


def test_only_the_right_candidate_is_read_on_and_all_count():
    row = example(
        segments=("Anna thanked Ida because",),
        prompt=("Anna thanked Ida because",),
        target=1,
        answers=(" Anna had helped", " Ida had helped"),
        choices=("Anna had helped", "Ida had helped"),
    )
    assert row_texts(row) == ["Anna thanked Ida because Ida had helped", "Anna had helped"]


def test_what_is_given_before_a_candidate_belongs_to_it():
    row = example(
        segments=("Anna thanked Ida because",),
        prompt=("Anna thanked Ida because",),
        target=0,
        answers=(" had helped", " had helped"),
        choices=("had helped", "had helped"),
        given=(" Anna", " Ida"),
    )
    texts = [normalise(text) for text in row_texts(row)]
    assert texts == ["anna thanked ida because anna had helped", "ida had helped"]


def test_an_answer_behind_words_of_the_prompt_is_a_text_of_its_own():
    row = example(
        segments=("A long article.", ""),
        prompt=("A long article.", "\nTL;DR:"),
        references=("Short.", "Shorter."),
    )
    assert row_texts(row) == ["A long article.", "", "Short.", "Shorter."]


@settings(max_examples=50)
@given(st.sets(st.text(max_size=30), max_size=300), st.sampled_from([1e-8, 1e-3, 0.2, 0.9]))
def test_a_filter_never_misses_and_the_exact_set_is_exact(taken, rate):
    sieve, exact = BloomIndex(len(taken), rate), ExactIndex()
    for ngram in taken:
        sieve.add(ngram)
        exact.add(ngram)
    assert all(ngram in sieve and ngram in exact for ngram in taken)
    assert len(exact) == len(taken)
    assert "not taken, and longer than thirty characters" not in exact


def strings(count: int, seed: int) -> list[str]:
    """Random strings, all different with all but certainty."""
    draw = random.Random(seed)
    return [f"{draw.getrandbits(128):032x}" for _ in range(count)]


@pytest.mark.parametrize("rate", [1e-1, 1e-2, 1e-3])
def test_the_rate_of_a_full_filter_is_the_stated_one(rate):
    """Measured against the exact set, on strings that are not in it: neither higher nor lower than stated."""
    taken = strings(20_000, seed=1)
    sieve, exact = BloomIndex(len(taken), rate), ExactIndex(taken)
    for text in taken:
        sieve.add(text)
    asked = [text for text in strings(100_000, seed=2) if text not in exact]
    wrong = sum(text in sieve for text in asked)
    assert sieve.expected_false_positive_rate == pytest.approx(rate, rel=0.01)
    assert binomtest(wrong, len(asked), rate).pvalue > 1e-3, wrong / len(asked)


@pytest.mark.parametrize("rate", [0.99, 0.5, 0.3, 0.25, 1e-2, 1 / 128, 1e-3, 1e-8, 2**-27, 1e-15])
@pytest.mark.parametrize("elements", [1000, 12_345])
def test_the_rate_by_formula_is_at_most_the_stated_one(rate, elements):
    sieve = BloomIndex(elements, rate)
    assert sieve.expected_false_positive_rate <= rate
    saved = sieve._filter.save_bytes()  # begins with the number of hashes that the library takes
    assert int.from_bytes(saved[:8], "little") == sieve.hashes
    assert len(saved) - 8 == sieve.bits // 8


def test_bits_and_hashes_of_gpt2s_rate():
    """By formula log2(1e8) = 26.58 hashes and 38.34 bits an element; the library rounds the hashes down."""
    sieve = BloomIndex(1_000_000, 1e-8)
    assert sieve.hashes == 26
    assert sieve.bits / sieve.elements == pytest.approx(38.34, abs=0.02)


@pytest.mark.slow
def test_a_million_random_strings_are_not_found_at_gpt2s_rate():
    """The check of GPT-2, section 4, on a full filter: 0.01 hits are expected, and none is there."""
    sieve = BloomIndex(1_000_000, 1e-8)
    for text in strings(1_000_000, seed=3):
        sieve.add(text)
    assert sum(text in sieve for text in strings(1_000_000, seed=4)) == 0


def test_the_same_text_gives_the_same_filter_in_every_process():
    program = (
        "from mtl.tasks.ngrams import BloomIndex\n"
        "sieve = BloomIndex(50, 1e-3)\n"
        "for number in range(50): sieve.add(f'a b {number}')\n"
        "print(sieve._filter.save_bytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
