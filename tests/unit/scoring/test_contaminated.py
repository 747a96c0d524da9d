"""Scores of all, clean and overlapping rows, and the file that says which these are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtl.config.errors import UserError
from mtl.config.schema import SourceConfig, TaskConfig
from mtl.scoring.contaminated import (
    OverlappingRows,
    overlapping_rows,
    read_overlap,
    score_parts,
)
from mtl.scoring.score import score_task
from mtl.tasks.splits import make_split
from mtl.tasks.task import Answer, Example, Task


def task(targets) -> Task:
    examples = [
        Example(f"validation:{i}", (f"text {i}",), ("",), target, (" no", " yes"))
        for i, target in enumerate(targets)
    ]
    config = TaskConfig(
        name="made",
        kind="classification",
        source=SourceConfig(),
        target="",
        labels=["no", "yes"],
        metrics=["accuracy", "f1"],
    )
    split = make_split("validation", examples)
    return Task(config, split, None, split)


def test_without_overlap_clean_is_all():
    made = task([0, 1, 1, 0, 1, 0])
    answers = [Answer(value) for value in (0, 1, 0, 0, 1, 1)]
    parts = score_parts(made, made.report, answers, [], resamples=200)
    assert list(parts) == ["all", "clean"]
    assert parts["all"] == parts["clean"] == score_task(made, made.report, answers, resamples=200)


def test_planted_rows_make_the_difference():
    """Ten rows of which four overlap; the model knows these by heart and guesses wrong on half of the others."""
    made = task([0, 1] * 5)
    known = {0, 3, 4, 9}
    wrong = {1, 2, 5}
    answers = [Answer(i % 2 if i not in wrong else 1 - i % 2) for i in range(10)]
    overlapping = [f"validation:{i}" for i in known] + ["validation:99"]
    parts = score_parts(made, made.report, answers, overlapping, resamples=200)
    assert list(parts) == ["all", "clean", "overlapping"]
    assert [part.rows for part in parts.values()] == [10, 6, 4]
    values = [part.metrics["accuracy"].value for part in parts.values()]
    assert values == [0.7, 0.5, 1.0]
    # By hand: of rows 1, 2, 5, 6, 7, 8 the labels are 1 0 1 0 1 0 and the answers 0 1 0 0 1 0.
    assert parts["clean"].metrics["f1"].value == pytest.approx(2 * 1 / (2 * 1 + 1 + 2))
    assert parts["overlapping"].metrics["accuracy"].low == 1.0
    assert parts["clean"].metrics["accuracy"].low < 0.5


def test_where_all_rows_overlap_none_is_clean():
    made = task([0, 1])
    answers = [Answer(0), Answer(1)]
    rows = [example.row for example in made.report.examples]
    parts = score_parts(made, made.report, answers, rows, resamples=0)
    assert list(parts) == ["all", "overlapping"]
    assert parts["all"] == parts["overlapping"]


def written(path: Path, fingerprint: str, **changes) -> Path:
    rows = [{"row": "validation:0", "share": 0.25}, {"row": "validation:2", "share": 1.0}]
    own = {"split": "validation", "fingerprint": fingerprint, "rows": rows, "rows_in_train": None}
    content = {"n": 8, "tasks": {"made": own, "other": {**own, "rows_in_train": rows[:1]}}}
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return path


def test_the_file_is_read(tmp_path):
    path = written(tmp_path / "overlap.json", "abc")
    both = frozenset({"validation:0", "validation:2"})
    whole = OverlappingRows("validation", "abc", both)
    assert read_overlap(path) == {"made": whole, "other": whole}
    assert read_overlap(path, share=0.5)["made"].rows == {"validation:2"}
    own = read_overlap(path, against="train", n=8)
    assert own == {"other": OverlappingRows("validation", "abc", frozenset({"validation:0"}))}


def test_rows_are_those_of_the_split_that_is_scored(tmp_path):
    made = task([0, 1, 0])
    path = written(tmp_path / "overlap.json", made.report.fingerprint)
    rows = overlapping_rows(read_overlap(path), made, made.report, path=path)
    assert rows == {"validation:0", "validation:2"}


MAKE = "python -m mtl.prepare overlap corpus=NAME tasks=[...] out=FILE.json"


def test_other_rows_are_refused_with_both_fingerprints(tmp_path):
    made = task([0, 1, 0])
    path = written(tmp_path / "overlap.json", "0123456789abcdef")
    with pytest.raises(UserError) as caught:
        overlapping_rows(read_overlap(path), made, made.report, path=path)
    assert str(caught.value).splitlines() == [
        "the file is about other rows of 'made': validation 0123456789abcdef, scored are validation"
        f" {made.report.fingerprint} (overlap={path})",
        "  the data, the split or the task file has changed since it was made",
        f"  make it again: {MAKE}",
    ]


def test_an_unknown_task_is_refused(tmp_path):
    made = task([0, 1, 0])
    path = written(tmp_path / "overlap.json", "abc", tasks={})
    with pytest.raises(UserError) as caught:
        overlapping_rows(read_overlap(path), made, made.report, path=path)
    assert str(caught.value).splitlines() == [
        f"unknown task of the file 'made' (overlap={path})",
        "  none is available",
        f"  make it: {MAKE}",
    ]


def test_another_n_is_refused(tmp_path):
    path = written(tmp_path / "overlap.json", "abc", n=13)
    assert read_overlap(path)
    with pytest.raises(UserError) as caught:
        read_overlap(path, n=8)
    assert str(caught.value).splitlines() == [
        f"the file is about 13-grams, not about 8-grams (overlap={path})",
        f"  make it again: {MAKE} n=8",
    ]


WRONG = "not a file of overlapping rows: it lacks n, or tasks with split, fingerprint and rows"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "not valid JSON: Expecting property name enclosed in double quotes: line 1"),
        (b"[1]", WRONG),
        (b'{"tasks": {"cola": {"accuracy": 1}}}', WRONG),
        (b'{"n": 8, "tasks": {"cola": {"accuracy": 1}}}', WRONG),
        (b'{"n": 8, "tasks": {"cola": [1]}}', WRONG),
        (b'{"n": "8", "tasks": {}}', WRONG),
        (
            b'{"n": 8, "tasks": {"cola": {"split": "a", "fingerprint": "b", "rows": [{"row": 1}]}}}',
            WRONG,
        ),
        (b'{"n": 8, \xff', "not UTF-8 at byte 9"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, content, problem):
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_overlap(path)
    assert str(caught.value).startswith(problem)
    assert f"(overlap={path})" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError) as caught:
        read_overlap(tmp_path / "nothing.json")
    assert str(caught.value).splitlines() == [
        f"there is no file {tmp_path / 'nothing.json'} (overlap={tmp_path / 'nothing.json'})",
        f"  make it: {MAKE}",
    ]
    with pytest.raises(UserError, match="it cannot be read"):
        read_overlap(tmp_path)
