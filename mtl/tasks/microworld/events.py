"""Events: who did what to what, where and when; and the many ways to say so.

An event belongs to one split by its agent, its act and the *kind* of thing (or the two people, in either
role). All tasks and the running text share this assignment: that Anna bought some fruit is either
something that training text may speak of, or something that only evaluation rows say, in any words.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from mtl.tasks.microworld.draw import home
from mtl.tasks.microworld.entities import CATEGORY, MOMENTS, PEOPLE, PLACES, THINGS
from mtl.tasks.microworld.grammar import Verb, sentence, verb

ACTS: dict[str, tuple[Verb, ...]] = {
    "buy": (verb("buy bought"), verb("purchase")),
    "sell": (verb("sell sold"), verb("trade")),
    "find": (verb("find found"), verb("discover")),
    "lose": (verb("lose lost"), verb("misplace")),
    "repair": (verb("repair"), verb("mend")),
    "break": (verb("break broke broken"), verb("smash")),
    "clean": (verb("clean"), verb("wash")),
    "hide": (verb("hide hid hidden"), verb("conceal")),
    "steal": (verb("steal stole stolen"), verb("snatch")),
    "carry": (verb("carry"), verb("haul")),
    "draw": (verb("draw drew drawn"), verb("sketch")),
    "choose": (verb("choose chose chosen"), verb("select")),
    "throw": (verb("throw threw thrown"), verb("toss")),
    "admire": (verb("admire"), verb("praise")),
}
"""What people do to things: each act and the verbs that mean it."""
DEEDS: dict[str, tuple[Verb, ...]] = {
    "help": (verb("help"), verb("assist")),
    "greet": (verb("greet"), verb("welcome")),
    "meet": (verb("meet met"), verb("encounter")),
    "follow": (verb("follow"), verb("trail")),
    "teach": (verb("teach taught"), verb("instruct")),
    "call": (verb("call"), verb("phone")),
    "scold": (verb("scold"), verb("rebuke")),
    "trick": (verb("trick"), verb("deceive")),
}
"""What people do to people."""
VERBS = ACTS | DEEDS
INTRANSITIVES = tuple(
    verb(written)
    for written in (
        "sleep slept", "laugh", "sing sang sung", "dance", "swim swam swum", "wait", "cough", "smile",
        "travel", "work", "rest", "run ran run", "jump", "sneeze", "shout", "fall fell fallen",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``thing`` is a thing, or a person where the act is a deed."""

    agent: str
    act: str
    thing: str
    place: str
    moment: str

    @property
    def personal(self) -> bool:
        """Whether it was done to a person."""
        return self.act in DEEDS


def event_home(seed: int, event: Event) -> str:
    """The split the event belongs to."""
    if event.personal:
        first, second = sorted((event.agent, event.thing))
        return home(seed, "event", first, event.act, second)
    return home(seed, "event", event.agent, event.act, CATEGORY[event.thing])


def draw_event(
    chance: random.Random, seed: int, split: str, *, personal: bool = False, **fixed: str
) -> Event | None:
    """A chance event of ``split`` with the fields ``fixed``, or None where sixty tries found none."""
    for _ in range(60):
        event = Event(
            agent=fixed.get("agent") or chance.choice(PEOPLE),
            act=fixed.get("act") or chance.choice(_DEED_NAMES if personal else _ACT_NAMES),
            thing=fixed.get("thing") or chance.choice(PEOPLE if personal else THINGS),
            place=fixed.get("place") or chance.choice(_PLACE_NAMES),
            moment=fixed.get("moment") or chance.choice(MOMENTS),
        )
        if event.agent != event.thing and event_home(seed, event) == split:
            return event
    return None


def an_event(
    chance: random.Random, seed: int, split: str, *, personal: bool = False, **fixed: str
) -> Event:
    """As :func:`draw_event`, but never gives up on the fields it was free to choose."""
    while True:
        if (event := draw_event(chance, seed, split, personal=personal, **fixed)) is not None:
            return event


def the(event: Event) -> str:
    """The thing with its article, or the person."""
    return event.thing if event.personal else f"the {event.thing}"


def at(place: str) -> str:
    """The place with its preposition and article."""
    return f"{PLACES[place]} the {place}"


def tell(
    event: Event,
    chance: random.Random,
    *,
    place: bool = True,
    moment: bool = False,
    vary: bool = True,
    thing: str | None = None,
) -> str:
    """The event as a sentence, in one of its wordings.

    :param place: Say where.
    :param moment: Say when.
    :param vary: Allow the passive, the synonym and fronted adverbials.
    :param thing: The noun phrase for what it was done to; by default the thing with ``the``.
    """
    verbs = VERBS[event.act]
    spoken = chance.choice(verbs) if vary else verbs[0]
    noun = thing or the(event)
    passive = vary and chance.random() < 0.3
    core = (
        f"{noun} was {spoken.participle} by {event.agent}"
        if passive
        else f"{event.agent} {spoken.past} {noun}"
    )
    adverbials = [at(event.place)] if place else []
    if moment:
        adverbials.append(event.moment)
    if adverbials and vary and chance.random() < 0.3:
        front = adverbials.pop(chance.randrange(len(adverbials)))
        core = f"{front} {core}"
    return sentence(" ".join([core, *adverbials]))


def replaced(event: Event, **fields: str) -> Event:
    """The event with some fields changed."""
    return replace(event, **fields)


_ACT_NAMES = tuple(ACTS)
_DEED_NAMES = tuple(DEEDS)
_PLACE_NAMES = tuple(PLACES)
