"""Rules of MassiveText (Rae et al. 2021, "Scaling Language Models", appendix A.1.1 and table A1) on a document.

The counts follow datatrove's ``GopherQualityFilter`` and ``GopherRepetitionFilter``, with words between blanks, except
that lines of nothing but blanks are no lines that repeat. Each rule gives its name where it is broken, and rules are
tried in a fixed order, so that a document has one reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mtl.config.schema import GopherQualityConfig, GopherRepetitionConfig
from mtl.corpora.repetition import RepeatedRuns
from mtl.corpora.words import SIGNS, words

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
BULLETS = ("\u2022", "-")
ELLIPSES = ("...", "\u2026")
_PARAGRAPH_END = re.compile(r"\n{2,}")
_LINE_END = re.compile(r"\n+")


def broken_quality(text: str, rules: GopherQualityConfig) -> str | None:
    """The first quality rule that a document breaks, or None."""
    found = words(text)
    lengths = [len(word) for word in found if not SIGNS.issuperset(word)]
    if _below(len(lengths), rules.min_words):
        return "too few words"
    if _above(len(lengths), rules.max_words):
        return "too many words"
    if not lengths:
        return None  # no measure of words exists
    mean = sum(lengths) / len(lengths)
    if _below(mean, rules.min_mean_word_length):
        return "words too short"
    if _above(mean, rules.max_mean_word_length):
        return "words too long"
    if _above(text.count("#") / len(found), rules.max_symbols):
        return "too many hash signs"
    if _above(sum(map(text.count, ELLIPSES)) / len(found), rules.max_symbols):
        return "too many ellipses"
    lines = text.splitlines()
    if _above(_share(line.lstrip().startswith(BULLETS) for line in lines), rules.max_bullet_lines):
        return "too many bullets"
    if _above(_share(line.rstrip().endswith(ELLIPSES) for line in lines), rules.max_ellipsis_lines):
        return "too many lines end in an ellipsis"
    if _below(_share(_has_letter(word) for word in found), rules.min_alphabetic_words):
        return "too few words with letters"
    if _below(len(STOP_WORDS.intersection(found)), rules.min_stop_words):
        return "too few stop words"
    return None


def broken_repetition(text: str, rules: GopherRepetitionConfig) -> str | None:
    """The first repetition rule that a document breaks, or None."""
    if not text:
        return None
    paragraphs = _PARAGRAPH_END.split(text.strip())
    share, characters = _repeated(paragraphs)
    if _above(share, rules.duplicate_paragraphs):
        return "repeated paragraphs"
    if _above(characters / len(text), rules.duplicate_paragraph_characters):
        return "characters in repeated paragraphs"
    share, characters = _repeated(_LINE_END.split(text))
    if _above(share, rules.duplicate_lines):
        return "repeated lines"
    if _above(characters / len(text), rules.duplicate_line_characters):
        return "characters in repeated lines"
    runs = RepeatedRuns(words(text))
    for n in range(2, 11):
        runs.lengthen()
        top = getattr(rules, f"top_{n}gram", None)
        if top is not None and runs.top_characters() / len(text) > top:
            return f"one run of {n} words too frequent"
        limit = getattr(rules, f"duplicate_{n}gram", None)
        if limit is not None and runs.repeated_characters() / len(text) > limit:
            return f"repeated runs of {n} words"
    return None


def _below(value: float, limit: float | None) -> bool:
    return limit is not None and value < limit


def _above(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit


def _share(marks: Iterable[bool]) -> float:
    counted = list(marks)
    return sum(counted) / len(counted) if counted else 0.0


def _has_letter(word: str) -> bool:
    return word.isalpha() or any(map(str.isalpha, word))


def _repeated(parts: Sequence[str]) -> tuple[float, int]:
    """Share of the parts that repeat an earlier one, and the characters in them.

    Parts of nothing but blanks are none: WikiText sets its paragraphs apart by lines of one blank.
    """
    parts = [part for part in parts if not part.isspace()]
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        else:
            seen.add(part)
    return count / max(len(parts), 1), characters
