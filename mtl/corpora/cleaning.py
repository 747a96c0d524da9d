"""One document through the rules, in a fixed order; what becomes of it is entered in the account."""

from __future__ import annotations

import re

from mtl.config.schema import CleaningConfig
from mtl.corpora import c4, domains, gopher
from mtl.corpora.account import Account
from mtl.corpora.reading import Document

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def clean(
    document: Document, rules: CleaningConfig, excluded: tuple[str, ...], account: Account
) -> str | None:
    """The text that stays of a document, or None.

    Domains first, then C4, which takes lines out, then quality and repetition on what is left: a good page with a menu
    is judged without its menu.

    :param excluded: Domains that are left out, see :func:`mtl.corpora.domains.in_domains`.
    """
    text = document.text
    size = len(text.encode("utf-8"))
    account.documents += 1
    account.bytes += size

    def drop(rule: str, left: int) -> None:
        account.document(rule, document.row, document.text, left)

    if not text.strip():
        drop("empty", size)
        return None
    if excluded:
        if document.url is None:
            account.without_address += 1
        elif domains.in_domains(document.url, excluded):
            drop("domain: excluded", size)
            return None
    if rules.c4 is not None:
        lines = c4.keep_lines(text, rules.c4)
        if lines.broken is not None:
            drop(f"c4: {lines.broken}", size)
            return None
        for rule, count in lines.dropped.items():
            account.lines(f"c4: {rule}", count, lines.dropped_bytes[rule])
        text = lines.text
        left = size - sum(lines.dropped_bytes.values())
        after = len(text.encode("utf-8"))
        if after != left:  # blanks at the ends of lines, empty lines and citation marks
            account.lines("c4: blanks and citation marks", 0, left - after)
        size = after
        if not text:
            drop("c4: no line is left", 0)
            return None
    if rules.gopher_quality is not None:
        broken = gopher.broken_quality(text, rules.gopher_quality)
        if broken is not None:
            drop(f"gopher quality: {broken}", size)
            return None
    if rules.gopher_repetition is not None:
        broken = gopher.broken_repetition(text, rules.gopher_repetition)
        if broken is not None:
            drop(f"gopher repetition: {broken}", size)
            return None
    account.replacement_characters += "\ufffd" in text
    account.control_characters += _CONTROL.search(text) is not None
    return text
