"""Entailment: does the second sentence follow from the first, contradict it, or neither?

Both sentences speak of the same occasion. The hypothesis is drawn before the label is looked at, so it
says nothing about the label by itself; what counts is how the two relate: synonyms, kinds and members
(which turn round under negation), added and dropped details, numbers. What is new in evaluation rows:
who did what to which kind of thing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mtl.tasks.microworld.draw import Row, other
from mtl.tasks.microworld.entities import CATEGORIES, CATEGORY, MOMENTS, NUMBERS, PLACES
from mtl.tasks.microworld.events import ACTS, Event, an_event, at, event_home, replaced
from mtl.tasks.microworld.grammar import plural, sentence

TARGET = "label"
LABELS = ("entailment", "neutral", "contradiction")
ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)

_PLACES = tuple(PLACES)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A sentence before it is worded: ``noun`` is a thing or a kind of thing."""

    agent: str
    act: str
    noun: str
    quantity: str = "some"
    """``some``, a number word, or ``more than six``; ``no`` denies the act."""
    place: str | None = None
    moment: str | None = None


def _say(claim: _Claim, chance: random.Random) -> str:
    spoken = chance.choice(ACTS[claim.act])
    nouns = plural(claim.noun)
    if claim.quantity == "no":
        core = f"{claim.agent} did not {spoken.base} any {nouns}"
        if chance.random() < 0.3:
            core = f"{claim.agent} never {spoken.past} any {nouns}"
    else:
        noun = claim.noun if claim.quantity == "one" else nouns
        core = f"{claim.agent} {spoken.past} {claim.quantity} {noun}"
    adverbials = [at(claim.place)] if claim.place else []
    adverbials += [claim.moment] if claim.moment else []
    if adverbials and chance.random() < 0.25:
        return sentence(" ".join([adverbials.pop(), core, *adverbials]))
    return sentence(" ".join([core, *adverbials]))


def _member(chance: random.Random, noun: str) -> str:
    """A member where ``noun`` is a kind, else the thing itself."""
    return chance.choice(CATEGORIES[noun]) if noun in CATEGORIES else noun


def _sibling(chance: random.Random, thing: str) -> str:
    return other(chance, CATEGORIES[CATEGORY[thing]], thing)


def _other_act(chance: random.Random, seed: int, split: str, event: Event) -> str:
    """Another act of the same agent on the same kind of thing, in the same split where there is one."""
    acts = [act for act in ACTS if act != event.act]
    for act in chance.sample(acts, len(acts)):
        if event_home(seed, replaced(event, act=act)) == split:
            return act
    return ""


def _details(chance: random.Random, claim: _Claim, event: Event) -> _Claim:
    """The claim with details added where it has none."""
    return _Claim(
        claim.agent,
        claim.act,
        claim.noun,
        claim.quantity,
        claim.place or (event.place if chance.random() < 0.5 else None),
        claim.moment or (event.moment if chance.random() < 0.35 else None),
    )


def _premise_positive(
    chance: random.Random, claim: _Claim, event: Event, label: int, act: str
) -> _Claim:
    """A premise for ``agent did act (to) some noun, there, then``."""
    member = _member(chance, claim.noun)
    number = chance.choice(("some", *NUMBERS[2:11]))
    told = _Claim(claim.agent, claim.act, member, number, claim.place, claim.moment)
    if label == ENTAILMENT:
        return _details(chance, told, event)
    detailed = bool(claim.place or claim.moment)
    if label == CONTRADICTION:
        if detailed and chance.random() < 0.6:
            if claim.place:
                moved = other(chance, _PLACES, claim.place)
                return _Claim(claim.agent, claim.act, member, number, moved, claim.moment)
            return _Claim(
                claim.agent,
                claim.act,
                member,
                number,
                None,
                other(chance, MOMENTS, claim.moment or ""),
            )
        wider = claim.noun
        if claim.noun in CATEGORY and chance.random() < 0.4:
            wider = CATEGORY[claim.noun]
        return _Claim(claim.agent, claim.act, wider, "no")
    ways = ["act"] if act else []
    if detailed:
        ways.append("vague")
    ways += ["sibling", "kind", "denied sibling"] if claim.noun in CATEGORY else ["denied member"]
    match chance.choice(ways):
        case "act":
            told = _Claim(claim.agent, act, member, number, claim.place, claim.moment)
            return _details(chance, told, event)
        case "vague":
            return _Claim(claim.agent, claim.act, member, number)
        case "sibling":
            member = _sibling(chance, claim.noun)
            told = _Claim(claim.agent, claim.act, member, number, claim.place, claim.moment)
            return _details(chance, told, event)
        case "kind":
            kind = CATEGORY[claim.noun]
            told = _Claim(claim.agent, claim.act, kind, number, claim.place, claim.moment)
            return _details(chance, told, event)
        case "denied sibling":
            return _Claim(claim.agent, claim.act, _sibling(chance, claim.noun), "no")
        case _:
            return _Claim(claim.agent, claim.act, member, "no")


