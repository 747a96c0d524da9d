"""Rules of MassiveText: each threshold at its edge, and the same verdict as datatrove."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.schema import GopherQualityConfig, GopherRepetitionConfig
from mtl.corpora import words
from mtl.corpora.gopher import broken_quality, broken_repetition
from mtl.corpora.repetition import RepeatedRuns

from .prose import boilerplate, document

QUALITY, REPETITION = GopherQualityConfig(), GopherRepetitionConfig()
PLAIN = ["the", "be", "to", "of", "and", "that", "have", "with"]


def only(rules, **kept):
    """All rules off but these."""
    off = dict.fromkeys((field.name for field in fields(rules)), None)
    return type(rules)(**{**off, **kept})


def of_words(count: int, word: str = "word") -> str:
    return " ".join([word] * count)


@pytest.mark.parametrize(
    ("rule", "at", "beyond", "reason"),
    [
        ("min_words", of_words(50), of_words(49), "too few words"),
        ("max_words", of_words(100_000, "a"), of_words(100_001, "a"), "too many words"),
        ("min_mean_word_length", "aaa bbb", "aaa bb", "words too short"),
        ("max_mean_word_length", "a" * 10, "a" * 11, "words too long"),
        ("max_symbols", "#" + of_words(10), "#" + of_words(9), "too many hash signs"),
        ("max_symbols", of_words(10) + "...", of_words(9) + "...", "too many ellipses"),
        ("max_bullet_lines", "- a\n" * 9 + "a", "- a\n" * 10, "too many bullets"),
        (
            "max_ellipsis_lines",
            "a...\n" * 3 + "a\n" * 7,
            "a...\n" * 4 + "a\n" * 6,
            "too many lines end in an ellipsis",
        ),
        ("min_alphabetic_words", "a a a a 1", "a a a 1 1 a a", "too few words with letters"),
        ("min_stop_words", "the that", "the the", "too few stop words"),
    ],
)
def test_quality_thresholds(rule: str, at: str, beyond: str, reason: str) -> None:
    rules = only(QUALITY, **{rule: getattr(QUALITY, rule)})
    assert broken_quality(at, rules) is None
    assert broken_quality(beyond, rules) == reason
    assert broken_quality(beyond, only(QUALITY)) is None


def test_signs_alone_are_no_words_and_a_mean_needs_some() -> None:
    assert (
        broken_quality("word - \u2014 \u2022 word", only(QUALITY, min_words=3)) == "too few words"
    )
    assert broken_quality("--- ...", only(QUALITY, max_mean_word_length=10.0)) is None
    assert broken_quality("", QUALITY) == "too few words"


@pytest.mark.parametrize(
    ("rule", "at", "beyond", "reason"),
    [
        ("duplicate_lines", "a\nb\nc\nd\ne\nf\ng\na\na\na", "a\na\nb", "repeated lines"),
        ("duplicate_paragraphs", "a\n\nb\n\nc\n\na", "a\n\na\n\nb", "repeated paragraphs"),
        (
            "duplicate_line_characters",
            "aaaa\naaaa\n" + "b" * 10,  # 4 of 20 characters
            "aaaa\naaaa\n" + "b" * 9,
            "characters in repeated lines",
        ),
        (
            "duplicate_paragraph_characters",
            "aaaa\n\naaaa\n\n" + "b" * 8,  # 4 of 20
            "aaaa\n\naaaa\n\n" + "b" * 7,
            "characters in repeated paragraphs",
        ),
        ("top_2gram", "a b a b " + "c" * 22, "a b a b " + "c" * 21, "one run of 2 words too frequent"),
        ("top_3gram", "a b c a b c " + "d" * 44, "a b c a b c " + "d" * 43, "one run of 3 words too frequent"),
        ("top_4gram", "a b c d a b c d " + "e" * 72, "a b c d a b c d " + "e" * 71, "one run of 4 words too frequent"),
    ],
)  # fmt: skip
def test_repetition_thresholds(rule: str, at: str, beyond: str, reason: str) -> None:
    rules = only(REPETITION, **{rule: getattr(REPETITION, rule)})
    assert broken_repetition(at, rules) is None
    assert broken_repetition(beyond, rules) == reason
    assert broken_repetition(beyond, only(REPETITION)) is None


def test_lines_of_blanks_are_no_lines_that_repeat() -> None:
    text = " \n a b \n \n c d \n \n e f \n \n g h"
    assert broken_repetition(text, only(REPETITION, duplicate_lines=0.3)) is None
    assert broken_repetition(" \n \n ", REPETITION) is None


@pytest.mark.parametrize("n", range(5, 11))
def test_repeated_runs_at_their_threshold(n: int) -> None:
    rule = f"duplicate_{n}gram"
    limit = getattr(REPETITION, rule)
    assert limit == pytest.approx(0.20 - 0.01 * n)
    run = " ".join(chr(ord("a") + index) for index in range(n))
    begin = f"{run} x {run} y "  # n characters repeat
    total = round(n / limit)
    rules = only(REPETITION, **{rule: n / total})
    assert broken_repetition(begin + "z" * (total - len(begin)), rules) is None
    assert broken_repetition(begin + "z" * (total - len(begin) - 1), rules) == (
        f"repeated runs of {n} words"
    )


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.integers(2, 10))
def test_runs_are_counted_as_one_by_one(found: list[str], n: int) -> None:
    runs = RepeatedRuns(found)
    while runs.n < n:
        runs.lengthen()
    all_runs = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    most = max((all_runs.count(run) for run in all_runs), default=0)
    assert runs.top_characters() == most * (2 * n - 1)
    seen, characters, place = set(), 0, 0
    while place < len(all_runs):
        if all_runs[place] in seen:
            characters, place = characters + n, place + n
        else:
            seen.add(all_runs[place])
            place += 1
    assert runs.repeated_characters() == characters


@pytest.fixture(scope="module")
def theirs():
    """datatrove's two filters, told what a word is: their own tokeniser is spaCy's."""
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        GopherQualityFilter,
        GopherRepetitionFilter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )

    with pytest.MonkeyPatch.context() as patch:
        for module in (gopher_quality_filter, gopher_repetition_filter):
            patch.setattr(module, "split_into_words", lambda text, language: words.words(text))
        patch.setattr(gopher_quality_filter, "PUNCTUATION_SET", words.SIGNS)

        def verdicts(text: str, **rules: int) -> tuple[str | None, str | None]:
            filters = GopherQualityFilter(**rules), GopherRepetitionFilter()
            found = (one.filter(Document(text=text, id="0")) for one in filters)
            first, second = (None if kept is True else kept[1] for kept in found)
            return first, second

        yield verdicts


REASONS = {
    "too few words": "gopher_short_doc",
    "too many words": "gopher_long_doc",
    "words too short": "gopher_below_avg_threshold",
    "words too long": "gopher_above_avg_threshold",
    "too many hash signs": "gopher_too_many_hashes",
    "too many ellipses": "gopher_too_many_ellipsis",
    "too many bullets": "gopher_too_many_bullets",
    "too many lines end in an ellipsis": "gopher_too_many_end_ellipsis",
    "too few words with letters": "gopher_below_alpha_threshold",
    "too few stop words": "gopher_enough_stop_words",
    "repeated paragraphs": "dup_para_frac",
    "characters in repeated paragraphs": "dup_para_char_frac",
    "repeated lines": "dup_line_frac",
    "characters in repeated lines": "dup_line_char_frac",
    **{f"one run of {n} words too frequent": f"top_{n}_gram" for n in (2, 3, 4)},
    **{f"repeated runs of {n} words": f"duplicated_{n}_n_grams" for n in range(5, 11)},
    None: None,
}


def test_prose_and_boilerplate_get_datatroves_verdict(theirs) -> None:
    texts = [document(seed) for seed in range(20)]
    texts += [text for seed in range(5) for text in boilerplate(seed).values()]
    seen = set()
    for text in texts:
        ours = broken_quality(text, QUALITY), broken_repetition(text, REPETITION)
        assert tuple(REASONS[reason] for reason in ours) == theirs(text), text[:80]
        seen |= set(ours)
    assert len(seen) >= 8  # not all the same


# Words of one length: datatrove joins a run without blanks, so that "a bc" would repeat "ab c".
PIECES = st.sampled_from(
    [*(f"{word:_<4}" for word in PLAIN), "wo1_", "#___", "9999", "x...", "----"]
)
TEXTS = st.lists(
    st.tuples(PIECES, st.sampled_from([" ", " ", " ", "\n", "\n\n"])), min_size=1, max_size=120
).map(lambda parts: "".join(word + end for word, end in parts))


@settings(max_examples=150)
@given(TEXTS)
def test_any_text_gets_datatroves_verdict(theirs, text: str) -> None:
    # Short texts pass, so that the other rules are reached.
    quality, repetition = theirs(text, min_doc_words=1)
    assert REASONS[broken_quality(text, replace(QUALITY, min_words=1))] == quality
    assert REASONS[broken_repetition(text, REPETITION)] == repetition


def test_a_switched_off_rule_leaves_the_next() -> None:
    text = of_words(40, "#")
    assert broken_quality(text, QUALITY) == "too few words"
    rules = replace(QUALITY, min_words=None)
    assert broken_quality(text, rules) is None  # signs alone: nothing is left to measure
    assert broken_quality(of_words(40, "#a"), rules) == "words too short"
