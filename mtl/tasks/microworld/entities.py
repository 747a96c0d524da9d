"""The people, things, animals and places of the microworld, and the lasting facts about them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mtl.tasks.microworld.draw import stream, words

WOMEN = words(
    "Anna Clara Edith Emma Flora Greta Hana Ida Ivy Joan Kira Lena Lucy Mira Nora Olga Rosa Ruth Sara Tess "
    "Ursula Vera Wilma Zoe"
)
MEN = words(
    "Adam Boris Carl Dan Eric Felix Hugo Ivan Jonas Karim Leon Luke Milo Noah Oscar Otto Paul Peter Ravi Sam "
    "Tom Viktor Walter Yusuf"
)
PEOPLE = WOMEN + MEN

PROFESSIONS = words(
    "baker farmer doctor teacher sailor tailor painter judge miller nurse poet singer soldier weaver potter "
    "hunter gardener cook"
)
TOWNS = words(
    "Oslen Marbrook Tirna Velmoor Harwick Dunfell Lornby Quillen Sandrey Wexby Ashmere Brimley"
)

CATEGORIES: dict[str, tuple[str, ...]] = {
    "fruit": ("apple", "pear", "plum", "lemon", "peach", "cherry"),
    "tool": ("hammer", "saw", "shovel", "axe", "rake", "drill"),
    "instrument": ("drum", "flute", "violin", "harp", "trumpet", "guitar"),
    "garment": ("coat", "hat", "scarf", "shirt", "glove", "belt"),
    "vessel": ("cup", "bowl", "jug", "pot", "kettle", "barrel"),
    "seat": ("chair", "bench", "stool", "sofa", "throne", "saddle"),
    "toy": ("doll", "kite", "ball", "puppet", "rattle", "whistle"),
    "jewel": ("ring", "necklace", "bracelet", "crown", "brooch", "pearl"),
}
"""Kinds of things, each with its members: every member is also one of its kind."""
CATEGORY = {thing: category for category, things in CATEGORIES.items() for thing in things}
THINGS = tuple(CATEGORY)

CONTAINERS = words("box bag basket chest drawer cart cupboard suitcase crate trunk")
ANIMALS = words("cat dog goat horse cow hen duck mouse fox wolf bear rabbit donkey owl pig lion")
MASSES = words("bread water milk flour sand honey rice butter salt smoke")
COLOURS = words("red blue green yellow white black brown grey")
QUALITIES = words("old new heavy light small large wooden clean")

PLACES: dict[str, str] = {
    "market": "at",
    "harbour": "at",
    "library": "in",
    "garden": "in",
    "school": "at",
    "station": "at",
    "kitchen": "in",
    "forest": "in",
    "river": "by",
    "mill": "at",
    "inn": "at",
    "square": "in",
    "lake": "by",
    "bridge": "on",
    "castle": "in",
    "museum": "in",
}
"""Places and the preposition that goes with them."""
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MOMENTS = (
    *(f"on {day}" for day in DAYS),
    "in the morning",
    "in the evening",
    "at noon",
    "at night",
    "in spring",
    "in summer",
    "in autumn",
    "in winter",
)
NUMBERS = words("zero one two three four five six seven eight nine ten eleven twelve")


def pronoun(name: str) -> str:
    """``she`` or ``he``."""
    return "she" if name in WOMEN else "he"


def reflexive(name: str) -> str:
    """``herself`` or ``himself``."""
    return "herself" if name in WOMEN else "himself"


@dataclass(frozen=True, slots=True)
class Person:
    """What stays true of one inhabitant."""

    name: str
    profession: str
    town: str
    age: int
    """Years, 18 to 80."""
    pet: str
    likes: str
    """A kind of thing (a key of ``CATEGORIES``)."""
    friend: str


@dataclass(frozen=True, slots=True)
class World:
    """All lasting facts; two worlds of the same seed are equal."""

    seed: int
    people: dict[str, Person]
    sizes: dict[str, int]
    """Size of things, containers and animals, 1 (smallest) to 9."""


@lru_cache(maxsize=4)
def world(seed: int) -> World:
    """The world of ``seed``."""
    chance = stream("microworld", seed, "facts")
    people = {}
    for position, name in enumerate(PEOPLE):
        friend = PEOPLE[(position + chance.randrange(1, len(PEOPLE))) % len(PEOPLE)]
        people[name] = Person(
            name=name,
            profession=chance.choice(PROFESSIONS),
            town=chance.choice(TOWNS),
            age=chance.randrange(18, 81),
            pet=chance.choice(ANIMALS[:8]),
            likes=chance.choice(tuple(CATEGORIES)),
            friend=friend,
        )
    sizes = {name: chance.randrange(1, 10) for name in (*THINGS, *CONTAINERS, *ANIMALS)}
    return World(seed=seed, people=people, sizes=sizes)