def _premise_negative(
    chance: random.Random, claim: _Claim, event: Event, label: int, act: str
) -> _Claim:
    """A premise for ``agent did not act (to) any noun``."""
    number = chance.choice(("some", *NUMBERS[2:11]))
    if label == ENTAILMENT:
        wider = claim.noun
        if claim.noun in CATEGORY and chance.random() < 0.6:
            wider = CATEGORY[claim.noun]
        return _Claim(claim.agent, claim.act, wider, "no")
    if label == CONTRADICTION:
        told = _Claim(claim.agent, claim.act, _member(chance, claim.noun), number)
        return _details(chance, told, event)
    narrower = (
        _sibling(chance, claim.noun) if claim.noun in CATEGORY else _member(chance, claim.noun)
    )
    if chance.random() < 0.5:
        return _Claim(claim.agent, claim.act, narrower, "no")
    if claim.noun in CATEGORY:
        told = _Claim(claim.agent, claim.act, narrower, number)
    elif act:
        told = _Claim(claim.agent, act, narrower, number)
    else:
        return _Claim(claim.agent, claim.act, narrower, "no")
    return _details(chance, told, event)


def _number_claim(
    chance: random.Random, claim: _Claim, event: Event, label: int
) -> tuple[_Claim, _Claim]:
    """Hypothesis ``more than n`` or ``fewer than n``, and its premise with a number."""
    bound = chance.randrange(3, 10)
    more = chance.random() < 0.5
    # "More than nine" must be refutable and provable with the numbers two to twelve.
    above, below = range(bound + 1, 13), range(2, bound)
    hypothesis = _Claim(
        claim.agent,
        claim.act,
        claim.noun,
        f"{'more' if more else 'fewer'} than {NUMBERS[bound]}",
    )
    member = _member(chance, claim.noun)
    if label == NEUTRAL:
        unknown = chance.random() < 0.5
        quantity = "some" if unknown else NUMBERS[chance.choice([*above, *below])]
        if not unknown and claim.noun in CATEGORY:
            member = _sibling(chance, claim.noun)
        elif not unknown:
            quantity = "some"
    else:
        high = (label == ENTAILMENT) == more
        quantity = NUMBERS[chance.choice(above if high else below)]
    return _details(chance, _Claim(claim.agent, claim.act, member, quantity), event), hypothesis


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """One pair; ``turn`` decides the label."""
    label = turn % 3
    event = an_event(chance, seed, split)
    noun = CATEGORY[event.thing] if chance.random() < 0.35 else event.thing
    claim = _Claim(event.agent, event.act, noun)
    shape = chance.random()
    if shape < 0.2:
        premise, hypothesis = _number_claim(chance, claim, event, label)
    elif shape < 0.5:
        hypothesis = _Claim(claim.agent, claim.act, claim.noun, "no")
        act = _other_act(chance, seed, split, event)
        premise = _premise_negative(chance, hypothesis, event, label, act)
    else:
        detail = chance.random()
        hypothesis = _Claim(
            claim.agent,
            claim.act,
            claim.noun,
            "some",
            event.place if detail < 0.4 else None,
            event.moment if detail > 0.75 else None,
        )
        act = _other_act(chance, seed, split, event)
        premise = _premise_positive(chance, hypothesis, event, label, act)
    return [
        {"premise": _say(premise, chance), "hypothesis": _say(hypothesis, chance), "label": label}
    ]


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    answer = (" yes", " maybe", " no")[row["label"]]
    return f"{row['premise']} So is it true? {row['hypothesis']} Answer:", answer
