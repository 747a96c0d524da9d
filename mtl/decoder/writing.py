"""Decoding to text: what a decoder writes behind prompts, until it writes one of some stop texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.config.errors import UserError
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder

Decode = Callable[[list[int]], str]
"""Token ids -> text; bytes that are no whole character read as U+FFFD."""

BROKEN = "\ufffd"


@dataclass(frozen=True, slots=True)
class Written:
    """What stands behind one prompt."""

    tokens: list[int]
    """New tokens, without a stop token. Where a stop text was written, the last of them ends it."""
    text: str
    """Their text before the stop text."""
    stopped_by: str | int | None
    """The stop text, the stop token, or None where ``max_new_tokens`` were written."""


def write(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    decode: Decode,
    max_new_tokens: int,
    stop: Collection[int] = (),
    stop_texts: Sequence[str] = (),
    **options: Any,
) -> list[Written]:
    """Continue each prompt until a stop token, a stop text or ``max_new_tokens``.

    The result is what generating all tokens and cutting the text before the earliest stop text would give, whichever
    tokens a stop text is spread over; a row leaves the batch as soon as that is known. Of stop texts that begin at the
    same place the shortest counts.

    :param decode: Text of new tokens. Text must only grow with more tokens, broken characters at its end aside.
    :param stop_texts: Texts that end a row and do not belong to it.
    :param options: As of :func:`mtl.decoder.generation.generate`: ``streams``, ``temperature``, ``top_k``, ``top_p``,
        ``seed``, ``banned``, ``project``, ``offsets``.
    :raises UserError: as ``generate``, and on an empty stop text.
    """
    if "" in stop_texts:
        raise UserError("a stop text is empty, and would end every text before its first character")
    watch = _Watch(tuple(dict.fromkeys(stop_texts)), decode)
    begun = [False] * len(prompts)

    def ended(row: int, tokens: list[int]) -> bool:
        if tokens[-1] in stop:
            return True
        begun[row] = begun[row] or watch.appears(tokens)
        return begun[row] and watch.is_known(tokens)

    written = generate(decoder, prompts, max_new_tokens=max_new_tokens, ended=ended, **options)
    return [watch.cut(tokens, stop) for tokens in written]


class _Watch:
    """Looks for stop texts in a text that grows."""

    def __init__(self, texts: tuple[str, ...], decode: Decode):
        self.texts = texts
        self.decode = decode
        # Characters that a match which ends in the newest token can reach back. A character cut in two reads as up to
        # three broken ones: where the tail begins, and before the newest token.
        self.reach = max(map(len, texts), default=0) + 5

    def appears(self, tokens: list[int]) -> bool:
        """Whether the newest token ended a stop text. Only as many tokens as could matter are decoded."""
        if not self.texts:
            return False
        window = self.reach + 1
        while window < len(tokens) and len(self.decode(tokens[-window:-1])) < self.reach:
            window *= 2
        tail = self.decode(tokens[-window:])
        return any(stop in tail for stop in self.texts)

    def is_known(self, tokens: list[int]) -> bool:
        """Whether the text holds a stop text, and nothing written later can make another one the earliest.

        That is open while a longer stop text has begun before the one that was found.
        """
        # A broken character at the end may become a whole one with the next token.
        text = self.decode(tokens).rstrip(BROKEN)
        found = first_of(self.texts, text)
        return found is not None and not any(
            stop.startswith(text[begin:])
            for stop in self.texts
            for begin in range(max(0, len(text) - len(stop) + 1), found[0])
        )

    def cut(self, tokens: list[int], stop: Collection[int]) -> Written:
        """The text before the earliest stop text, and the tokens up to the one that ends it."""
        by_token = tokens[-1] if tokens and tokens[-1] in stop else None
        kept = tokens if by_token is None else tokens[:-1]
        text = self.decode(kept)
        found = first_of(self.texts, text)
        if found is None:
            return Written(kept, text, by_token)
        begin, by_text = found
        while self.decode(kept[:-1]).startswith(by_text, begin):
            kept = kept[:-1]
        return Written(kept, text[:begin], by_text)


def first_of(texts: Sequence[str], text: str) -> tuple[int, str] | None:
    """Where the earliest of ``texts`` begins in ``text``, and which it is: the shortest that begins there."""
    places = [(text.find(wanted), len(wanted), wanted) for wanted in texts]
    begin, _, found = min((place for place in places if place[0] >= 0), default=(-1, 0, ""))
    return None if begin < 0 else (begin, found)
