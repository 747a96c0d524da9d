"""Where sentences end in what a model wrote.

For summaries as GPT-2 makes them: "the first 3 generated sentences in these 100 tokens" (Radford et al., "Language
Models are Unsupervised Multitask Learners", section 3.6; how sentences were found there is not said). The rules are
those of written English and need no download:

- A line end ends a sentence.
- So do ``.``, ``!``, ``?`` and an ellipsis, with quotes and brackets that close behind them, before a blank or at the
  end of the text; the full-width signs of Chinese and Japanese do without a blank.
- Not where the next word begins with a lower-case letter (``"Why?" he asked``).
- Not behind a title or an abbreviation that never ends one (``Mr.``, ``e.g.``), nor behind one that is followed by a
  number (``No. 5``).
- An abbreviation or initial that may end one (``U.S.``, ``J.``, ``Inc.``) does so only before a word that often begins
  a sentence (``The``, ``He``).
- What holds neither letter nor digit is no sentence of its own.
"""

from __future__ import annotations

import re

# What str.splitlines knows: line feed and carriage return, and rarer separators.
_LINE_END = r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+"
_CLOSING = "\"'\u201d\u2019\u00bb\u00ab\u203a)\\]}\u300d\u300f\uff09*_"
_OPENING = "\"'\u201c\u2018\u00ab\u00bb\u2039(\\[{\u2014\u2013*_-"
_END = re.compile(
    rf"{_LINE_END}|[.!?\u2026]+[{_CLOSING}]*(?=\s|$)|[\u3002\uff01\uff1f\uff61]+[{_CLOSING}]*"
)
_WORD_BEFORE = re.compile(r"[^\s\u2014\u2013/]*$")
_WORD_AFTER = re.compile(rf"\s*[{_OPENING}]*([^\W_]*)")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Those with a capital letter count only where they are written with one: "a sales rep." ends a sentence.
_NEVER = _words(
    "Mr Mrs Ms Messrs Mme Mlle Dr Prof St Mt Ft Gen Sen Rep Gov Lt Col Capt Cmdr Sgt Rev Hon Pres Supt Insp Adm Maj "
    "e.g i.e cf vs viz approx ca"
)
_BEFORE_A_NUMBER = _words(
    "no nos p pp fig figs vol vols art sec ch eq Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
)
_MAYBE = _words(
    "Inc Ltd Co Corp Bros Jr Sr Ave Blvd Rd Dept Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
    "etc al ph.d m.d b.a m.a d.c u.s u.k u.n e.u u.s.a a.m p.m"
)
_STARTERS = _words(
    "the a an this that these those it he she they we you i his her its their our my there here in on at by for from "
    "with as if when while after before since although though because but and so yet or however also then now "
    "what who where why how which not no one two some many most all both each another other according meanwhile"
)


def first_sentences(text: str, count: int) -> str:
    """The first ``count`` sentences of ``text``, as they stand; all of it where it has no more.

    :param count: At least 1.
    :returns: A prefix of ``text`` without blanks at its end.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}")
    begin = 0
    for found in _END.finditer(text):
        if not any(sign.isalnum() for sign in text[begin : found.start()]):
            continue
        if _ends(text, found):
            count -= 1
            if not count:
                return text[: found.end()].rstrip()
            begin = found.end()
    return text.rstrip()


def _ends(text: str, found: re.Match[str]) -> bool:
    """Whether a sign that may end a sentence does."""
    sign = found.group()
    if sign[0] in "\u3002\uff01\uff1f\uff61" or sign.isspace():
        return True
    after = _WORD_AFTER.match(text, found.end())
    following = after.group(1) if after is not None else ""
    if after is None or re.search(_LINE_END, after.group()):
        return True
    if following[:1].islower():
        return False
    if sign[0] != "." or sign.startswith(".."):
        return True
    before = _WORD_BEFORE.search(text, max(0, found.start() - 40), found.start())
    word = (before.group() if before is not None else "").lstrip(_OPENING.replace("\\", ""))
    forms = {word, word.lower()}
    if forms & _NEVER or (forms & _BEFORE_A_NUMBER and following[:1].isdigit()):
        return False
    if forms & _MAYBE or _INITIALS.fullmatch(word):
        return not following or following.lower() in _STARTERS
    return True
