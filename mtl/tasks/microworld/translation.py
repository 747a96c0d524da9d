"""Translation from English into Velish, an invented language without exceptions.

- Order: subject, place, object, verb; the adjective follows its noun, the numeral follows both; no articles.
- A noun ends in ``o`` if it is alive, else in ``a``; plural ``-i``; as an object ``-n`` after that.
- An adjective agrees with its noun in life and number (``-o``, ``-a``, ``-oi``, ``-ai``).
- A verb ends in ``-ra`` (present), ``-ta`` (past) or ``-su`` (future), then ``-m`` where its subject is plural;
  ``ne`` before it denies it. A place ends in ``e``. Names stay, with ``-n`` as an object after a hyphen.

What is new in evaluation rows: the combination of subject, verb and object.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from mtl.tasks.microworld.draw import Row, home, stream
from mtl.tasks.microworld.entities import (
    ANIMALS,
    CATEGORY,
    COLOURS,
    NUMBERS,
    PEOPLE,
    PLACES,
    PROFESSIONS,
    QUALITIES,
    THINGS,
)
from mtl.tasks.microworld.events import DEEDS, VERBS, Event, at, event_home
from mtl.tasks.microworld.grammar import Verb, plural, sentence, verb

TARGET = "velish"

BEINGS = ANIMALS[:10] + PROFESSIONS[:10]
OBJECTS = THINGS[::2]
ADJECTIVES = COLOURS[:5] + QUALITIES[:5]
COUNTS = NUMBERS[2:6]
SITES = tuple(PLACES)[:10]
TRANSITIVES = tuple(
    verb(written)
    for written in (
        "buy bought", "find found", "clean", "carry", "draw drew drawn", "help", "follow", "visit",
        "want", "watch", "hold held", "like",
    )
)  # fmt: skip
INTRANSITIVES = tuple(verb(written) for written in ("sleep slept", "sing sang", "wait", "dance"))
TENSES = {"present": "ra", "past": "ta", "future": "su"}


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase: a name, or a noun with what goes with it."""

    noun: str
    adjective: str = ""
    count: str = ""
    """A number word; empty for one."""
    definite: bool = True

    @property
    def many(self) -> bool:
        """Whether it is plural."""
        return bool(self.count)

    @property
    def named(self) -> bool:
        """Whether it is a person's name."""
        return self.noun in PEOPLE


@lru_cache(maxsize=4)
def dictionary(seed: int) -> dict[str, str]:
    """Velish stems of English words, all different, of one or two syllables, none the beginning of another."""
    chance = stream("microworld", seed, "velish")
    words = (
        *BEINGS,
        *OBJECTS,
        *ADJECTIVES,
        *COUNTS,
        *SITES,
        *(act.base for act in TRANSITIVES + INTRANSITIVES),
    )
    stems: dict[str, str] = {}
    for word in words:
        while True:
            syllables = [chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(2)]
            stem = "".join(syllables)[: chance.choice((2, 4))] + chance.choice("klmnrst")
            # No stem begins another one, so that words can always be told apart.
            if not any(stem.startswith(old) or old.startswith(stem) for old in stems.values()):
                break
        stems[word] = stem
    return stems


def _english_phrase(phrase: Phrase) -> str:
    if phrase.named:
        return phrase.noun
    noun = plural(phrase.noun) if phrase.many else phrase.noun
    words = " ".join(word for word in (phrase.count, phrase.adjective, noun) if word)
    if phrase.definite:
        return f"the {words}"
    return words if phrase.many else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _velish_phrase(phrase: Phrase, stems: dict[str, str], *, is_object: bool) -> str:
    case = "n" if is_object else ""
    if phrase.named:
        return f"{phrase.noun}-n" if is_object else phrase.noun
    ending = ("o" if phrase.noun in BEINGS else "a") + ("i" if phrase.many else "")
    words = [stems[phrase.noun] + ending + case]
    if phrase.adjective:
        words.append(stems[phrase.adjective] + ending)
    if phrase.count:
        words.append(stems[phrase.count])
    return " ".join(words)


def _english_verb(act: Verb, tense: str, many: bool, denied: bool) -> str:
    if tense == "future":
        return f"will not {act.base}" if denied else f"will {act.base}"
    if denied:
        helper = "did" if tense == "past" else "do" if many else "does"
        return f"{helper} not {act.base}"
    if tense == "past":
        return act.past
    return act.base if many else act.third


def _phrase(chance: random.Random, nouns: tuple[str, ...], *, names: float) -> Phrase:
    if chance.random() < names:
        return Phrase(chance.choice(PEOPLE))
    return Phrase(
        noun=chance.choice(nouns),
        adjective=chance.choice(ADJECTIVES) if chance.random() < 0.45 else "",
        count=chance.choice(COUNTS) if chance.random() < 0.3 else "",
        definite=chance.random() < 0.6,
    )


def _told_in(seed: int, subject: Phrase, act: Verb, thing: Phrase) -> str | None:
    """The split whose text may tell of this as an event; None where no text ever does."""
    if not subject.named or act.base not in VERBS or thing.named != (act.base in DEEDS):
        return None
    if not thing.named and thing.noun not in CATEGORY:
        return None
    return event_home(seed, Event(subject.noun, act.base, thing.noun, "", ""))


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """One sentence and its translation."""
    stems = dictionary(seed)
    while True:
        subject = _phrase(chance, BEINGS, names=0.35)
        if chance.random() < 0.2:
            act, thing = chance.choice(INTRANSITIVES), None
        else:
            act = chance.choice(TRANSITIVES)
            alive = chance.random() < 0.35
            thing = _phrase(chance, BEINGS if alive else OBJECTS, names=0.15 if alive else 0.0)
        other = thing.noun if thing else ""
        if subject.noun == other or home(seed, "velish", subject.noun, act.base, other) != split:
            continue
        if thing is None or _told_in(seed, subject, act, thing) in (split, None):
            break
    tense = chance.choice(tuple(TENSES))
    denied = chance.random() < 0.2
    place = chance.choice(SITES) if chance.random() < 0.35 else ""

    english = [_english_phrase(subject), _english_verb(act, tense, subject.many, denied)]
    velish = [_velish_phrase(subject, stems, is_object=False)]
    if place:
        velish.append(f"{stems[place]}e")
    if thing:
        english.append(_english_phrase(thing))
        velish.append(_velish_phrase(thing, stems, is_object=True))
    if place:
        english.append(at(place))
    if denied:
        velish.append("ne")
    velish.append(stems[act.base] + TENSES[tense] + ("m" if subject.many else ""))
    return [{"english": sentence(" ".join(english)), "velish": " ".join(velish)}]


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    return f"{row['english']} In Velish:", f" {row['velish']}"
