"""Summarisation: who did the main thing, and in which town.

The main event is the one whose thing is spoken of again at the end; the town stands in the opening, the
day and everything else is left out, and the person is named even where the event says only ``she``. What is
new in evaluation rows: the main event.
"""

from __future__ import annotations

import random

from mtl.tasks.microworld.draw import Row
from mtl.tasks.microworld.entities import COLOURS, MOMENTS, PEOPLE, QUALITIES, TOWNS, pronoun, world
from mtl.tasks.microworld.events import ACTS, Event, an_event, at
from mtl.tasks.microworld.grammar import sentence

TARGET = "summary"

WEATHERS = ("cold", "warm", "windy", "rainy", "bright", "quiet", "foggy", "busy")
IDLE = (
    "{name} slept all day",
    "{name} fed the {pet}",
    "{name} stayed at home",
    "{name} worked as always",
    "{name} waited for the rain to end",
    "{name} sang to the {pet}",
)
TALK = (
    "the whole town talked about the {thing}",
    "nobody could forget the {thing}",
    "later everyone asked about the {thing}",
    "the {thing} was in the newspaper",
)


def _opening(chance: random.Random, town: str) -> str:
    if chance.random() < 0.5:
        moment = chance.choice(("morning", "evening", "day", "night"))
        return f"it was a {chance.choice(WEATHERS)} {moment} in {town}"
    return f"{chance.choice(MOMENTS)} it was {chance.choice(WEATHERS)} in {town}"


def _happening(chance: random.Random, seed: int, event: Event, *, introduced: bool) -> list[str]:
    """The event in one sentence, or in two with a pronoun in the second."""
    spoken = chance.choice(ACTS[event.act]).past
    quality = chance.choice(COLOURS + QUALITIES) + " " if chance.random() < 0.6 else ""
    noun = f"the {quality}{event.thing}"
    place = f" {at(event.place)}" if chance.random() < 0.5 else ""
    if not introduced:
        return [sentence(f"{event.agent} {spoken} {noun}{place}")]
    profession = world(seed).people[event.agent].profession
    return [
        sentence(f"{event.agent} the {profession} was {at(event.place)}"),
        sentence(f"there {pronoun(event.agent)} {spoken} {noun}"),
    ]


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """One passage of three to six sentences, and its summary."""
    main = an_event(chance, seed, split)
    town = chance.choice(TOWNS)
    parts = [_happening(chance, seed, main, introduced=chance.random() < 0.4)]
    if chance.random() < 0.5:
        # A second event of the same form, of which nobody speaks afterwards.
        while True:
            aside = an_event(chance, seed, split)
            if aside.agent != main.agent and aside.thing != main.thing:
                break
        parts.append(_happening(chance, seed, aside, introduced=chance.random() < 0.2))
    elif chance.random() < 0.7:
        name = chance.choice([person for person in PEOPLE if person != main.agent])
        idle = chance.choice(IDLE).format(name=name, pet=world(seed).people[name].pet)
        parts.append([sentence(idle)])
    chance.shuffle(parts)
    passage = [
        sentence(_opening(chance, town)),
        *(told for part in parts for told in part),
        sentence(chance.choice(TALK).format(thing=main.thing)),
    ]
    act = ACTS[main.act][0].past
    summary = f"{main.agent} {act} the {main.thing} in {town}."
    return [{"text": " ".join(passage), "summary": summary}]


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    return f"{row['text']} In short:", f" {row['summary']}"
