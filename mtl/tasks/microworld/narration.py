"""Running text about the microworld without any task in it: lives, days, reviews, sizes, causes, words."""

from __future__ import annotations

import random
from collections.abc import Callable

from mtl.tasks.microworld import pronoun as pronoun_task
from mtl.tasks.microworld import sentiment, translation
from mtl.tasks.microworld.draw import home
from mtl.tasks.microworld.entities import (
    CATEGORIES,
    CATEGORY,
    CONTAINERS,
    MEN,
    PEOPLE,
    THINGS,
    TOWNS,
    WOMEN,
    pronoun,
    world,
)
from mtl.tasks.microworld.events import VERBS, an_event, tell
from mtl.tasks.microworld.grammar import article, plural, sentence


def _life(chance: random.Random, seed: int, split: str) -> str:
    """What is always true of one person, in chance order."""
    person = world(seed).people[chance.choice(PEOPLE)]
    they = pronoun(person.name).capitalize()
    their = "Her" if they == "She" else "His"
    facts = [
        f"{they} lives in {person.town}.",
        f"{they} is {person.age} years old.",
        f"{they} has {article(person.pet)}.",
        f"{they} likes {plural(person.likes)}.",
        f"{their} friend is {person.friend}.",
    ]
    chance.shuffle(facts)
    first = f"{person.name} is {article(person.profession)}."
    return " ".join([first, *facts[: chance.randrange(3, 6)]])


def _day(chance: random.Random, seed: int, split: str) -> str:
    """Events of one day in one town, some of them by the same person."""
    town = chance.choice(TOWNS)
    told = [
        f"It was a {chance.choice(('cold', 'warm', 'rainy', 'bright', 'quiet'))} day in {town}."
    ]
    agent = ""
    for _ in range(chance.randrange(3, 7)):
        event = an_event(chance, seed, split, personal=chance.random() < 0.3)
        if agent and chance.random() < 0.3:
            event = an_event(chance, seed, split, agent=agent)
        told.append(tell(event, chance, place=chance.random() < 0.6))
        agent = event.agent
        if not event.personal and chance.random() < 0.2:
            they = pronoun(agent).capitalize()
            told.append(f"{they} liked the {event.thing}, as {they.lower()} likes all good things.")
    return " ".join(told)


def _review(chance: random.Random, seed: int, split: str) -> str:
    """A letter whose end follows from its opinion."""
    told = [f"Dear {chance.choice(PEOPLE)}, yesterday we came to {chance.choice(TOWNS)}."]
    label = chance.randrange(2)
    for turn in range(chance.randrange(1, 4)):
        told += [row["sentence"] for row in sentiment.draw(chance, seed, split, label + 2 * turn)]
    told.append(
        chance.choice(("We shall come again.", "We stayed another week."))
        if label
        else chance.choice(("We shall never come again.", "We left the next day."))
    )
    return " ".join(told)


def _sizes(chance: random.Random, seed: int, split: str) -> str:
    """Comparisons that are true of this world."""
    sizes = world(seed).sizes
    told: list[str] = []
    while len(told) < 4:
        thing, container = chance.choice(THINGS), chance.choice(CONTAINERS)
        if sizes[thing] > sizes[container]:
            told.append(sentence(f"{article(thing)} is bigger than a {container}"))
            told.append(f"So the {thing} does not fit into the {container}.")
        elif sizes[thing] < sizes[container]:
            told.append(sentence(f"{article(thing)} is smaller than a {container}"))
            told.append(f"So the {thing} fits into the {container}.")
    return " ".join(told)


def _causes(chance: random.Random, seed: int, split: str) -> str:
    """Why things happened, with the noun said again instead of a pronoun."""
    told: list[str] = []
    while len(told) < 4:
        name = chance.choice(tuple(pronoun_task.SCHEMAS))
        schema = pronoun_task.SCHEMAS[name]
        if schema.first:
            a, b = chance.choice(schema.first), chance.choice(schema.second)
            spoken = (f"the {a}", f"the {b}")
        else:
            a, b = spoken = tuple(chance.sample(chance.choice((WOMEN, MEN)), 2))  # type: ignore[assignment]
        if a == b or home(seed, "pronoun", name, *sorted((a, b))) != split:
            continue
        role = chance.randrange(2)
        wording = chance.choice(schema.wordings).format(a=spoken[0], b=spoken[1])
        told.append(
            sentence(f"{wording} because {spoken[role]} {chance.choice(schema.reasons[role])}")
        )
    return " ".join(told)


def _kinds(chance: random.Random, seed: int, split: str) -> str:
    """Which thing is of which kind, and which verbs mean the same."""
    kind = chance.choice(tuple(CATEGORIES))
    first, second, third = chance.sample(CATEGORIES[kind], 3)
    stranger = chance.choice(THINGS)
    told = [
        sentence(f"{article(first)} is {article(kind)}"),
        sentence(f"{plural(second)} and {plural(third)} are {plural(kind)} too"),
    ]
    if CATEGORY[stranger] != kind:
        told.append(sentence(f"{article(stranger)} is not {article(kind)}"))
    one, two = chance.choice(tuple(VERBS.values()))
    told.append(f"To {two.base} something is to {one.base} it.")
    return " ".join(told)


def _words(chance: random.Random, seed: int, split: str) -> str:
    """Single words of the invented language; never a sentence with its translation."""
    stems = translation.dictionary(seed)
    things = chance.sample(translation.BEINGS + translation.OBJECTS, 4)
    told = [
        f"The Velish word for {noun} is {stems[noun]}{'o' if noun in translation.BEINGS else 'a'}."
        for noun in things
    ]
    told.insert(0, f"{chance.choice(PEOPLE)} is learning Velish.")
    return " ".join(told)


NARRATORS: tuple[tuple[Callable[[random.Random, int, str], str], float], ...] = (
    (_day, 0.36),
    (_life, 0.14),
    (_review, 0.14),
    (_causes, 0.14),
    (_sizes, 0.08),
    (_kinds, 0.08),
    (_words, 0.06),
)
"""Each kind of document and its share."""


def narrate(chance: random.Random, seed: int, split: str) -> str:
    """One document. Whatever events, opinions and causes it tells belong to ``split``."""
    narrators = [narrator for narrator, _ in NARRATORS]
    shares = [share for _, share in NARRATORS]
    return chance.choices(narrators, weights=shares)[0](chance, seed, split)
