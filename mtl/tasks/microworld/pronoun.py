"""Pronoun resolution: which of two does the pronoun mean? Each sentence has a twin with the other answer.

A twin differs in the reason alone (too big / too small), and the order of the two candidates is chance, so
that only the relation between situation, reason and role decides. What is new in evaluation rows: the pair
of candidates in its situation; twins always share a split.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mtl.tasks.microworld.draw import Row, home
from mtl.tasks.microworld.entities import (
    ANIMALS,
    CONTAINERS,
    DAYS,
    MEN,
    PLACES,
    THINGS,
    WOMEN,
    pronoun,
)
from mtl.tasks.microworld.events import at
from mtl.tasks.microworld.grammar import sentence

TARGET = "label"


@dataclass(frozen=True, slots=True)
class Schema:
    """A situation with two roles, and reasons that speak of the one or the other."""

    first: tuple[str, ...]
    """Who or what can be ``{a}``; empty for people."""
    second: tuple[str, ...]
    """Who or what can be ``{b}``."""
    wordings: tuple[str, ...]
    """Sentences up to ``because``; some name ``{b}`` before ``{a}``."""
    reasons: tuple[tuple[str, ...], tuple[str, ...]]
    """What follows the pronoun when it means ``{a}``, and when it means ``{b}``."""


SCHEMAS: dict[str, Schema] = {
    "fit": Schema(
        THINGS,
        CONTAINERS,
        ("{a} does not fit into {b}", "into {b} nobody could put {a}", "{b} could not hold {a}"),
        (("is too big", "is too large", "is too wide"), ("is too small", "is too narrow")),
    ),
    "went_in": Schema(
        THINGS,
        CONTAINERS,
        ("{a} went into {b} easily", "{b} had room enough for {a}"),
        (("is quite small", "is quite narrow"), ("is quite big", "is quite large")),
    ),
    "crush": Schema(
        THINGS,
        CONTAINERS,
        ("{a} fell through {b}", "{b} broke under {a}"),
        (("was too heavy", "was made of iron"), ("was too weak", "was made of paper")),
    ),
    "chase": Schema(
        ANIMALS,
        ANIMALS,
        ("{a} chased {b}", "{b} was chased by {a}"),
        (("was hungry", "wanted to eat"), ("looked tasty", "had stolen its food")),
    ),
    "escape": Schema(
        ANIMALS,
        ANIMALS,
        ("{a} could not catch {b}", "{b} got away from {a}"),
        (("was too slow", "had a bad leg"), ("was too quick", "had strong legs")),
    ),
    "lift": Schema(
        (),
        (),
        ("{a} could not lift {b}", "{b} could not be lifted by {a}"),
        (("was too weak", "was very tired"), ("was too heavy", "had eaten too much")),
    ),
    "stage": Schema(
        (),
        (),
        ("{a} could not see past {b}", "{b} stood in the way of {a}"),
        (("is too short", "is not tall"), ("is too tall", "is so large")),
    ),
    "lend": Schema(
        (),
        (),
        ("{a} lent money to {b}", "{b} got money from {a}"),
        (("was rich", "had plenty"), ("was poor", "had nothing")),
    ),
    "thank": Schema(
        (),
        (),
        ("{a} thanked {b}", "{b} got a letter of thanks from {a}"),
        (
            ("had been helped", "had received a present"),
            ("had given help", "had brought a present"),
        ),
    ),
    "pay": Schema(
        (),
        (),
        ("{a} paid {b}", "{b} was paid by {a}"),
        (("had bought a horse", "owed money"), ("had sold a horse", "asked for money")),
    ),
    "comfort": Schema(
        (),
        (),
        ("{a} comforted {b}", "{b} was comforted by {a}"),
        (("is a kind person", "cannot bear tears"), ("was sad", "was in tears")),
    ),
    "ask": Schema(
        (),
        (),
        ("{a} asked {b} for the way", "{b} showed {a} the way"),
        (("was lost", "was a stranger"), ("knew the town", "had a map")),
    ),
    "teach": Schema(
        (),
        (),
        ("{a} gave lessons to {b}", "{b} took lessons from {a}"),
        (("is an expert", "knows everything"), ("is a beginner", "knows nothing")),
    ),
    "envy": Schema(
        (),
        (),
        ("{a} envied {b}", "{b} was envied by {a}"),
        (("had lost the game", "never won"), ("had won the game", "never lost")),
    ),
    "hire": Schema(
        (),
        (),
        ("{a} hired {b}", "{b} went to work for {a}"),
        (("needed a helper", "had too much work"), ("needed a job", "had no work")),
    ),
    "wake": Schema(
        (),
        (),
        ("{a} was woken by {b}", "{b} woke {a}"),
        (("slept too long", "had not got up"), ("made a noise", "was singing loudly")),
    ),
}


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """A sentence and its twin, with labels 0 and 1 in chance order."""
    name = chance.choice(_NAMES)
    schema = SCHEMAS[name]
    while True:
        if schema.first:
            a, b = chance.choice(schema.first), chance.choice(schema.second)
            spoken, word = (f"the {a}", f"the {b}"), "it"
        else:
            a, b = chance.sample(chance.choice((WOMEN, MEN)), 2)
            spoken, word = (a, b), pronoun(a)
        if a != b and home(seed, "pronoun", name, *sorted((a, b))) == split:
            break
    # The first wording is the plain one; the inverted ones are the hard part.
    chosen = schema.wordings[0] if chance.random() < 0.4 else chance.choice(schema.wordings)
    wording = chosen.format(a=spoken[0], b=spoken[1])
    setting = chance.choice(
        ("", "", f"on {chance.choice(DAYS)} ", f"{at(chance.choice(_PLACES))} ")
    )
    position = chance.randrange(2)
    options = (spoken[position], spoken[1 - position])
    rows = []
    for role in (0, 1):
        reason = chance.choice(schema.reasons[role])
        rows.append(
            {
                "sentence": sentence(f"{setting}{wording} because {word} {reason}"),
                "pronoun": word,
                "option1": options[0],
                "option2": options[1],
                "label": options.index(spoken[role]),
                "schema": name,
            }
        )
    return rows


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    prompt = f"{row['sentence']} Here the word {row['pronoun']} means"
    return prompt, f" {(row['option1'], row['option2'])[row['label']]}"


_NAMES = tuple(SCHEMAS)
_PLACES = tuple(PLACES)
