"""The classical baseline learns what words can tell, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mtl.config.schema import DataConfig, SourceConfig, TaskConfig
from mtl.scoring.bag_of_words import bag_of_words
from mtl.tasks.loading import load_task
from mtl.tasks.task import Example, Split, Task

FILLER = ["on", "the", "hill", "by", "a", "river", "near", "town"]


def task(kind, metric, rows, *, labels=0, selection=True, train=True) -> Task:
    """``rows``: segments, target and choices of each row."""

    def split(name, part):
        examples = [
            Example(row=f"{name}:{i}", segments=texts, prompt=(), target=target, choices=choices)
            for i, (texts, target, choices) in enumerate(part)
        ]
        return Split(name, examples, "")

    config = TaskConfig(
        name="made",
        kind=kind,
        source=SourceConfig(),
        segments=[],
        prompt=[],
        target="",
        labels=[str(i) for i in range(labels)],
        metrics=[metric],
    )
    third = len(rows) // 3
    return Task(
        config,
        split("train", rows[third // 2 : 2 * third]) if train else None,
        split("selection", rows[: third // 2]) if selection else None,
        split("report", rows[2 * third :]),
    )


def sentence(random, *words) -> str:
    return " ".join(random.permutation([*words, *random.choice(FILLER, 4)]))


def primary(made: Task) -> float:
    score = bag_of_words(made, resamples=0)
    assert score is not None
    return score.metrics[score.primary].value


@pytest.mark.parametrize("selection", [True, False])
def test_words_that_name_the_class_are_learnt(selection):
    random = np.random.default_rng(0)
    names = ["red", "green", "blue"]
    rows = [
        ((sentence(random, names[target]),), target, ())
        for target in random.integers(3, size=240).tolist()
    ]
    made = task("classification", "accuracy", rows, labels=3, selection=selection)
    assert primary(made) > 0.95


def test_labels_without_relation_to_the_words_stay_at_chance():
    random = np.random.default_rng(0)
    rows = [((sentence(random),), int(random.integers(2)), ()) for _ in range(600)]
    assert primary(task("classification", "matthews", rows, labels=2)) == pytest.approx(0, abs=0.2)


def test_pairs_see_how_far_the_segments_overlap():
    random = np.random.default_rng(0)
    rows = []
    for target in random.integers(2, size=240).tolist():
        words = random.integers(10_000, size=6).astype(str)
        other = words if target else random.integers(10_000, size=6).astype(str)
        rows.append(((" ".join(words), " ".join(random.permutation(other))), target, ()))
    assert primary(task("pair_classification", "accuracy", rows, labels=2)) > 0.95


def test_pairs_know_left_from_right():
    random = np.random.default_rng(0)
    rows = []
    for target in random.integers(2, size=240).tolist():
        sides = [sentence(random, "red"), sentence(random, "green")]
        rows.append((tuple(sides if target else sides[::-1]), target, ()))
    assert primary(task("pair_classification", "accuracy", rows, labels=2)) > 0.95


def test_scores_are_regressed_on():
    random = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        good, bad = random.integers(0, 4, size=2).tolist()
        rows.append(((sentence(random, *["good"] * good, *["bad"] * bad),), float(good - bad), ()))
    assert primary(task("regression", "pearson", rows)) > 0.85


def test_choices_are_scored_one_by_one_even_where_their_number_varies():
    random = np.random.default_rng(0)
    rows = []
    for _ in range(240):
        number = int(random.integers(2, 5))
        target = int(random.integers(number))
        choices = [sentence(random, "right" if i == target else "wrong") for i in range(number)]
        rows.append(((sentence(random),), target, tuple(choices)))
    assert primary(task("multiple_choice", "accuracy", rows)) > 0.95


def test_twice_gives_the_same_score():
    random = np.random.default_rng(0)
    rows = [((sentence(random),), int(random.integers(2)), ()) for _ in range(120)]
    made = task("classification", "accuracy", rows, labels=2)
    assert bag_of_words(made, resamples=50) == bag_of_words(made, resamples=50)


def test_a_single_class_in_train_is_answered_always():
    rows = [((f"word {i}",), int(i >= 20), ()) for i in range(30)]
    made = task("classification", "accuracy", rows, labels=2)
    assert primary(made) == 0.0


def test_there_is_none_for_open_tasks_and_without_training_rows():
    rows = [(("text",), 0, ())] * 6
    assert bag_of_words(task("generation", "bleu", rows)) is None
    assert bag_of_words(task("classification", "accuracy", rows, labels=2, train=False)) is None


def test_on_real_questions_it_is_far_above_majority(data_root):
    """The most frequent of the six types is about a fifth of the rows."""
    config = TaskConfig(
        name="trec",
        kind="classification",
        source=SourceConfig(folder="trec"),
        segments=["{{ text }}"],
        prompt=["{{ text }}"],
        target="{{ coarse_label }}",
        labels=["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"],
        answers=[" abbreviation", " entity", " description", " person", " place", " number"],
        metrics=["accuracy"],
    )
    loaded = load_task(config, DataConfig(root=str(data_root)), seed=0)
    # One strength in place of four: nothing is chosen, and the test is quick.
    made = dataclasses.replace(loaded, selection=None)
    assert 0.80 < primary(made) < 0.90
