"""Chance and majority, against enumeration and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mtl.config.schema import SourceConfig, TaskConfig
from mtl.scoring.baselines import chance, expected_f1, majority
from mtl.scoring.metrics import METRICS
from mtl.tasks.task import Answer, Example, Split, Task


def task(kind, report, train=None, labels=0, choices=None) -> Task:
    is_open = kind in ("generation", "language_modelling")

    def split(name, targets):
        return Split(
            name,
            [
                Example(
                    row=f"{name}:{i}",
                    segments=(),
                    prompt=(),
                    target=None if is_open else target,
                    references=(target,) if is_open else (),
                    choices=tuple("abcdefgh"[: choices[i]]) if choices else (),
                )
                for i, target in enumerate(targets)
            ],
            "",
        )

    config = TaskConfig(
        name="made",
        kind=kind,
        source=SourceConfig(),
        segments=[],
        prompt=[],
        target="",
        labels=[str(i) for i in range(labels)],
        metrics=[],
    )
    return Task(config, split("train", train) if train else None, None, split("test", report))


def test_chance_of_accuracy_is_one_over_the_classes():
    assert chance(task("classification", [0, 1, 1], labels=6), "accuracy") == pytest.approx(1 / 6)


def test_chance_of_accuracy_is_averaged_where_the_number_of_choices_varies():
    made = task("multiple_choice", [0, 1, 2], choices=[2, 3, 4])
    assert chance(made, "accuracy") == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


@pytest.mark.parametrize("wanted", [[1, 0, 1, 1], [0, 0, 0], [1, 1], [0, 1, 0, 0, 0]])
def test_chance_of_f1_is_the_mean_over_all_possible_answers(wanted):
    made = task("classification", wanted, labels=2)
    every = [
        METRICS["f1"].value([Answer(value=one) for one in answered], made.report.examples)
        for answered in itertools.product([0, 1], repeat=len(wanted))
    ]
    assert chance(made, "f1") == pytest.approx(np.mean(every), abs=1e-12)


@pytest.mark.parametrize("name", ["macro_f1", "matthews", "accuracy"])
def test_chance_is_what_random_answers_get(name):
    random = np.random.default_rng(0)
    wanted = random.choice(3, size=90, p=[0.6, 0.3, 0.1]).tolist()
    made = task("classification", wanted, labels=3)
    scores = [
        METRICS[name].value(
            [Answer(value=int(one)) for one in random.integers(3, size=90)], made.report.examples
        )
        for _ in range(400)
    ]
    assert chance(made, name) == pytest.approx(
        np.mean(scores), abs=4 * np.std(scores) / np.sqrt(400)
    )


def test_expected_f1_of_many_rows_tends_to_the_ratio_of_expectations():
    assert expected_f1(30_000, 100_000, 0.5) == pytest.approx(0.3 / (0.3 + 0.5), abs=1e-4)


def test_chance_of_correlations_and_open_answers():
    assert chance(task("regression", [1.0, 2.0]), "pearson") == 0
    assert chance(task("generation", ["a"]), "rouge_l") == 0
    assert chance(task("language_modelling", ["a"]), "bits_per_byte") == 8
    with pytest.raises(ValueError, match=r"^perplexity_per_word has no chance level$"):
        chance(task("language_modelling", ["a"]), "perplexity_per_word")


@pytest.mark.parametrize(
    ("made", "metric", "known"),
    [
        (task("classification", [0, 1, 1], [1, 1, 0], labels=2), "accuracy", 2 / 3),
        (task("classification", [0, 1, 1], [1, 1, 0], labels=2), "f1", 0.8),
        (task("classification", [0, 1, 1], [1, 1, 0], labels=2), "matthews", 0),
        # A tie falls to the lower class.
        (task("classification", [0, 1, 1], [1, 0], labels=2), "accuracy", 1 / 3),
        (task("multiple_choice", [0, 2], [2, 2, 1], choices=[3, 3, 3]), "accuracy", 1 / 2),
        (task("regression", [1.0, 2.0, 3.0], [0.1, 0.2, 0.4]), "pearson", 0),
        (task("generation", ["yes", "no"], ["no", "no", "yes"]), "exact_match", 1 / 2),
        # A tie falls to the first in the alphabet.
        (task("generation", ["yes", "yes", "no"], ["yes", "no"]), "exact_match", 1 / 3),
    ],
)
def test_majority_is_the_most_frequent_training_answer(made, metric, known):
    assert majority(made, metric) == pytest.approx(known)


def test_there_is_no_majority_without_training_rows_or_for_running_text():
    assert majority(task("classification", [0, 1], labels=2), "accuracy") is None
    assert majority(task("language_modelling", ["a"], ["a"]), "bits_per_byte") is None
