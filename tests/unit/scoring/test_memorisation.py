"""Exposure and copying: known answers, and a slow reference."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from mtl.scoring.memorisation import (
    SECRETS,
    Copied,
    copied,
    draw_canaries,
    draw_candidates,
    exposure,
    plant,
)


@pytest.mark.parametrize(
    ("own", "others", "bits"),
    [
        (1.0, [2.0] * 7, 3.0),  # the likeliest of eight
        (3.0, [2.0] * 7, 0.0),  # the least likely
        (2.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 3 - math.log2(3)),
        (2.0, [2.0] * 7, 0.0),  # ties count against it: it cannot be told from the others
        (2.0, [], 0.0),
    ],
)
def test_exposure(own, others, bits):
    assert exposure(own, others) == pytest.approx(bits)


def test_a_canary_that_was_not_learnt_has_144_bits_on_average():
    draw = random.Random(0)
    others = [draw.random() for _ in range(4095)]
    found = [exposure(draw.random(), others) for _ in range(4000)]
    # Exponential with mean and deviation 1 / ln 2: four standard errors of 4000 draws are 0.09.
    assert statistics.mean(found) == pytest.approx(1 / math.log(2), abs=0.09)


def test_canaries_and_candidates_are_all_different():
    canaries, form = draw_canaries([0, 1, 4], of_each=3, length=3, seed=0)
    secrets = [canary.secret for canary in canaries]
    assert [canary.repeats for canary in canaries] == [0, 0, 0, 1, 1, 1, 4, 4, 4]
    assert {canary.format for canary in canaries} == {form}
    assert canaries[0].text == f"{form} {' '.join(secrets[0])}."
    others = draw_candidates(16**3 - 9, length=3, seed=0, without=secrets)
    assert len({*secrets, *others}) == 16**3
    assert {word for secret in others for word in secret} == set(SECRETS)
    with pytest.raises(ValueError, match="not 4088 more"):
        draw_candidates(16**3 - 8, length=3, seed=0, without=secrets)
    assert draw_canaries([0, 1, 4], of_each=3, length=3, seed=0) == (canaries, form)
    assert draw_canaries([0, 1, 4], of_each=3, length=3, seed=1)[0] != canaries


def test_planting_adds_each_canary_as_often_as_it_repeats():
    canaries, _ = draw_canaries([0, 2, 5], of_each=1, length=4, seed=0)
    documents = [f"document {i}" for i in range(20)]
    planted = plant(documents, canaries, seed=0)
    assert [planted.count(canary.text) for canary in canaries] == [0, 2, 5]
    assert len(planted) == 27
    assert set(documents) <= set(planted)


def test_copied_by_hand():
    training = ["The cat sat on the mat, and slept.", "Dogs run. Dogs bark at the cat"]
    texts = [
        "a cat SAT on the mat today",  # cat-sat-on, sat-on-the, on-the-mat of five; five words
        "the cat sat, dogs run dogs bark",  # the-cat-sat, dogs-run-dogs, run-dogs-bark of five
        "slept dogs run",  # stands in no document, only across two
        "too short",
    ]
    assert copied(texts, training, n=3) == Copied(ngrams=11, found=6, longest=(5, 4, 0, 0))
    assert copied(texts, training, n=3).share == 6 / 11
    assert copied([], training).share == 0.0


def slow(texts: list[str], training: list[str], n: int) -> Copied:
    """Every stretch of every text, looked for as a text."""
    padded = [f" {document} " for document in training]

    def stands(stretch: list[str]) -> bool:
        return any(f" {' '.join(stretch)} " in document for document in padded)

    ngrams, hits, longest = 0, 0, []
    for text in texts:
        parts = text.split()
        grams = [parts[i : i + n] for i in range(len(parts) - n + 1)]
        ngrams += len(grams)
        hits += sum(map(stands, grams))
        lengths = [
            end - start
            for start in range(len(parts))
            for end in range(start + n, len(parts) + 1)
            if stands(parts[start:end])
        ]
        longest.append(max(lengths, default=0))
    return Copied(ngrams, hits, tuple(longest))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_copied_against_a_slow_reference(n):
    draw = random.Random(n)

    def text(most: int) -> str:
        return " ".join(draw.choice("abc") for _ in range(draw.randrange(most)))

    training = [text(25) for _ in range(12)]
    texts = [text(14) for _ in range(30)]
    found = copied(texts, training, n=n)
    assert found == slow(texts, training, n)
    assert max(found.longest) > n
