"""Where sentences end: known answers, and what holds for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.scoring.sentences import first_sentences


def sentences(text):
    """Each sentence by itself, read off from longer and longer prefixes."""
    found, before = [], ""
    for count in range(1, 30):
        prefix = first_sentences(text, count)
        if prefix == before:
            break
        found.append(prefix[len(before) :].strip())
        before = prefix
    return found


@pytest.mark.parametrize(
    "expected",
    [
        ["The cat sat.", "It slept!", "Did it?", "Yes"],
        ["Mr. Smith met Dr. J. R. Jones, e.g. at 3.5 p.m. on Monday.", "She left."],
        ["Gen. Li and Mrs. Wu saw St. Paul's vs. Mt. Fuji.", "They left."],
        ["The U.S. Senate met in the U.S.", "The vote was close."],
        ["He studied at M.I.T.", "It was far.", "J. F. Kennedy came."],
        ["Apple Inc. Chairman Levinson works for Apple Inc.", "He said so."],
        ["See Fig. 3 and No. 5.", "No.", "I say no."],
        ["It rose to $3.50.", "12 people came.", "Version 2.0.1 is out."],
        ["It began on Jan. 5 and ended in Dec. 2019.", "Then came spring."],
        ['"Why?" he asked.', '"Because!"', "She left."],
        ["He said 'Go.'", "Then (he left.)", "“Stay.”", "»Nein.«", "Ende."],
        ["Wait...", "What?!", "No way!!!", "Well… maybe so.", "Yes…", "No."],
        ["Visit www.example.com or mail a.b@c.de now.", "Bye."],
        ["日本語です。", "次の文\uff01", "「はい。」", "終わり"],
        ["Она ушла.", "Он остался.", "Élan vital.", "Été."],
        ["She was a sales rep.", "Mary sat.", "Rep. Mary Li sat.", "It was art.", "Bob saw it."],
        ["It was I.", "He knew."],
    ],
    ids=lambda expected: expected[0],
)
def test_known_sentences(expected):
    between = "" if expected[0].startswith("日") else " "
    assert sentences(between.join(expected)) == expected


def test_a_line_end_ends_a_sentence():
    assert sentences("One\nTwo\r\nthree.\n\nMr.\nfour") == ["One", "Two", "three.", "Mr.", "four"]
    assert first_sentences("One. \n Two.\n", 1) == "One."
    assert first_sentences("  One. Two.", 1) == "  One."
    assert first_sentences("Title\n---\nOne.", 1) == "Title"


def test_signs_alone_are_no_sentence():
    assert first_sentences("... One. Two.", 1) == "... One."
    assert first_sentences("***\nOne.\n! Two.", 2) == "***\nOne.\n! Two."
    assert first_sentences("...", 1) == "..."
    assert first_sentences("", 3) == first_sentences(" \n ", 3) == ""


def test_three_sentences_of_a_generated_summary():
    text = " The U.S. team won. Mr. Li scored 2.5 points a game, i.e. a lot. They cheered! And the"
    assert first_sentences(text, 3) == (
        " The U.S. team won. Mr. Li scored 2.5 points a game, i.e. a lot. They cheered!"
    )


def test_no_sentence_is_not_asked_for():
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        first_sentences("One.", 0)


WORDS = st.sampled_from(
    [
        *("Mr.", "U.S.", "a", "The", "No.", "5", "3.5", "e.g.", "J.", "I.", "Inc.", "end.", 'so."'),
        *("(yes!)", "?", "…", "...", "\n", "\r\n", "。", "»", "'", "", "  ", "-", "\u2028", "\x85"),
    ]
)
TEXTS = st.text(max_size=60) | st.lists(WORDS, max_size=25).map(" ".join)


@given(text=TEXTS, count=st.integers(1, 6))
def test_what_holds_for_any_text(text, count):
    found = first_sentences(text, count)
    assert text.startswith(found)
    assert found == found.rstrip()
    assert first_sentences(text, 1 + len(text)) == text.rstrip()
    assert first_sentences(text, count + 1).startswith(found)  # more sentences only add
    assert first_sentences(found, count) == found  # and the cut text is what it is
    if text.strip():
        assert found.strip()
