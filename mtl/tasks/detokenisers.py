r"""Undoing the tokenisation of published corpora, so that each text can be had back exactly.

Penn Treebank and WikiText write `` the dog 's tail , 3 @.@ 5 cm long `` where people write ``the dog's tail, 3.5 cm
long``, which is all a model of ordinary text has ever seen. GPT-2 was scored on the latter (section 3.1): since the
change can be undone, the likelihood of the one text is a likelihood of the other, over the units of the source.

Invertible by construction, for any text. A detokeniser joins tokens only where splitting what comes of it gives these
very tokens again; a place where it would not stays apart. A token that would be split by itself is written with a
backslash before it. Each line loses the blank at both of its ends; a line that has not exactly that shape is kept,
after a backslash and a blank.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

ESCAPE = "\\"
"""Before a token that stands as it is; alone at the beginning of a line that does."""
REMEMBERED = 1 << 16
"""Chunks whose tokens are remembered: texts have few kinds of them."""
SUFFIXES = ("'s", "'m", "'d", "'ve", "'re", "'ll")


class Detokeniser(ABC):
    """A pair of functions of texts of which the second undoes the first."""

    def __init__(self) -> None:
        self._tokens = lru_cache(REMEMBERED)(self._tokens_of)

    def detokenise(self, text: str) -> str:
        """The text as people write it."""
        *lines, last = text.split("\n")
        return "\n".join([*map(self._written_line, lines), self._written(last)])

    def tokenise(self, text: str) -> str:
        """The text that :meth:`detokenise` made this one of."""
        *lines, last = text.split("\n")
        return "\n".join([*map(self._source_line, lines), self._source(last)])

    @abstractmethod
    def joined(self, tokens: Sequence[str]) -> list[bool]:
        """Which tokens should stand at the one before without a blank between them; the first never does."""

    @abstractmethod
    def shown(self, token: str) -> str:
        """How a token is written next to others."""

    @abstractmethod
    def split(self, chunk: str) -> list[str]:
        """The tokens of what stands between two blanks."""

    def _written_line(self, line: str) -> str:
        if line == " ":
            return ""
        if len(line) > 2 and line[0] == line[-1] == " ":
            return self._written(line[1:-1])
        return f"{ESCAPE} {self._written(line)}"

    def _source_line(self, line: str) -> str:
        if not line:
            return " "
        if line.startswith(f"{ESCAPE} "):
            return self._source(line[2:])
        return f" {self._source(line)} "

    def _written(self, line: str) -> str:
        tokens = line.split(" ")
        joined = self.joined(tokens)
        chunks: list[str] = []
        begin = 0
        while begin < len(tokens):
            end = begin + 1
            while end < len(tokens) and joined[end]:
                end += 1
            chunk = None
            while chunk is None:
                chunk = self._chunk(tokens[begin:end])
                end -= 1
            chunks.append(chunk)
            begin = end + 1
        return " ".join(chunks)

    def _chunk(self, tokens: list[str]) -> str | None:
        """Tokens without blanks between them, if they can be told apart again; a single one can always."""
        chunk = "".join(map(self.shown, tokens))
        if self._tokens(chunk) == tuple(tokens):
            return chunk
        if len(tokens) > 1:
            return None
        return tokens[0] if self._tokens(tokens[0]) == tuple(tokens) else ESCAPE + tokens[0]

    def _source(self, line: str) -> str:
        return " ".join(token for chunk in line.split(" ") for token in self._tokens(chunk))

    def _tokens_of(self, chunk: str) -> tuple[str, ...]:
        return (chunk[1:],) if chunk.startswith(ESCAPE) else tuple(self.split(chunk))


class PennTreebank(Detokeniser):
    r"""``do n't``, ``dog 's``, ``dogs '``, ``$ N``, ``can not`` and ``1\/2``. An ampersand keeps its blanks, as people
    write it, and ``<unk>`` and ``N`` stay what they are."""

    LEFT = frozenset([*SUFFIXES, "n't", "'", "%"])
    _MONEY = re.compile(r"([a-z]*\$|#)(?=[N\d<])")
    """A currency and the beginning of an amount."""

    def joined(self, tokens: Sequence[str]) -> list[bool]:
        return [
            bool(before)
            and (
                (token in self.LEFT)
                or (before, token) == ("can", "not")
                or (before[-1] in "$#" and self._MONEY.match(before + token) is not None)
            )
            for before, token in zip(["", *tokens], tokens, strict=False)
        ]

    def shown(self, token: str) -> str:
        return token.replace("\\/", "/").replace("\\*", "*")

    def split(self, chunk: str) -> list[str]:
        if chunk in self.LEFT:
            return [chunk]
        head = []
        if money := self._MONEY.match(chunk):
            head, chunk = [money[1]], chunk[money.end() :]
        tail: list[str] = []
        while ending := next((e for e in self.LEFT if _follows(e, chunk)), None):
            tail.insert(0, ending)
            chunk = chunk.removesuffix(ending)
        body = ["can", "not"] if chunk == "cannot" else [chunk]
        return [*head, *(self._in_source(token) for token in body), *tail]

    def _in_source(self, token: str) -> str:
        return token.replace("/", "\\/").replace("*", "\\*")


class WikiText(Detokeniser):
    """Punctuation, brackets, quotes, ``'s``, ``@-@``, ``@,@`` and ``@.@``. Headings stay ``= Title =``."""

    OPENING, CLOSING, QUOTES = frozenset("([$£"), frozenset(",.;:!?)]%"), frozenset("\"'")
    ENDINGS = (*SUFFIXES, "'t")
    INFIX: ClassVar = {"@-@": "-", "@,@": ",", "@.@": "."}
    _ABBREVIATED = re.compile(
        r"(.*\.)?[^\W\d_]|\.+|No|Nos|St|Mr|Mrs|Ms|Dr|Jr|Sr|Bros|Co|vs|var|pp|Sgt|Lt|Col|Capt|Gen"
    )
    _BETWEEN = re.compile(r"((?<=[^-@])-(?=[^-@])|(?<=\d)[,.:\u2013](?=\d)|(?<=[^/])/(?=[^/]))")
    _SOURCE: ClassVar = {"-": "@-@", ",": "@,@", ".": "@.@"}

    def joined(self, tokens: Sequence[str]) -> list[bool]:
        joined = [False] * len(tokens)

        def join(left: bool, position: int, right: bool) -> None:
            if left and position and tokens[position - 1]:
                joined[position] = True
            if right and position + 1 < len(tokens) and tokens[position + 1]:
                joined[position + 1] = True

        open_quotes = dict.fromkeys(self.QUOTES, False)
        for position, token in enumerate(tokens):
            before = tokens[position - 1] if position else ""
            after = tokens[position + 1] if position + 1 < len(tokens) else ""
            between_digits = before[-1:].isdigit() and after[:1].isdigit()
            if token in self.INFIX or (token == "/" and before and after):
                join(True, position, True)
            elif token in (":", "\u2013"):
                join(token == ":" or between_digits, position, between_digits)
            elif token in self.CLOSING or token in self.ENDINGS:
                join(True, position, False)
            elif token in self.OPENING:
                join(False, position, token in "([" or after[:1].isdigit())
            elif token in self.QUOTES:
                if token == "'" and not open_quotes[token] and before.endswith("s"):
                    join(True, position, False)
                    continue
                closes = open_quotes[token]
                open_quotes[token] = not closes
                join(closes, position, not closes)
        return joined

    def shown(self, token: str) -> str:
        return self.INFIX.get(token, token)

    def split(self, chunk: str) -> list[str]:
        if chunk in self.ENDINGS:
            return [chunk]
        head, tail = [], list[str]()
        while len(chunk) > 1 and chunk[0] in self.OPENING | self.QUOTES:
            head.append(chunk[0])
            chunk = chunk[1:]
        while ending := self._ending(chunk):
            tail.insert(0, ending)
            chunk = chunk.removesuffix(ending)
        body = self._BETWEEN.split(chunk)  # every second part is what stands between two
        body[1::2] = [self._SOURCE.get(part, part) for part in body[1::2]]
        return [*head, *body, *tail]

    def _ending(self, chunk: str) -> str | None:
        if len(chunk) < 2:
            return None
        last = chunk[-1]
        if last == "." and self._ABBREVIATED.fullmatch(chunk[:-1]):
            return None
        if last in self.CLOSING | self.QUOTES:
            return last
        return next((suffix for suffix in self.ENDINGS if _follows(suffix, chunk)), None)


def _follows(ending: str, chunk: str) -> bool:
    return len(chunk) > len(ending) and chunk.endswith(ending)


DETOKENISERS: dict[str, Detokeniser] = {"wikitext": WikiText(), "ptb": PennTreebank()}
"""Each by the name that a task file gives it."""


def straighten_quotes(text: str) -> str:
    """Curly double quotes made straight, as in OpenAI's own version of LAMBADA."""
    return text.replace("\u201c", '"').replace("\u201d", '"')
