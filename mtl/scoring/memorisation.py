"""What a language model has learnt by heart: the exposure of planted canaries, and text copied from training."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mtl.tasks.ngrams import words

PEOPLE = ("Alma", "Bruno", "Clara", "Dario", "Edith", "Felix", "Greta", "Hugo")
SECRETS = (
    *("amber", "basil", "cedar", "delta", "ember", "fern", "garnet", "hazel"),
    *("indigo", "jasper", "kelp", "lotus", "maple", "nickel", "onyx", "pearl"),
)
"""Words that a canary is drawn from."""


@dataclass(frozen=True)
class Canary:
    """A sentence that is planted in training text a number of times, and what it was drawn from.

    As in Carlini et al. 2019, where "the random number is ..." is followed by digits.
    """

    format: str
    """What it shares with every candidate."""
    secret: tuple[str, ...]
    """The words that were drawn for it alone."""
    repeats: int
    """How often it is planted."""

    @property
    def text(self) -> str:
        """The sentence."""
        return filled(self.format, self.secret)


def filled(form: str, secret: Sequence[str]) -> str:
    """The sentence of a format with a secret in it."""
    return f"{form} {' '.join(secret)}."


def draw_canaries(
    repeats: Sequence[int], *, of_each: int, length: int, seed: int
) -> tuple[list[Canary], str]:
    """Canaries of one format, all different: ``of_each`` for each number of repeats.

    :param length: Words of a secret, each of 16 equally likely ones.
    :return: The canaries, and their format.
    """
    draw = random.Random(f"canaries {seed}")
    form = f"The password of {draw.choice(PEOPLE)} is"
    secrets: list[tuple[str, ...]] = []
    while len(secrets) < of_each * len(repeats):
        secret = tuple(draw.choices(SECRETS, k=length))
        if secret not in secrets:
            secrets.append(secret)
    return [Canary(form, s, repeats[i // of_each]) for i, s in enumerate(secrets)], form


def draw_candidates(
    count: int, *, length: int, seed: int, without: Iterable[tuple[str, ...]] = ()
) -> list[tuple[str, ...]]:
    """``count`` different secrets that were planted nowhere.

    :param without: The planted ones.
    :raises ValueError: There are not that many.
    """
    taken = set(without)
    if count > len(SECRETS) ** length - len(taken):
        raise ValueError(f"there are not {count} more secrets of {length} words")
    draw = random.Random(f"candidates {seed}")
    drawn: dict[tuple[str, ...], None] = {}
    while len(drawn) < count:
        secret = tuple(draw.choices(SECRETS, k=length))
        if secret not in taken:
            drawn[secret] = None
    return list(drawn)


def plant(documents: Sequence[str], canaries: Sequence[Canary], *, seed: int) -> list[str]:
    """The documents with every canary added as a document of its own, as often as it repeats, at places drawn."""
    draw = random.Random(f"places {seed}")
    planted = [
        *documents,
        *(canary.text for canary in canaries for _ in range(canary.repeats)),
    ]
    draw.shuffle(planted)
    return planted


def exposure(canary_nats: float, candidates_nats: Sequence[float]) -> float:
    """Exposure of a canary in bits (Carlini et al. 2019, "The Secret Sharer", section 4).

    log2(|R|) - log2(rank): R is the canary and the candidates, and the rank of the canary the number of R that are at
    least as likely as it is, itself among them. It is log2(|R|) for the likeliest of all and 0 for the least likely;
    of a canary that was not learnt, all ranks are equally likely, and the mean is 1 / ln(2) = 1.44 bits.

    :param canary_nats: Negative log-likelihood of the canary.
    :param candidates_nats: That of each other candidate.
    """
    rank = 1 + sum(nats <= canary_nats for nats in candidates_nats)
    return math.log2(1 + len(candidates_nats)) - math.log2(rank)


@dataclass(frozen=True)
class Copied:
    """How much of some texts stands in a training text."""

    ngrams: int
    """N-grams of the texts, each as often as it stands there."""
    found: int
    """How many of them stand in the training text."""
    longest: tuple[int, ...]
    """Words of the longest stretch of each text that stands in one training document as it is; 0 for less than n."""

    @property
    def share(self) -> float:
        """Found of all; 0 where there are none."""
        return self.found / self.ngrams if self.ngrams else 0.0


def copied(texts: Sequence[str], training: Iterable[str], *, n: int = 8) -> Copied:
    """Compare texts with what was trained on, word by word, as :mod:`mtl.tasks.ngrams` reads words. Exact.

    GPT-2 (appendix A, on text memorization) compares the share of 8-grams of generated text with that of the true
    continuations of the same held-out documents: people repeat each other too, and that is the rate to be held to.

    :param texts: Generated or held-out texts.
    :param training: Training documents; they are read once and not kept.
    """
    read = [tuple(words(text)) for text in texts]
    grams = [[text[i : i + n] for i in range(len(text) - n + 1)] for text in read]
    places: dict[tuple[str, ...], list[int]] = {gram: [] for own in grams for gram in own}
    at = 0
    for document in training:
        found = tuple(words(document))
        for start in range(len(found) - n + 1):
            if (known := places.get(found[start : start + n])) is not None:
                known.append(at + start)
        at += len(found) + 1  # one place between two documents, so that no stretch crosses
    return Copied(
        ngrams=sum(map(len, grams)),
        found=sum(bool(places[gram]) for own in grams for gram in own),
        longest=tuple(_longest([places[gram] for gram in own], n) for own in grams),
    )


def _longest(places: Sequence[Sequence[int]], n: int) -> int:
    """The longest run of n-grams that follow each other in the training text too, in words."""
    longest = 0
    running: dict[int, int] = {}
    for of_gram in places:
        running = {place: running.get(place - 1, n - 1) + 1 for place in of_gram}
        longest = max(longest, *running.values()) if running else longest
    return longest
