"""Rules of C4: each at its edge, and the same lines as datatrove's filter keeps."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.schema import C4Config
from mtl.corpora import words
from mtl.corpora.c4 import POLICY, keep_lines
from mtl.corpora.domains import host, in_domains

from .prose import COOKIES, MENU, SCRIPT, boilerplate, document

ALL = C4Config()
NONE = C4Config(**{f.name: False if f.type == "bool" else None for f in fields(C4Config)})
LINE = "The gardener walked to the market."


@pytest.mark.parametrize(
    ("rule", "kept", "dropped", "reason"),
    [
        ("terminal_punctuation", LINE, LINE[:-1], "lines that end no sentence"),
        ("terminal_punctuation", "He asked why?", "He wondered...", "lines that end no sentence"),
        ("terminal_punctuation", 'He said "no"', "He said no:", "lines that end no sentence"),
        ("min_words_per_line", "One two three.", "One two.", "lines of too few words"),
        ("max_word_length", "x" * 1000 + " y", "x" * 1001 + " y", "lines with a word too long"),
        ("javascript", LINE, SCRIPT, "lines that mention javascript"),
        ("policy", LINE, COOKIES, "lines about policies"),
        ("policy", "He read the terms.", "See our Terms of Use.", "lines about policies"),
    ],
)
def test_lines_at_the_edge_of_a_rule(rule: str, kept: str, dropped: str, reason: str) -> None:
    rules = replace(NONE, **{rule: getattr(ALL, rule)})
    found = keep_lines(f"{kept}\n\n{dropped}\n{kept}", rules)
    assert found.broken is None
    assert found.text.split("\n") == [line for line in found.text.split("\n") if line != dropped]
    assert dict(found.dropped) == {reason: 1}
    assert dict(found.dropped_bytes) == {reason: len(dropped) + 1}
    assert keep_lines(dropped, NONE).text == dropped


@pytest.mark.parametrize(
    ("rule", "stays", "goes", "reason"),
    [
        ("lorem_ipsum", LINE, "Lorem Ipsum dolor sit.", "lorem ipsum"),
        ("curly_bracket", LINE, "if (x) { return 1; }", "curly bracket"),
        ("min_sentences", " ".join([LINE] * 5), " ".join([LINE] * 4), "too few sentences"),
    ],
)
def test_documents_at_the_edge_of_a_rule(rule: str, stays: str, goes: str, reason: str) -> None:
    rules = replace(NONE, **{rule: getattr(ALL, rule)})
    assert keep_lines(stays, rules).broken is None
    assert keep_lines(goes, rules).broken == reason
    assert keep_lines(goes, NONE).broken is None


def test_citation_marks_go_and_the_sentence_stays() -> None:
    line = "The market[12] opened.[edit] It is old.[citation needed]"
    rules = replace(NONE, citations=True, terminal_punctuation=True)
    assert keep_lines(line, rules).text == "The market opened. It is old."
    assert keep_lines(line, replace(rules, citations=False)).text == ""


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One. Two! Three? Four", 4),
        ("He paid 3.50 for it.", 1),
        ('"Stop!" he said. "Why?"', 3),
        ("Well... no.", 2),
        ("no end", 1),
    ],
)
def test_sentences_are_ends_that_a_blank_follows(text: str, count: int) -> None:
    assert words.sentences(text) == count


def test_planted_lines_are_found_and_prose_stays() -> None:
    planted = kept = found = 0
    for seed in range(40):
        prose = document(seed)
        page = "\n".join([MENU, COOKIES, prose, SCRIPT])
        left = keep_lines(page, ALL)
        planted += 7
        found += sum(left.dropped.values())
        kept += left.text == prose
    assert (found, planted) == (280, 280)  # recall 1, and not one line of prose among them:
    assert kept == 40  # precision 1


@pytest.fixture(scope="module")
def theirs():
    """datatrove's filter, told what a sentence is: its own tokeniser is spaCy's."""
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter, c4_filters

    def sentences(line: str, language: str) -> range:
        return range(words.sentences(line))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c4_filters, "split_into_sentences", sentences)

        def verdict(text: str) -> tuple[str | None, str]:
            document = Document(text=text, id="0")
            kept = C4QualityFilter().filter(document)
            return (None, document.text) if kept is True else (kept[1], "")

        yield verdict


REASONS = {
    "lorem ipsum": "lorem_ipsum",
    "curly bracket": "curly_bracket",
    "too few sentences": "too_few_sentences",
    None: None,
}
LINES = st.sampled_from(
    [LINE, LINE, f"{LINE} {LINE}", *MENU.split("\n"), COOKIES, SCRIPT, "", "  Two words.  ", "It ends...",
     "See [3] and that.[4]", *(f"Read our {words}." for words in POLICY), "a { b", "a { b of it.", "lorem ipsum",
     "The lorem ipsum of it.", "x" * 1001 + " is too long."]
)  # fmt: skip


@settings(max_examples=200)
@given(st.lists(LINES, max_size=12).map("\n".join))
def test_any_page_keeps_the_lines_that_datatrove_keeps(theirs, text: str) -> None:
    ours = keep_lines(text, ALL)
    reason, kept = theirs(text)
    assert REASONS[ours.broken] == reason
    assert ours.broken is not None or ours.text == kept


def test_boilerplate_gets_datatroves_verdict(theirs) -> None:
    for seed in range(5):
        for text in boilerplate(seed).values():
            assert REASONS[keep_lines(text, ALL).broken] == theirs(text)[0]


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("https://en.wikipedia.org/wiki/Oslo", True),
        ("http://WIKIPEDIA.org", True),
        ("//de.m.wikipedia.org./x", True),
        ("wikipedia.org/wiki", True),
        ("https://user:word@en.wikipedia.org:8080/", True),
        ("https://notwikipedia.org", False),
        ("https://wikipedia.org.evil.com/", False),
        ("https://example.com/wikipedia.org", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_a_domain_holds_what_lies_below_it(address: str, inside: bool) -> None:
    assert in_domains(address, ("Wikipedia.org",)) is inside
    assert host(address) == host(address).lower()
