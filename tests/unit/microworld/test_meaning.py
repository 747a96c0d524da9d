"""Targets by hand: each rule is checked by reading the sentences anew."""

from __future__ import annotations

import itertools
import random

import pytest

from mtl.tasks.microworld.entities import CATEGORIES, CATEGORY, NUMBERS, PEOPLE, PLACES, WOMEN
from mtl.tasks.microworld.events import ACTS, DEEDS, Event, tell
from mtl.tasks.microworld.generation import drawn_rows
from mtl.tasks.microworld.grammar import article, plural, verb
from mtl.tasks.microworld.sentiment import BLAME, PAINS, PRAISE
from mtl.tasks.microworld.similarity import score
from mtl.tasks.microworld.translation import BEINGS, dictionary


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("apple", "apples"),
        ("box", "boxes"),
        ("cherry", "cherries"),
        ("mouse", "mice"),
        ("toy", "toys"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun) == many


def test_articles_and_verbs() -> None:
    assert article("apple") == "an apple"
    assert article("drum") == "a drum"
    carry = verb("carry")
    assert (carry.past, carry.participle, carry.third) == ("carried", "carried", "carries")
    assert verb("steal stole stolen").participle == "stolen"


def test_a_score_counts_what_two_events_share() -> None:
    event = Event("Anna", "buy", "pear", "market", "at noon")
    assert score(event, event) == 5.0
    assert score(event, Event("Anna", "buy", "plum", "market", "at noon")) == 4.25
    assert score(event, Event("Tom", "sell", "drum", "mill", "at noon")) == 0.0
    help_ = Event("Anna", "help", "Tom", "market", "at noon")
    assert score(help_, Event("Tom", "help", "Anna", "market", "at noon")) == 2.5


def test_the_passive_and_the_synonym_say_the_same() -> None:
    event = Event("Anna", "steal", "harp", "mill", "at noon")
    told = {tell(event, random.Random(seed)) for seed in range(200)}
    assert "Anna stole the harp at the mill." in told
    assert "The harp was snatched by Anna at the mill." in told
    assert "At the mill the harp was stolen by Anna." in told


FORMS = {
    form: act
    for act, verbs in (ACTS | DEEDS).items()
    for spoken in verbs
    for form in (spoken.past, spoken.participle)
}


def read(sentence: str) -> tuple[str, str, str, str]:
    """Agent, act, thing and place of a sentence about an event."""
    words = sentence.rstrip(".").replace("On the", "on the").split()
    act = next(FORMS[word] for word in words if word in FORMS)
    place = next(word.lower() for word in words if word in PLACES)
    doers = [word for word in words if word in PEOPLE]
    done = [word.lower() for word in words if word.lower() in CATEGORY] + doers
    agent = words[words.index("by") + 1] if "was" in words and " by " in sentence else doers[0]
    if "was" in words:
        agent = next(
            second
            for first, second in itertools.pairwise(words)
            if first == "by" and second in PEOPLE
        )
    return agent, act, next(thing for thing in done if thing != agent), place


def test_scores_are_readable_from_the_sentences_alone() -> None:
    for row in drawn_rows("similarity", "test", 0):
        first, second = (Event(*read(row[f"sentence{side}"]), "at noon") for side in (1, 2))
        assert score(first, second) == row["score"], row


def judged(sentence: str) -> int:
    """The rule of sentiment, read from the sentence alone."""
    said = sentence.lower()
    if "if you enjoy" in said or "whoever loves" in said:
        return int(not any(pain in said for pain in PAINS))
    turned = any(
        mark in said
        for mark in (
            "not", "never", "nobody", "anything but", "could have", "would have", "i had expected",
        )
    )  # fmt: skip
    if said.startswith(("although", "even if")):
        said = said.split(", ")[1]
    elif ", although" in said or ", whatever" in said:
        said = said.split(", ")[0]
    elif ", but " in said:
        said = said.split(", but ")[1]
    words = said.replace(",", "").rstrip(".").split()
    (praised,) = {word in PRAISE for word in words if word in PRAISE + BLAME}
    return int(praised != turned)


@pytest.mark.parametrize("split", ["train", "test"])
def test_sentiment_follows_its_rule(split: str) -> None:
    for row in drawn_rows("sentiment", split, 0):
        assert judged(row["sentence"]) == row["label"], row["sentence"]


def test_answers_stand_in_the_passage_or_are_sums() -> None:
    for row in drawn_rows("question_answering", "train", 0):
        if row["question_kind"] == "sum":
            words = row["context"].replace(".", " ").split()
            kind = row["question"].split()[2]
            members = next(things for name, things in CATEGORIES.items() if plural(name) == kind)
            members = {*members, *map(plural, members)}
            counted = [
                1 if first in ("a", "an") else NUMBERS.index(first)
                for first, second in itertools.pairwise(words)
                if second in members and first in ("a", "an", *NUMBERS)
            ]
            assert NUMBERS[sum(counted)] == row["answer"], row
        else:
            assert row["answer"].removeprefix("the ") in row["context"]


def test_translation_is_regular() -> None:
    stems = dictionary(0)
    assert len(set(stems.values())) == len(stems)
    for row in drawn_rows("translation", "test", 0):
        english = row["english"].rstrip(".").lower().split()
        velish = row["velish"].split()
        assert ("not" in english) == ("ne" in velish)
        tense = velish[-1].removesuffix("m")[-2:]
        if "will" in english:
            assert tense == "su"
        elif "did" in english:
            assert tense == "ta"
        elif "does" in english or "do" in english:
            assert tense == "ra"
        for being in BEINGS:
            if being in english or plural(being) in english:
                assert any(word.startswith(stems[being] + "o") for word in velish)


def test_a_summary_names_the_thing_that_is_spoken_of_at_the_end() -> None:
    for row in drawn_rows("summarisation", "test", 0):
        sentences = row["text"].rstrip(".").split(". ")
        thing = row["summary"].split()[3]
        assert thing in sentences[-1].lower().split()
        assert row["summary"].rstrip(".").split()[-1] in sentences[0]


def test_reflexives_agree_where_the_sentence_is_right() -> None:
    checked = 0
    for row in drawn_rows("acceptability", "test", 0):
        if row["phenomenon"] != "reflexive":
            continue
        words = row["sentence"].rstrip(".").split()
        name = next(word for word in reversed(words) if word in PEOPLE)
        assert (("herself" in words) == (name in WOMEN)) == bool(row["label"])
        checked += 1
    assert checked > 30
