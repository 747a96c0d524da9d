"""Words, sentences and shingles, as the rules and the search for duplicates count them.

Nothing here is learnt or downloaded: words are what stands between blanks, sentences what ends in a full stop, an
exclamation mark or a question mark. So a threshold means the same on every machine.
"""

from __future__ import annotations

import re
import string

_SENTENCE_END = re.compile(r"[.!?]+[\"'\u2019\u201d)\]]*(?=\s|$)")
_WORD = re.compile(r"\w+")

SIGNS = frozenset(
    string.punctuation + "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022\u00ab\u00bb"
)
"""Signs that make no word by themselves."""


def words(text: str) -> list[str]:
    """What stands between blanks, punctuation included."""
    return text.split()


def sentences(text: str) -> int:
    """How many sentences: ends that a blank follows, and one more for words behind the last end."""
    ends = list(_SENTENCE_END.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + bool(rest.strip())


def shingles(text: str, n: int) -> set[str]:
    """Runs of ``n`` words, without case, punctuation and white space; all words of a text that has fewer."""
    found = _WORD.findall(text.lower())
    if len(found) <= n:
        return {" ".join(found)} if found else set()
    return set(map(" ".join, zip(*(found[i:] for i in range(n)), strict=False)))
