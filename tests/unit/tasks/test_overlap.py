"""Evaluation rows that stand among training rows."""

from __future__ import annotations

import pytest

from mtl.config.schema import DataConfig, SourceConfig
from mtl.tasks.overlap import Overlap, exclude_overlap, find_overlap, normalise
from mtl.tasks.reading import Reader
from mtl.tasks.sources import read_rows
from mtl.tasks.splits import make_split
from mtl.tasks.task import Example, Task

from .conftest import CONFIGS, names, read_task_file, reviews


def task(name, train, report, identifying=(), selection=()) -> Task:
    """A task of rows that are given by their segments."""

    def split(purpose, rows):
        examples = [
            Example(f"{purpose}:{row}", tuple(segments), ("",), 0, (" a", " b"))
            for row, segments in enumerate(rows)
        ]
        return make_split(purpose, examples)

    count = max(len(row) for row in (*train, *report))
    config = reviews(name=name, segments=["{{ text }}"] * count, identifying=list(identifying))
    return Task(
        config, split("train", train), split("train", selection), split("validation", report)
    )


def found(*tasks):
    return [
        (o.evaluation_task, o.purpose, o.train_task, o.rows, o.train_rows)
        for o in find_overlap(tasks)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It 's 9 1/2, O.K.?", "its912ok"),
        ("#Person1#: Hi.\n  W: Ho!", "hiho"),
        ("Grüße_aus", "grüßeaus"),
        ("9 ½ weeks", "912weeks"),
        ("你好 世界", "你好世界"),
        ("?!", ""),
    ],
)
def test_normalisation(text, expected):
    assert normalise(text) == expected


def test_single_texts_of_any_length_match_whole():
    first = task("first", [["No."], ["a good film"]], [["other"]])
    second = task(
        "second", [["nothing"]], [["no !"], ["fine"], ["A good, film"], ["a good film indeed"]]
    )
    assert found(first, second) == [("second", "report", "first", (0, 2), (0, 1))]


def test_pairs_match_in_any_order_and_only_as_pairs():
    long = "a sentence that is long enough"
    trained = task("trained", [[long, "b"]], [["x", "y"]])
    asked = task("asked", [["z", "z"]], [["B", long], [long, "c"], ["b", "a"]])
    assert found(trained, asked) == [("asked", "report", "trained", (0,), (0,))]


def test_long_identifying_segments_match_alone():
    premise = "a premise that is long enough"
    trained = task("trained", [[premise, "b"], ["short", "b"]], [["x", "y"]], identifying=[0])
    captions = task("captions", [["z"]], [[premise], ["short"]])
    others = task(
        "others", [["z", "z"]], [[premise, "q"], ["q", premise], ["short", "q"]], identifying=[0]
    )
    assert found(trained, captions, others) == [
        ("captions", "report", "trained", (0,), (0,)),
        ("others", "report", "trained", (0,), (0,)),
    ]


def test_empty_texts_match_nothing():
    assert (
        found(task("one", [["?"], ["..."]], [["!"]]), task("two", [["?", "."]], [["", ""]])) == []
    )


def test_excluded_rows_are_gone_and_said():
    first = task("first", [["keep"], ["a good film"], ["A GOOD FILM"]], [["x"]], selection=[["s"]])
    second = task("second", [["a good film"], ["y"]], [["a good film"]])
    tasks = [first, second]
    overlaps = find_overlap(tasks)
    assert overlaps[0] == Overlap(
        evaluation_task="second",
        purpose="report",
        split="validation",
        train_task="first",
        rows=(0,),
        train_rows=(1, 2),
        total=1,
    )
    cleaned = exclude_overlap(tasks, overlaps)
    assert find_overlap(cleaned) == []
    assert [example.segments for example in cleaned[0].train.examples] == [("keep",)]
    assert cleaned[0].train.note == "2 rows that overlap evaluation rows removed"
    assert cleaned[1].train.note == "1 rows that overlap evaluation rows removed"
    assert cleaned[0].train.fingerprint != first.train.fingerprint
    assert cleaned[0].report is first.report
    assert exclude_overlap(tasks, []) == tasks


PUBLISHED = """
cola validation cola 9
dialogsum validation dialogsum 1
dialogsum validation dream 8
dream validation dialogsum 61
mrpc validation mrpc 7
mrpc validation stsb 55
multi30k test snli 17
multi30k validation multi30k 1
multi30k validation snli 19
qnli validation xquad_en 52
rotten_tomatoes test sst2 762
rotten_tomatoes test subj 212
rotten_tomatoes validation sst2 786
rotten_tomatoes validation subj 305
rte validation rte 26
scitldr validation scitldr 1
snli validation multi30k 216
sst2 validation rotten_tomatoes 731
sst2 validation sst2 2
sst2 validation subj 193
stsb validation mrpc 110
stsb validation stsb 8
subj test rotten_tomatoes 328
subj test sst2 262
xquad_en validation qnli 53
"""


def text_of(name: str) -> str:
    return (CONFIGS / "task" / f"{name}.yaml").read_text(encoding="utf-8")


def test_the_overlap_of_the_data_pack_is_the_published_one(data_root):
    """The table beside the data, every count, on whole train files: no selection rows are cut here."""
    data = DataConfig(root=str(data_root))
    tasks = []
    # Rows of others, which a protocol that builds on another task has too.
    twice = {"trec_fine", "multi30k_en_fr", "mnli_mismatched", "qnli_ranking", "sst2_gpt1"}
    twice |= {name for name in names("task") if "defaults:" in text_of(name)}
    for name in names("task"):
        config = read_task_file(name)
        source: SourceConfig = config.source
        if (
            name in twice
            or source.microworld
            or source.train is None
            or config.kind == "language_modelling"
            or not (data_root / str(source.folder)).is_dir()
        ):
            continue
        reader = Reader(config)

        def split(name, config=config, reader=reader):
            rows = read_rows(config.source, name, data, task=config.name)
            return make_split(name, reader.read(rows)[0])

        selection = split(source.validation) if source.validation else None
        tasks.append(Task(config, split(source.train), selection, split(source.report)))
    counted = {
        f"{o.evaluation_task} {o.split} {o.train_task} {len(o.rows)}" for o in find_overlap(tasks)
    }
    assert counted == set(PUBLISHED.strip().splitlines())
