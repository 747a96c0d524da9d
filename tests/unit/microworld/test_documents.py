"""Running text: shares, the control, and what it must never say."""

from __future__ import annotations

from collections import Counter

import pytest

from mtl.config.errors import UserError
from mtl.tasks.microworld import TASKS, documents
from mtl.tasks.microworld.generation import drawn_rows

COUNT = 1000


def shown(texts: list[str]) -> list[str]:
    """The demonstrations: every line after the first one of a document."""
    return [line for text in texts for line in text.split("\n")[1:]]


def test_the_share_is_exact_and_leaves_the_other_documents_alone() -> None:
    without = documents(demonstrations=0, count=COUNT)
    some = documents(demonstrations=0.25, count=COUNT)
    changed = [first != second for first, second in zip(without, some, strict=True)]
    assert sum(changed) == 250
    assert shown(without) == []
    assert all("\n" in text for text, new in zip(some, changed, strict=True) if new)
    more = documents(demonstrations=0.5, count=COUNT)
    assert all(a == b for a, b, new in zip(some, more, changed, strict=True) if new)


def test_demonstrations_are_training_rows_in_every_split() -> None:
    known = {
        "".join(module.demonstrate(row))
        for task, module in TASKS.items()
        for row in drawn_rows(task, "train", 0)
    }
    for split in ("train", "validation", "test"):
        lines = shown(documents(demonstrations=0.5, split=split, count=200))
        assert len(lines) > 200
        assert set(lines) <= known


def test_evaluation_rows_are_never_told() -> None:
    text = "\n".join(documents(demonstrations=0.1, count=3000))
    for task, column in (
        ("sentiment", "sentence"),
        ("acceptability", "sentence"),
        ("entailment", "premise"),
        ("similarity", "sentence1"),
        ("similarity", "sentence2"),
        ("translation", "english"),
        ("pronoun", "sentence"),
        ("question_answering", "context"),
        ("summarisation", "text"),
    ):
        for split in ("validation", "test"):
            told = [row[column] for row in drawn_rows(task, split, 0) if row[column] in text]
            assert not told, (task, told[:3])


def test_permuting_keeps_the_text_and_the_answers_but_not_which_is_whose() -> None:
    right = documents(demonstrations=0.5, count=COUNT)
    control = documents(demonstrations=0.5, count=COUNT, permuted=True)
    assert [text for text in right if "\n" not in text] == [
        text for text in control if "\n" not in text
    ]
    answers = (
        " The guest was",
        " This sentence is",
        " Answer:",
        " In short:",
        " In Velish:",
        " alike:",
    )
    for mark in answers:
        pairs = [
            [line.split(mark) for line in shown(texts) if mark in line]
            for texts in (right, control)
        ]
        prompts, tails = zip(*(zip(*found, strict=True) for found in pairs), strict=True)
        assert prompts[0] == prompts[1]
        assert sum(a == b for a, b in zip(*tails, strict=True)) < 0.65 * len(tails[0])
        if mark != " Answer:":
            assert Counter(tails[0]) == Counter(tails[1])


def test_permuted_pronouns_still_name_a_candidate() -> None:
    right = documents(demonstrations=0.8, count=COUNT)
    control = documents(demonstrations=0.8, count=COUNT, permuted=True)
    pairs = [
        (line, other)
        for line, other in zip(shown(right), shown(control), strict=True)
        if "Here the word" in line
    ]
    assert len(pairs) > 100
    assert 0.35 < sum(a == b for a, b in pairs) / len(pairs) < 0.65
    for _, line in pairs:
        sentence, answer = line.split(" Here the word ")
        assert answer.split(" means ")[1].lower() in sentence.lower()


def test_counts_seeds_and_splits() -> None:
    assert len(documents(demonstrations=0, count=0)) == 0
    assert len(documents(demonstrations=0.1, split="test")) == 400
    short = documents(demonstrations=0, count=50)
    assert short == documents(demonstrations=0, count=200)[:50]
    assert not set(short) & set(documents(demonstrations=0, count=50, seed=1))
    assert not set(short) & set(documents(demonstrations=0, count=50, split="validation"))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="must be from 0 to 1, not "):
        documents(demonstrations=share)


def test_a_negative_count_and_an_unknown_split_are_refused() -> None:
    with pytest.raises(UserError, match="must not be negative, and is -1"):
        documents(demonstrations=0, count=-1)
    with pytest.raises(UserError, match="did you mean: train"):
        documents(demonstrations=0, split="trian")
