"""Question answering: a short passage, a question, and a short answer found in it or inferred from it.

Look-ups among distractors, synonyms and the passive, the last of several moves, a thing inside something
that was carried away, the oldest of three, a sum. What is new in evaluation rows: the fact asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mtl.tasks.microworld.draw import Row, home
from mtl.tasks.microworld.entities import (
    CATEGORIES,
    CATEGORY,
    CONTAINERS,
    DAYS,
    NUMBERS,
    PEOPLE,
    PLACES,
    THINGS,
)
from mtl.tasks.microworld.events import ACTS, Event, an_event, tell
from mtl.tasks.microworld.grammar import article, plural, sentence

TARGET = "answer"

MOVES = ("went to", "walked to", "travelled to")

Asked = tuple[list[str], str, str] | None
"""Sentences of the passage in order, question, answer; None to draw again."""


def _events(chance: random.Random, seed: int, split: str, count: int) -> list[Event]:
    """Events with different agents, things and places, so that each question has one answer."""
    events: list[Event] = []
    while len(events) < count:
        event = an_event(chance, seed, split)
        if all(
            event.agent != told.agent and event.thing != told.thing and event.place != told.place
            for told in events
        ):
            events.append(event)
    return events


def _people(chance: random.Random, count: int) -> list[str]:
    return chance.sample(PEOPLE, count)


def _who(chance: random.Random, seed: int, split: str) -> Asked:
    events = _events(chance, seed, split, chance.choice((1, 2, 2, 3)))
    asked = chance.choice(events)
    spoken = chance.choice(ACTS[asked.act]).past
    passage = [tell(event, chance, place=chance.random() < 0.4) for event in events]
    return passage, f"Who {spoken} the {asked.thing}?", asked.agent


def _what(chance: random.Random, seed: int, split: str) -> Asked:
    events = _events(chance, seed, split, chance.choice((1, 2, 2, 3)))
    asked = chance.choice(events)
    spoken = chance.choice(ACTS[asked.act]).base
    passage = [tell(event, chance, place=chance.random() < 0.4) for event in events]
    return passage, f"What did {asked.agent} {spoken}?", f"the {asked.thing}"


def _where(chance: random.Random, seed: int, split: str) -> Asked:
    events = _events(chance, seed, split, chance.choice((1, 2, 2)))
    asked = chance.choice(events)
    spoken = chance.choice(ACTS[asked.act]).base
    passage = [tell(event, chance) for event in events]
    return passage, f"Where did {asked.agent} {spoken} the {asked.thing}?", f"the {asked.place}"


def _when(chance: random.Random, seed: int, split: str) -> Asked:
    days = chance.sample(DAYS, 2)
    events = [
        Event(event.agent, event.act, event.thing, event.place, f"on {day}")
        for event, day in zip(
            _events(chance, seed, split, chance.choice((1, 2))), days, strict=False
        )
    ]
    asked = chance.choice(events)
    spoken = chance.choice(ACTS[asked.act]).base
    passage = [tell(event, chance, place=False, moment=True) for event in events]
    question = f"On which day did {asked.agent} {spoken} the {asked.thing}?"
    return passage, question, asked.moment.removeprefix("on ")


def _moved(chance: random.Random, seed: int, split: str) -> Asked:
    """Where someone is now: the last of the places they went to."""
    mover, bystander = _people(chance, 2)
    first, last, elsewhere = chance.sample(_PLACES, 3)
    if home(seed, "move", mover, last) != split:
        return None
    passage = [
        f"{mover} {chance.choice(MOVES)} the {first}.",
        f"{bystander} {chance.choice(MOVES)} the {elsewhere}.",
    ]
    chance.shuffle(passage)
    later = f"{chance.choice(('Then', 'Later'))} {mover} {chance.choice(MOVES)} the {last}."
    return [*passage, later], f"Where is {mover} now?", f"the {last}"


def _contained(chance: random.Random, seed: int, split: str) -> Asked:
    """Where a thing is: it was put into something that was then carried away."""
    first, second = _people(chance, 2)
    thing, decoy = chance.sample(THINGS, 2)
    box, bag = chance.sample(CONTAINERS, 2)
    place, elsewhere = chance.sample(_PLACES, 2)
    if home(seed, "contain", thing, place) != split:
        return None
    put = [f"{first} put the {thing} in the {box}.", f"{second} put the {decoy} in the {bag}."]
    took = [
        f"{first} took the {box} to the {place}.",
        f"{second} took the {bag} to the {elsewhere}.",
    ]
    chance.shuffle(put)
    chance.shuffle(took)
    return [*put, *took], f"Where is the {thing} now?", f"the {place}"


def _ranked(chance: random.Random, seed: int, split: str) -> Asked:
    """Who is the oldest, or the youngest, of three."""
    old, middle, young = _people(chance, 3)
    if home(seed, "rank", *sorted((old, young))) != split:
        return None
    passage = []
    for elder, junior in ((old, middle), (middle, young)):
        if chance.random() < 0.5:
            passage.append(f"{elder} is older than {junior}.")
        else:
            passage.append(f"{junior} is younger than {elder}.")
    chance.shuffle(passage)
    oldest = chance.random() < 0.5
    return (
        passage,
        f"Who is the {'oldest' if oldest else 'youngest'}?",
        old if oldest else young,
    )


def _sum(chance: random.Random, seed: int, split: str) -> Asked:
    """How many things of a kind someone got, in two lots."""
    event = an_event(chance, seed, split, act="buy")
    kind = CATEGORY[event.thing]
    first, second = chance.sample(CATEGORIES[kind], 2)
    one, two = chance.randrange(1, 6), chance.randrange(1, 6)
    lots = [
        article(thing) if number == 1 else f"{NUMBERS[number]} {plural(thing)}"
        for number, thing in ((one, first), (two, second))
    ]
    other = an_event(chance, seed, split)
    if other.agent == event.agent:
        return None
    passage = [f"{event.agent} bought {lots[0]} and {lots[1]}.", tell(other, chance, place=False)]
    chance.shuffle(passage)
    return passage, f"How many {plural(kind)} did {event.agent} buy?", NUMBERS[one + two]


QUESTIONS: dict[str, tuple[Callable[[random.Random, int, str], Asked], int]] = {
    "who": (_who, 4),
    "what": (_what, 4),
    "where": (_where, 4),
    "when": (_when, 3),
    "moved": (_moved, 2),
    "contained": (_contained, 2),
    "ranked": (_ranked, 2),
    "sum": (_sum, 1),
}
"""Each kind of question and how often it is asked."""
_TURNS = tuple(name for name, (_, weight) in QUESTIONS.items() for _ in range(weight))


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """One passage with its question; ``turn`` decides the kind of question."""
    kind = _TURNS[turn % len(_TURNS)]
    while True:
        asked = QUESTIONS[kind][0](chance, seed, split)
        if asked is not None:
            break
    passage, question, answer = asked
    return [
        {
            "context": " ".join(passage),
            "question": sentence(question, ""),
            "answer": answer,
            "question_kind": kind,
        }
    ]


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    return f"{row['context']} Question: {row['question']} Answer:", f" {row['answer']}"


_PLACES = tuple(PLACES)
