"""Rows that are candidates of a query, and the multiple-choice examples they become."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mtl.config.complete import _whole_task
from mtl.config.errors import UserError
from mtl.config.schema import SourceConfig, TaskConfig
from mtl.scoring.baselines import chance
from mtl.scoring.metrics import check_metrics
from mtl.tasks.checks import check_task
from mtl.tasks.loading import load_task
from mtl.tasks.reading import Reader
from mtl.tasks.task import Example

from .conftest import reviews

SOURCE = SourceConfig(folder="reviews", train=None, report="test")


def ranking(**changes: Any) -> TaskConfig:
    written: dict[str, Any] = {
        "kind": "ranking",
        "source": SOURCE,
        "query": "{{ question }}",
        "segments": ["{{ question }}"],
        "prompt": ["Question: {{ question }}", "\nAnswer:"],
        "choices": ["{{ text }}"],
        "labels": ["right", "wrong"],
        "answers": [],
    }
    return reviews(**{**written, **changes})


def row(question: str, text: str, label: str) -> dict[str, str]:
    return {"question": question, "text": text, "label": label}


ROWS = [
    row("who?", "the cat", "wrong"),
    row("when?", "at night ", "right"),
    row("who?", "a dog", "right"),
    row("when?", "never", "wrong"),
    row(" who? ", "Zoe", "wrong"),
]


def read(write, rows, **changes):
    return load_task(ranking(**changes), write(test=rows), seed=0)


def test_the_rows_of_one_query_are_the_choices_of_one_example(write):
    task = read(write, ROWS)
    who, when = task.report.examples
    assert who == Example(
        row="test:0",
        segments=("who?",),
        prompt=("Question: who?", "\nAnswer:"),
        target=1,
        answers=(" Zoe", " a dog", " the cat"),
        choices=("Zoe", "a dog", "the cat"),
    )
    assert (when.row, when.choices[when.target]) == ("test:1", "at night")
    assert task.report.note == ""
    assert task.kind == "multiple_choice"
    assert not task.is_open


def test_the_order_of_rows_says_nothing(write):
    expected = {e.segments: (e.choices, e.target) for e in read(write, ROWS).report.examples}
    for seed in range(5):
        shuffled = random.Random(seed).sample(ROWS, len(ROWS))
        examples = read(write, shuffled).report.examples
        assert {e.segments: (e.choices, e.target) for e in examples} == expected


@pytest.mark.parametrize(
    ("labels", "values"), [(["right", "wrong"], ("0", "1")), (["1", "0"], ("1", "0"))]
)
def test_the_first_label_is_that_of_a_right_candidate(write, labels, values):
    rows = [row("q", "yes", values[0]), row("q", "no", values[1])]
    (example,) = read(write, rows, labels=labels).report.examples
    assert example.choices[example.target] == "yes"


def test_queries_that_cannot_be_ranked_are_counted_by_their_reason(write):
    rows = [
        *ROWS,
        row("alone", "x", "right"),
        row("alone too", "x", "wrong"),
        row("none", "x", "wrong"),
        row("none", "y", "wrong"),
        row("both", "x", "right"),
        row("both", "y", "right"),
        row("same", "x", "right"),
        row("same", "x", "wrong"),
        row("unknown", "x", "right"),
        row("unknown", "y", "?"),
    ]
    report = read(write, rows, unlabelled="?").report
    assert [example.row for example in report.examples] == ["test:0", "test:1"]
    assert report.note == (
        "2 of 8 queries of test have a single candidate and are left out; "
        "1 of 8 queries of test have no right candidate and are left out; "
        "1 of 8 queries of test have several right candidates and are left out; "
        "1 of 8 queries of test have two candidates that read the same and are left out; "
        "1 of 8 queries of test have a candidate without a gold label and are left out"
    )


def test_a_split_without_a_query_to_rank_is_refused(write, tmp_path):
    with pytest.raises(UserError) as caught:
        read(write, [row("a", "x", "right"), row("b", "y", "wrong")])
    assert str(caught.value) == (
        "split 'test' of task 'reviews' has no query that can be ranked"
        f" ({tmp_path}/reviews/test.jsonl)\n"
        "  2 of 2 queries of test have a single candidate and are left out"
    )


def test_bad_rows_name_row_and_reason(write, tmp_path):
    rows = [
        *ROWS[:2],
        row("when?", "x", "maybe"),
        row("when?", " ", "wrong"),
        row("", "x", "wrong"),
        {**row("when?", "x", "wrong"), "topic": "other"},
    ]
    rows = [{"topic": "time", **each} for each in rows]
    with pytest.raises(UserError) as caught:
        read(write, rows, segments=["{{ topic }}: {{ question }}"])
    assert str(caught.value) == (
        f"4 bad rows of 6 (task 'reviews', {tmp_path}/reviews/test.jsonl)\n"
        "  row 3: label: found 'maybe', expected one of right, wrong, or an index from 0 to 1\n"
        "  row 4: candidate: found an empty text\n"
        "  row 5: query: found an empty text\n"
        "  row 6: segments or prompt: they differ from those of test:1, which has the same query,"
        " but may not name what belongs to a candidate"
    )


def test_a_missing_column_is_named(write):
    with pytest.raises(UserError, match=r"no column 'qestion' .*\(task.reviews.query\)"):
        read(write, ROWS, query="{{ qestion }}")


def test_all_contradictions_of_a_ranking_in_one_message():
    with pytest.raises(UserError) as caught:
        check_task(ranking(query=None, choices="texts", labels=["right"], answers=[" right"]))
    assert str(caught.value) == (
        "task 'reviews' ranks the candidates of a query, and names no query (task.reviews.query)\n"
        "a ranking has a list of one template, of the candidate that a row brings; found 'texts'"
        " (task.reviews.choices)\n"
        "the label of a right candidate and that of a wrong one are needed, found ['right']"
        " (task.reviews.labels)\n"
        "only for classification or pair_classification, not for ranking (task.reviews.answers)"
    )
    with pytest.raises(UserError, match=r"only for ranking, not for classification"):
        check_task(reviews(query="{{ text }}"))


def test_what_is_left_out_of_a_ranking_is_filled_in():
    given = {
        "kind": "ranking",
        "source": {"folder": "x"},
        "query": "{{ question }}",
        "choices": ["{{ text }}"],
        "target": "{{ label }}",
        "labels": ["right", "wrong"],
    }
    task = _whole_task("queries", given)
    assert task["segments"] == ["{{ question }}"]
    assert task["prompt"] == ["{{ question }}", "\nAnswer:"]
    assert task["metrics"] == ["accuracy"]
    assert "answers" not in task


def test_a_query_is_asked_with_lists_of_what_belongs_to_its_candidates():
    reader = Reader(ranking(choices=["{{ text }} ({{ year }}, {{ place }})"]))
    asked = reader.ask(
        "text", {"question": "who?", "text": ["b", "a"], "year": [1, 2], "place": "here"}
    )
    assert asked.choices == ("b (1, here)", "a (2, here)")
    assert asked.answers == (" b (1, here)", " a (2, here)")
    assert asked.target is None
    for wrong in ({"text": "b"}, {"text": ["b"]}, {"text": ["b", "a"], "year": [1, 2, 3]}):
        with pytest.raises(UserError, match="expected a list of at least 2 texts in"):
            reader.ask("text", {"question": "who?", "year": 1, "place": "here", **wrong})


def test_accuracy_and_its_chance_are_those_of_a_multiple_choice(write):
    config = ranking()
    check_metrics(config)
    task = read(write, ROWS)
    assert chance(task, "accuracy") == pytest.approx((1 / 3 + 1 / 2) / 2)
