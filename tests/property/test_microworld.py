"""Properties of the microworld that hold for every seed and share."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as some

from mtl.tasks.microworld import TASKS, documents
from mtl.tasks.microworld.draw import SPLITS, home, stream
from mtl.tasks.microworld.similarity import RANGE
from mtl.tasks.microworld.translation import dictionary


@given(some.integers(0, 10**6), some.lists(some.text(min_size=1), min_size=1, max_size=4))
def test_meaning_has_one_home(seed: int, meaning: list[str]) -> None:
    assert home(seed, *meaning) == home(seed, *meaning) in SPLITS


def test_homes_have_the_stated_shares() -> None:
    homes = [home(0, "combination", str(number)) for number in range(20_000)]
    assert abs(homes.count("train") / len(homes) - 0.8) < 0.015
    assert abs(homes.count("validation") / len(homes) - 0.1) < 0.01


@settings(max_examples=15, deadline=None)
@given(some.integers(0, 10**6), some.sampled_from(SPLITS), some.sampled_from(tuple(TASKS)))
def test_every_seed_draws_well_formed_rows(seed: int, split: str, task: str) -> None:
    module = TASKS[task]
    chance = stream("property", seed, task)
    for turn in range(12):
        for row in module.draw(chance, seed, split, turn):
            prompt, answer = module.demonstrate(row)
            assert prompt == prompt.strip()
            assert answer.startswith(" ")
            assert "  " not in prompt + answer
            assert prompt[0].isupper()
            if task == "similarity":
                assert RANGE[0] <= row["score"] <= RANGE[1]


@settings(max_examples=20, deadline=None)
@given(some.integers(0, 10**6))
def test_no_stem_begins_another_one(seed: int) -> None:
    stems = sorted(dictionary(seed).values())
    assert not any(after.startswith(before) for before, after in pairwise(stems))


@settings(max_examples=20, deadline=None)
@given(some.floats(0, 1), some.integers(0, 60))
def test_the_share_of_demonstrations_is_the_nearest_possible(share: float, count: int) -> None:
    texts = documents(demonstrations=share, count=count)
    assert len(texts) == count
    assert sum("\n" in text for text in texts) == round(share * count)
