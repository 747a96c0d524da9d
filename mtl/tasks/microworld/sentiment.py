"""Sentiment: was the guest pleased? Plain, negated, contrasted, counterfactual and ironic reviews.

What is new in evaluation rows: the combination of the thing spoken of and the opinion that decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mtl.tasks.microworld.draw import Row, home, words
from mtl.tasks.microworld.grammar import article, sentence

TARGET = "label"
LABELS = ("negative", "positive")

PRAISE = words(
    "good great lovely wonderful excellent delightful charming splendid pleasant perfect brilliant fine "
    "superb beautiful marvellous enjoyable"
)
BLAME = words(
    "bad poor awful terrible dreadful horrible dull boring dirty nasty unpleasant disappointing miserable "
    "shabby ugly dismal"
)
OPINIONS = (BLAME, PRAISE)
SUBJECTS = words(
    "room meal soup bread cake tea service music play concert dance story garden view bath bed fire cook "
    "waiter host singer painter market inn museum castle boat ride journey festival"
)
OPENINGS = ("", "", "", "I must say that ", "everyone agreed that ", "my friend and I found that ")
JOYS = ("a quiet night", "fresh air", "good company", "kind people", "warm evenings")
PAINS = ("cold soup", "waiting for hours", "noise all night", "wet feet", "rude answers")


def _plain(chance: random.Random, thing: str, opinion: str, label: int) -> str:
    degree = chance.choice(("", "very ", "really ", "truly ", "quite "))
    return f"{chance.choice(OPENINGS)}the {thing} was {degree}{opinion}"


def _negated(chance: random.Random, thing: str, opinion: str, label: int) -> str:
    wording = chance.choice(
        (
            "the {thing} was not {opinion}",
            "the {thing} was not at all {opinion}",
            "the {thing} was never {opinion}",
            "nobody could call the {thing} {opinion}",
            "the {thing} was anything but {opinion}",
            "I do not think that the {thing} was {opinion}",
        )
    )
    return wording.format(thing=thing, opinion=opinion)


def _contrast(chance: random.Random, thing: str, opinion: str, label: int) -> str:
    # The clause that does not count says the opposite, so that both opinions stand in the sentence.
    weak = chance.choice(OPINIONS[1 - label])
    beside = chance.choice([subject for subject in SUBJECTS if subject != thing])
    wording = chance.choice(
        (
            "the {beside} was {weak}, but the {thing} was {opinion}",
            "although the {beside} was {weak}, the {thing} was {opinion}",
            "the {thing} was {opinion}, although the {beside} was {weak}",
            "even if the {beside} was {weak}, we found the {thing} {opinion}",
            "the {thing} was {opinion}, whatever they say about the {weak} {beside}",
        )
    )
    return wording.format(thing=thing, opinion=opinion, weak=weak, beside=beside)


def _counterfactual(chance: random.Random, thing: str, opinion: str, label: int) -> str:
    wording = chance.choice(
        (
            "the {thing} could have been {opinion}",
            "I had expected {a_opinion} {thing}, and was wrong",
            "they had promised us {a_opinion} {thing}, and it was not so",
            "the {thing} would have been {opinion} on any other day",
        )
    )
    return wording.format(thing=thing, opinion=opinion, a_opinion=article(opinion))


def _ironic(chance: random.Random, thing: str, opinion: str, label: int) -> str:
    taste = chance.choice(PAINS if label == 0 else JOYS)
    wording = chance.choice(
        (
            "the {thing} is {opinion} if you enjoy {taste}",
            "whoever loves {taste} will find the {thing} {opinion}",
        )
    )
    return wording.format(thing=thing, opinion=opinion, taste=taste)


Construction = Callable[[random.Random, str, str, int], str]
CONSTRUCTIONS: tuple[tuple[Construction, float, bool], ...] = (
    (_plain, 0.5, False),
    (_negated, 0.18, True),
    (_contrast, 0.18, False),
    (_counterfactual, 0.07, True),
    (_ironic, 0.07, False),
)
"""Each construction, its share, and whether it turns the opinion into its opposite."""


def draw(chance: random.Random, seed: int, split: str, turn: int) -> list[Row]:
    """One review; ``turn`` decides the label, so that labels are balanced."""
    label = turn % 2
    construction, _, turns = chance.choices(
        CONSTRUCTIONS, weights=[share for _, share, _ in CONSTRUCTIONS]
    )[0]
    while True:
        thing = chance.choice(SUBJECTS)
        # Irony praises in both cases: what is enjoyed decides.
        words = PRAISE if construction is _ironic else OPINIONS[label != turns]
        opinion = chance.choice(words)
        if home(seed, "sentiment", thing, opinion) == split:
            break
    text = sentence(construction(chance, thing, opinion, label))
    return [{"sentence": text, "label": label}]


def demonstrate(row: Row) -> tuple[str, str]:
    """The row as running text: what is asked, and the answer."""
    return f"{row['sentence']} The guest was", (" unhappy", " pleased")[row["label"]]
