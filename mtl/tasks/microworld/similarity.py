"""Similarity: how alike in meaning are two sentences, from 0 to 5?

The score counts what the two events share: the act (1.5), what it was done to (1.5, or 0.75 for another
thing of the same kind), who did it (1) and where (1). Wording does not count: in half of the pairs
synonyms, the passive and another order stand in the way of comparing word by word, and change nothing, while
exchanging who did it and to whom it was done changes two of the four. What is new in evaluation rows: the events.
"""

from __future__ import annotations

import random
from itertools import product

from mtl.tasks.microworld.draw import Row, other
from mtl.tasks.microworld.entities import CATEGORIES, CATEGORY, PEOPLE, PLACES, THINGS
from mtl.tasks.microworld.events import (
    ACTS,
    DEEDS,
    Event,
    an_event,
    event_home,
    replaced,
    tell,
)

TARGET = "score"
VARIED = 0.5
"""Share of pairs in which both sentences may take the passive, a synonym or another order; the rest are plain."""
RANGE = (0.0, 5.0)

ACT, THING, KIND, AGENT, PLACE = 1.5, 1.5, 0.75, 1.0, 1.0

_Pattern = tuple[bool, bool, str, bool]
"""Whether act and agent are the same; ``same``, ``kind`` or ``other`` for the thing; same place."""


def _score(pattern: _Pattern) -> float:
    act, agent, thing, place = pattern
    return ACT * act + AGENT * agent + {"same": THING, "kind": KIND, "other": 0.0}[thing] + place


def _patterns() -> tuple[tuple[_Pattern, ...], ...]:
    """Patterns by their rounded score, 0 to 5, so that scores can be drawn evenly."""
    levels: list[list[_Pattern]] = [[] for _ in range(6)]
    for pattern in product((True, False), (True, False), ("same", "kind", "other"), (True, False)):
        levels[int(_score(pattern) + 0.5)].append(pattern)
    return tuple(tuple(level) for level in levels)


LEVELS = _patterns()
_PLACES = tuple(PLACES)


def _partner(chance: random.Random, event: Event, pattern: _Pattern) -> Event | None:
    """An event that shares with ``event`` what the pattern says."""
    act, agent, thing, place = pattern
    fields = {}
    if not act:
        fields["act"] = other(chance, tuple(DEEDS if event.personal else ACTS), event.act)
    if not agent:
        fields["agent"] = other(chance, PEOPLE, event.agent, event.thing)
    if not place:
        fields["place"] = other(chance, _PLACES, event.place)
    if thing == "kind":
        if event.personal:
            return None
        fields["thing"] = other(chance, CATEGORIES[CATEGORY[event.thing]], event.thing)
    if thing == "other":
        fields["thing"] = other(
            chance, PEOPLE if event.personal else THINGS, event.thing, event.agent
        )
        if not event.personal and CATEGORY[fields["thing"]] == CATEGORY[event.thing]:
            return None
    if event.personal and not agent and thing == "other" and chance.random() < 0.6:
        fields |= {"agent": event.thing, "thing": event.agent}
    return replaced(event, **fields)


def score(first: Event, second: Event) -> float:
    """The likeness of two events, by the rule of this module."""
    if first.thing == second.thing:
        thing = "same"
    elif first.thing in CATEGORY and CATEGORY[first.thing] == CATEGORY.get(second.thing):
        thing = "kind"
    else:
        thing = "other"
    return _score(
        (
            first.act == second.act,
            first.agent == second.agent,
            thing,
            first.place == second.place,
        )
    )


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """One pair; ``turn`` decides the level of the score, so that all levels are as frequent."""
    level = LEVELS[turn % 6]
    while True:
        event = an_event(chance, seed, split, personal=chance.random() < 0.4)
        partner = _partner(chance, event, chance.choice(level))
        if partner is None or event_home(seed, partner) != split:
            continue
        varied = chance.random() < VARIED
        sentences = [tell(told, chance, vary=varied) for told in (event, partner)]
        if sentences[0] != sentences[1]:
            return [
                {
                    "sentence1": sentences[0],
                    "sentence2": sentences[1],
                    "score": score(event, partner),
                }
            ]


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    prompt = f"{row['sentence1']} {row['sentence2']} From 0 to 5, these are alike:"
    return prompt, f" {row['score']:.2f}"
