"""Acceptability: is the sentence good English? Nine phenomena, each with matched good and bad sentences.

Every word of a phenomenon is as frequent in good sentences as in bad ones; only how words agree or stand
differs. What is new in evaluation rows: the pair of content words that has to agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mtl.tasks.microworld.draw import Row, home, other
from mtl.tasks.microworld.entities import (
    ANIMALS,
    COLOURS,
    MASSES,
    MEN,
    MOMENTS,
    PEOPLE,
    PLACES,
    PROFESSIONS,
    QUALITIES,
    THINGS,
    WOMEN,
)
from mtl.tasks.microworld.events import ACTS, INTRANSITIVES, at
from mtl.tasks.microworld.grammar import plural, sentence, verb

TARGET = "label"
LABELS = ("unacceptable", "acceptable")

BEINGS = ANIMALS + PROFESSIONS
TRANSITIVES = tuple(spoken for verbs in ACTS.values() for spoken in verbs)
SELF_ACTS = tuple(verb(form) for form in ("hurt hurt", "wash", "see saw seen", "praise", "dress"))

Drawn = tuple[str, str, str] | None
"""A sentence and its two content words; None to draw again."""


def _number(chance: random.Random, noun: str, many: bool) -> str:
    return plural(noun) if many else noun


def _agreement(chance: random.Random, good: bool) -> Drawn:
    noun, act = chance.choice(BEINGS), chance.choice(INTRANSITIVES)
    many = chance.random() < 0.5
    form = act.base if many == good else act.third
    return (
        f"the {_number(chance, noun, many)} {form} {at(chance.choice(_PLACES))}",
        noun,
        act.base,
    )


def _attractor(chance: random.Random, good: bool) -> Drawn:
    noun, act = chance.choice(BEINGS), chance.choice(INTRANSITIVES)
    many = chance.random() < 0.5
    near = _number(chance, other(chance, BEINGS, noun), chance.random() < 0.5)
    link = chance.choice(("near", "behind", "beside", "with"))
    form = act.base if many == good else act.third
    return (
        f"the {_number(chance, noun, many)} {link} the {near} {form} {chance.choice(MOMENTS)}",
        noun,
        act.base,
    )


def _determiner(chance: random.Random, good: bool) -> Drawn:
    noun, act = chance.choice(THINGS), chance.choice(TRANSITIVES)
    many = chance.random() < 0.5
    close = chance.random() < 0.5
    word = ("these" if close else "those") if many == good else ("this" if close else "that")
    return (
        f"{chance.choice(PEOPLE)} {act.past} {word} {_number(chance, noun, many)}",
        noun,
        act.base,
    )


def _reflexive(chance: random.Random, good: bool) -> Drawn:
    name, act = chance.choice(PEOPLE), chance.choice(SELF_ACTS)
    woman = name in WOMEN
    word = "herself" if woman == good else "himself"
    if chance.random() < 0.5:
        return f"{name} {act.past} {word} {at(chance.choice(_PLACES))}", name, act.base
    # The nearer name decides, whoever reports it.
    teller = chance.choice(WOMEN + MEN)
    if teller == name:
        return None
    report = chance.choice(("says", "thinks", "believes"))
    return f"{teller} {report} that {name} {act.past} {word}", name, act.base


def _auxiliary(chance: random.Random, good: bool) -> Drawn:
    name, act = chance.choice(PEOPLE), chance.choice(TRANSITIVES)
    if act.base == act.participle:
        return None
    perfect = chance.random() < 0.5
    form = act.participle if perfect == good else act.base
    helper = chance.choice(("has", "has never")) if perfect else chance.choice(("did not", "will"))
    return f"{name} {helper} {form} the {chance.choice(THINGS)}", name, act.base


def _transitivity(chance: random.Random, good: bool) -> Drawn:
    name = chance.choice(PEOPLE)
    transitive = chance.random() < 0.5
    act = chance.choice(TRANSITIVES if transitive else INTRANSITIVES)
    said = f" the {chance.choice(THINGS)}" if transitive == good else ""
    return f"{name} {act.past}{said} {chance.choice(MOMENTS)}", name, act.base


def _adjective(chance: random.Random, good: bool) -> Drawn:
    quality, noun = chance.choice(COLOURS + QUALITIES), chance.choice(THINGS)
    phrase = f"{quality} {noun}" if good else f"{noun} {quality}"
    return (
        f"{chance.choice(PEOPLE)} {chance.choice(TRANSITIVES).past} the {phrase}",
        quality,
        noun,
    )


def _question(chance: random.Random, good: bool) -> Drawn:
    name, act = chance.choice(PEOPLE), chance.choice(TRANSITIVES)
    what = chance.choice(("what", "which box", "how many things"))
    order = f"did {name}" if good else f"{name} did"
    return f"{what} {order} {act.base} {chance.choice(MOMENTS)}", name, act.base


def _quantity(chance: random.Random, good: bool) -> Drawn:
    name = chance.choice(PEOPLE)
    mass = chance.random() < 0.5
    noun = chance.choice(MASSES if mass else THINGS)
    word = "much" if mass == good else "many"
    phrase = noun if mass else plural(noun)
    return f"{name} did not have {word} {phrase} {at(chance.choice(_PLACES))}", name, noun


PHENOMENA: dict[str, Callable[[random.Random, bool], Drawn]] = {
    "agreement": _agreement,
    "attractor": _attractor,
    "determiner": _determiner,
    "reflexive": _reflexive,
    "auxiliary": _auxiliary,
    "transitivity": _transitivity,
    "adjective": _adjective,
    "question": _question,
    "quantity": _quantity,
}


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """One sentence; ``turn`` decides phenomenon and label, so that both are balanced."""
    label = turn % 2
    name = tuple(PHENOMENA)[turn // 2 % len(PHENOMENA)]
    while True:
        drawn = PHENOMENA[name](chance, bool(label))
        if drawn is None:
            continue
        text, first, second = drawn
        if home(seed, "acceptability", first, second) == split:
            end = "?" if name == "question" else "."
            return [{"sentence": sentence(text, end), "label": label, "phenomenon": name}]


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    return f"{row['sentence']} This sentence is", (" wrong", " right")[row["label"]]


_PLACES = tuple(PLACES)
