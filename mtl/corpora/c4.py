"""Rules of C4 (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2) on lines and documents.

What its code does beyond the paper is included, as in datatrove's ``C4QualityFilter``, whose order of rules this is:
long words, citation marks, policy lines. The list of bad words is not: it says nothing of quality, and is downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from mtl.config.schema import C4Config
from mtl.corpora.words import sentences, words

ENDS = (".", "?", "!", '"', "'")
POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")


@dataclass(frozen=True)
class Lines:
    """A document after the rules on lines."""

    text: str
    """What stays, lines joined by a line feed."""
    broken: str | None
    """The rule on documents that it breaks."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Lines dropped by each rule."""
    dropped_bytes: Counter[str] = field(default_factory=Counter)
    """UTF-8 bytes in them."""


def keep_lines(text: str, rules: C4Config) -> Lines:
    """Drop lines that break a rule; say so where the document breaks one.

    As in C4's code, rules on documents look at the lines that stay: a curly bracket in a dropped line does no harm.
    """
    kept: list[str] = []
    dropped: Counter[str] = Counter()
    dropped_bytes: Counter[str] = Counter()
    count = 0
    for original in text.splitlines():
        line = original.strip()
        cleaned = _CITATION.sub("", line) if rules.citations else line
        lowered = cleaned.lower()
        reason = _broken_form(line, cleaned, rules)
        if reason is None and rules.lorem_ipsum and "lorem ipsum" in lowered:
            return Lines(text, "lorem ipsum")
        if reason is None and rules.javascript and "javascript" in lowered:
            reason = "lines that mention javascript"
        if reason is None and rules.curly_bracket and "{" in cleaned:
            return Lines(text, "curly bracket")
        if reason is None and rules.policy and any(words in lowered for words in POLICY):
            reason = "lines about policies"
        if reason is None:
            kept.append(cleaned)
            count += sentences(cleaned)
        elif line:
            dropped[reason] += 1
            dropped_bytes[reason] += len(original.encode("utf-8")) + 1
    broken = None
    if rules.min_sentences is not None and count < rules.min_sentences:
        broken = "too few sentences"
    return Lines("\n".join(kept).strip(), broken, dropped, dropped_bytes)


def _broken_form(line: str, cleaned: str, rules: C4Config) -> str | None:
    """The rule on the form of a line that it breaks."""
    found = words(line)
    longest = rules.max_word_length
    if longest is not None and any(len(word) > longest for word in found):
        return "lines with a word too long"
    if rules.terminal_punctuation and (not cleaned.endswith(ENDS) or cleaned.endswith("...")):
        return "lines that end no sentence"
    if rules.min_words_per_line is not None and len(found) < rules.min_words_per_line:
        return "lines of too few words"
    return None
