"""The n-gram table: against a slow reference, and reckoned by hand."""

from __future__ import annotations

import random
import re

import pytest

from mtl.tasks.contamination import RowFound, asked_ngrams, find, search
from mtl.tasks.task import Example


def document(row: int, text: str) -> Example:
    return Example(f"test:{row}", (), (), None, references=(text,))


def found(test: list[str], training: list[str], n: int, rate: float = 1e-8) -> list[RowFound]:
    index = search(
        [document(i, t) for i, t in enumerate(training)], n, false_positive_rate=rate, asked=None
    )
    return find([document(i, t) for i, t in enumerate(test)], index)


def test_by_hand():
    """Three words in a row; each counts as often as it stands there, and none reaches into another document."""
    training = ["One two, THREE four.", "five six seven"]
    test = [
        "one two three four five",  # one-two-three and two-three-four of three
        "one two three one two three",  # the first and the last of four
        "three four five six seven",  # five-six-seven of three, four-five-six stands in no document
        "one two",  # too short
        "eight nine ten",
    ]
    assert found(test, training, 3) == [
        RowFound("test:0", 3, 2),
        RowFound("test:1", 4, 2),
        RowFound("test:2", 3, 1),
        RowFound("test:3", 0, 0),
        RowFound("test:4", 1, 0),
    ]
    assert [row.share for row in found(test, training, 3)] == [2 / 3, 0.5, 1 / 3, 0.0, 0.0]


def reference(test: list[str], training: list[str], n: int) -> list[tuple[int, int]]:
    """As slowly and plainly as can be: sets of tuples of words."""

    def grams(text: str) -> list[tuple[str, ...]]:
        parts = "".join(c if c.isalnum() else " " for c in text.lower()).split(" ")
        parts = [part for part in parts if part]
        return [tuple(parts[i : i + n]) for i in range(max(0, len(parts) - n + 1))]

    seen = {gram for text in training for gram in grams(text)}
    return [(len(grams(text)), sum(gram in seen for gram in grams(text))) for text in test]


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_against_sets_of_tuples(n):
    draw = random.Random(n)

    def text(vocabulary: list[str]) -> str:
        return "".join(
            draw.choice(vocabulary) + draw.choice([" ", ", ", ".\n", "-", "_"])
            for _ in range(draw.randrange(40))
        )

    training = [text(["a", "B", "c3"]) for _ in range(60)]
    test = [text(["A", "b", "C3", "d"][: draw.choice([3, 4])]) for _ in range(60)]
    rows = found(test, training, n)
    assert [(row.ngrams, row.found) for row in rows] == reference(test, training, n)
    assert any(0 < row.found < row.ngrams for row in rows)


def test_a_coarse_filter_finds_too_much_and_the_oracle_counts_it():
    draw = random.Random(0)
    texts = [" ".join(f"{draw.getrandbits(20):x}" for _ in range(60)) for _ in range(60)]
    training = [document(i, text) for i, text in enumerate(texts[:30])]
    test = [document(i, text) for i, text in enumerate(texts[20:])]
    asked = asked_ngrams([test], 8)
    assert asked is not None
    index = search(training, 8, false_positive_rate=0.1, asked=asked)
    assert index.exact is not None
    assert len(index.exact) == 10 * 53  # ten documents stand on both sides
    wrong, absent = index.false_positives(asked)
    assert absent == 30 * 53
    assert 0.06 < wrong / absent < 0.14
    rows = find(test, index)
    assert sum(row.found for row in rows) == 10 * 53 + wrong
    assert all(row.found == row.ngrams for row in rows[:10])
    fine = search(training, 8, false_positive_rate=1e-8, asked=asked)
    assert fine.false_positives(asked) == (0, absent)


def test_too_many_are_not_kept():
    rows = [document(0, "a b c"), document(1, "c d e f")]
    assert asked_ngrams([rows], 2, at_most=5) == {"a b", "b c", "c d", "d e", "e f"}
    assert asked_ngrams([rows], 2, at_most=4) is None
    index = search(rows, 2, false_positive_rate=0.1, asked=None)
    with pytest.raises(ValueError, match="no exact set"):
        index.false_positives(["a b"])


def test_a_text_without_ngrams_holds_nothing():
    assert found(["a b c"], ["a b"], 3) == [RowFound("test:0", 1, 0)]


def test_progress_is_every_row_twice():
    steps: list[int] = []
    rows = [document(i, "a b c d") for i in range(7)]
    search(rows, 2, false_positive_rate=0.1, asked=None, advance=steps.append)
    assert steps == list(range(1, 15))


def test_the_own_train_split_of_snli_is_not_all_overlap(data_root):
    """The prompt's 'is the claim true false or unknown answer' is eight words; it must not make rows overlap."""
    from mtl.config.schema import DataConfig
    from mtl.tasks.loading import load_task

    from .conftest import read_task_file

    task = load_task(read_task_file("snli"), DataConfig(root=str(data_root)), seed=0)
    assert task.train is not None
    assert re.search("true, false or unknown", task.report.examples[0].prompt[-1])
    index = search(task.train.examples, 8, false_positive_rate=1e-8, asked=None)
    rows = find(task.report.examples, index)
    assert 0 < sum(row.found > 0 for row in rows) < len(rows) / 2
