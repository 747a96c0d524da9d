"""Which rows train, select and are reported."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.config.schema import DataConfig, SourceConfig
from mtl.tasks.documents import BLOCK, join_lines
from mtl.tasks.loading import load_task
from mtl.tasks.splits import cut_selection, fingerprint, selection_size, subsample
from mtl.tasks.task import Example

from .conftest import numbered, read_task_file, reviews


def ids(split) -> list[str]:
    return [example.row for example in split.examples]


def test_validation_selects_where_a_test_split_is_reported(write):
    data = write(train=numbered(30), validation=numbered(4), test=numbered(5))
    config = reviews(source=SourceConfig(folder="reviews", validation="validation", report="test"))
    task = load_task(config, data, seed=0)
    assert task.train is not None
    assert task.selection is not None
    assert ids(task.train) == [f"train:{index}" for index in range(30)]
    assert ids(task.selection) == [f"validation:{index}" for index in range(4)]
    assert ids(task.report) == [f"test:{index}" for index in range(5)]
    assert task.train.note == task.selection.note == task.report.note == ""


def test_selection_is_cut_from_train_where_validation_is_reported(write):
    data = replace(write(train=numbered(200), validation=numbered(7)), selection_rows=15)
    task = load_task(reviews(), data, seed=3)
    assert (task.train.name, task.selection.name, task.report.name) == (
        "train",
        "train",
        "validation",
    )
    assert sorted(ids(task.train) + ids(task.selection)) == sorted(
        f"train:{index}" for index in range(200)
    )
    assert len(task.selection.examples) == 15
    assert task.selection.note == "15 of 200 rows of train, seed 3"
    assert task.train.note == "185 of 200 rows of train, seed 3"


def test_the_cut_depends_on_seed_and_name_alone(write):
    data = write(train=numbered(200), validation=numbered(7))

    def cut(seed=0, **changes):
        return ids(load_task(reviews(**changes), data, seed=seed).selection)

    assert cut() == cut()
    assert cut() != cut(seed=1)
    assert cut() != cut(name="other")
    assert cut() == cut(prompt=["{{ text }}", " So?"])


def test_permuted_labels_give_the_same_cut(write):
    flipped = [{**row, "label": 1 - row["label"]} for row in numbered(200)]
    cuts = [
        ids(load_task(reviews(), write(train=rows, validation=numbered(7)), seed=0).selection)
        for rows in (numbered(200), flipped)
    ]
    assert cuts[0] == cuts[1]


def example(segment: str, row: int) -> Example:
    return Example(f"train:{row}", (segment,), (segment,), 0, (" a", " b"))


@given(
    passages=st.lists(st.integers(0, 12), min_size=2, max_size=60),
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 5),
)
def test_cuts_are_nested_and_keep_passages_together(passages, sizes, seed):
    examples = [example(f"passage {passage}", row) for row, passage in enumerate(passages)]
    small, large = (
        cut_selection(examples, min(size, len(examples)), task="t", seed=seed)
        for size in sorted(sizes)
    )
    assert len(small) == min(min(sizes), len(examples))
    assert small == sorted(set(small))
    assert set(small) <= set(large)
    inside = {passages[position] for position in small}
    outside = {passage for position, passage in enumerate(passages) if position not in set(small)}
    assert len(inside & outside) <= 1


@pytest.mark.parametrize(
    ("rows", "at_most", "share", "expected"),
    [
        (67349, 500, 0.1, 500),
        (400, 500, 0.1, 40),
        (2, 500, 0.1, 1),
        (5, 500, 1.0, 4),
        (9, 0, 0.1, 1),
    ],
)
def test_selection_size(rows, at_most, share, expected):
    assert selection_size(rows, at_most=at_most, share=share) == expected


@given(
    rows=st.integers(1, 200),
    shares=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
    seed=st.integers(0, 5),
)
def test_fractions_are_nested_and_rounded_up(rows, shares, seed):
    examples = [example("same", row) for row in range(rows)]
    small, large = (subsample(examples, s, task="t", seed=seed) for s in sorted(shares))
    assert len(small) == math.ceil(round(min(shares) * rows, 6))
    assert small == sorted(set(small))
    assert set(small) <= set(large)
    assert subsample(examples, 1.0, task="t", seed=seed) == list(range(rows))
    # A row keeps its rank whatever other rows there are.
    kept = [examples[position] for position in large]
    assert [kept[p] for p in subsample(kept, len(small) / len(kept), task="t", seed=seed)] == [
        examples[position] for position in small
    ]


def test_a_fraction_cuts_the_training_rows_alone(write):
    data = write(train=numbered(400), validation=numbered(7))
    whole = load_task(reviews(), data, seed=3)
    tenth = load_task(reviews(), data, seed=3, fraction=0.1)
    hundredth = load_task(reviews(), data, seed=3, fraction=0.01)
    assert (tenth.selection, tenth.report) == (whole.selection, whole.report)
    assert [len(task.train.examples) for task in (whole, tenth, hundredth)] == [360, 36, 4]
    assert set(ids(hundredth.train)) < set(ids(tenth.train)) < set(ids(whole.train))
    assert ids(tenth.train) == sorted(ids(tenth.train), key=lambda row: int(row.split(":")[1]))
    assert tenth.train.note == (
        "360 of 400 rows of train, seed 3; 36 of 360 rows of train (fraction 0.1, seed 3)"
    )
    assert tenth.train.fingerprint != whole.train.fingerprint
    assert load_task(reviews(), data, seed=3, fraction=1.0) == whole
    assert ids(load_task(reviews(), data, seed=4, fraction=0.1).train) != ids(tenth.train)


def test_a_fraction_goes_by_the_name_of_the_task(write):
    data = write(train=numbered(40), validation=numbered(7))
    fraction = {"reviews": 0.5}
    assert len(load_task(reviews(), data, seed=0, fraction=fraction).train.examples) == 18
    other = load_task(reviews(name="other"), data, seed=0, fraction=fraction)
    assert len(other.train.examples) == 36
    one, two = (
        ids(load_task(reviews(name=name), data, seed=0, fraction=0.5).train)
        for name in ("one", "two")
    )
    assert set(one) != set(two)


@pytest.mark.parametrize("fraction", [0.0, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_refused(write, fraction):
    data = write(train=numbered(40), validation=numbered(7))
    with pytest.raises(UserError) as raised:
        load_task(reviews(), data, seed=0, fraction=fraction)
    assert str(raised.value) == (
        "a fraction of the training rows is more than 0 and at most 1 "
        f"(fraction={fraction} (task 'reviews'))"
    )


def test_evaluation_only(write):
    config = reviews(source=SourceConfig(folder="reviews", train=None, report="test"))
    task = load_task(config, write(test=numbered(3)), seed=0)
    assert task.train is None
    assert task.selection is None
    assert len(task.report.examples) == 3


def test_one_row_cannot_be_cut(write):
    data = write(train=numbered(1), validation=numbered(3))
    with pytest.raises(UserError, match="has 1 row; 2 are needed"):
        load_task(reviews(), data, seed=0)


def test_a_fingerprint_changes_with_any_content():
    first = Example("train:0", ("a",), ("b",), 0, (" x",), ("c",), ("d",))
    changes = {
        "row": "train:1",
        "segments": ("a", ""),
        "prompt": ("a",),
        "target": 1,
        "answers": (" y",),
        "choices": (),
        "references": ("e",),
    }
    others = [fingerprint([replace(first, **{field: value})]) for field, value in changes.items()]
    assert len({fingerprint([first]), fingerprint([]), fingerprint([first, first]), *others}) == 10
    assert len(fingerprint([first])) == 16


def test_microworld_is_generated():
    task = load_task(read_task_file("microworld_sentiment"), DataConfig(), seed=0)
    assert (task.train.name, task.selection.name, task.report.name) == (
        "train",
        "validation",
        "test",
    )
    assert {item.target for item in task.report.examples} == {0, 1}


LINES = [
    "",
    " = A = ",
    "",
    " text = b ",
    " = = B = = ",
    "",
    " = C = ",
    "more",
    "",
    " = D = ",
    "",
    "end",
]


def test_articles_begin_at_top_level_headings():
    documents = join_lines(LINES, "articles")
    assert [document.split("=")[1].strip() for document in documents] == ["A", "D"]
    assert "".join(documents) == "".join(f"{line}\n" for line in LINES)


@given(st.lists(st.sampled_from(["", "word", " = T = ", "  "]), max_size=400))
def test_documents_joined_are_the_text(lines):
    for how in ("articles", "blocks"):
        documents = join_lines(lines, how)
        assert "".join(documents) == "".join(f"{line}\n" for line in lines)


def test_blocks():
    assert [len(text.splitlines()) for text in join_lines(["w"] * 150, "blocks")] == [
        BLOCK,
        BLOCK,
        22,
    ]
    speeches = ["w", "w", ""] * 60
    documents = join_lines(speeches, "blocks")
    assert all(document.endswith("\n\n") for document in documents)
    assert [document.count("\n") for document in documents] == [66, 66, 48]


def test_ptb_lines_become_blocks(write, tmp_path):
    place = tmp_path / "reviews"
    place.mkdir()
    for split in ("train", "validation"):
        (place / f"{split}.txt").write_text("".join(f" line {index} \n" for index in range(640)))
    source = SourceConfig(folder="reviews", documents="blocks")
    config = reviews(
        kind="language_modelling",
        source=source,
        segments=[],
        prompt=[],
        target="{{ text }}",
        labels=[],
        answers=[],
    )
    task = load_task(config, write(), seed=0)
    assert task.report.note == "10 documents (blocks)"
    assert task.train.note == "10 documents (blocks); 9 of 10 rows of train, seed 0"
    whole = "".join(f" line {index} \n" for index in range(640))
    assert "".join(item.references[0] for item in task.report.examples) == whole
    assert all(item.prompt == item.segments == () for item in task.report.examples)
