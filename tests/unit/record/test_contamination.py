"""The two tables of contamination, as plain text."""

from __future__ import annotations

import io
from typing import Any

from mtl.record.contamination import OverlapReport, percent, print_overlap, print_parts
from mtl.record.summary import TaskScores

REPORT: OverlapReport = {
    "n": 8,
    "false_positive_rate": 1e-8,
    "measured_false_positive_rate": 0.0,
    "corpus": {"name": "books", "fingerprint": "abc", "documents": 52, "ngrams": 5_120_000},
    "filter": {
        "bits_per_ngram": 38.35,
        "hashes": 26,
        "expected_false_positive_rate": 1e-8,
        "absent": 61_234,
        "false_positives": 0,
    },
    "tasks": {
        "ptb": {
            "split": "validation",
            "fingerprint": "one",
            "total": 53,
            "with_ngrams": 53,
            "ngrams": 70_000,
            "found_in_train": 1869,
            "found_in_corpus": 616,
            "rows": [{"row": "validation:0", "share": 0.5}],
            "rows_in_train": [{"row": f"validation:{i}", "share": 0.1} for i in range(44)],
        },
        "lambada": {
            "split": "test",
            "fingerprint": "two",
            "total": 4100,
            "with_ngrams": 4099,
            "ngrams": 200_000,
            "found_in_train": None,
            "found_in_corpus": 40,
            "rows": [{"row": "test:1", "share": 1.0}, {"row": "test:2", "share": 0.1}],
            "rows_in_train": None,
        },
    },
}
TABLE = """\
test set  split       rows  with 8-grams  8-grams  % in own train  % in books  rows: own train  rows: books
-----------------------------------------------------------------------------------------------------------
ptb       validation    53            53    70000            2.67        0.88               44            1
lambada   test        4100          4099   200000               -        0.02                -            2

%: of all 8-grams of the split, each as often as it stands there; rows: those with at least one found
books: 52 documents, 5.12 M 8-grams
Bloom filter: 38.35 bits and 26 hashes for each 8-gram; false positives 1e-08 by formula
false positives measured: 0 of 61234 8-grams that are not there
mean of the test sets: 0.45 % in books, 2.67 % in own train
"""


def overlap_table(report: OverlapReport) -> str:
    file = io.StringIO()
    print_overlap(report, file=file)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def test_the_table_of_gpt2() -> None:
    assert overlap_table(REPORT) == TABLE


def test_what_was_not_measured_is_said_and_one_test_set_has_no_mean() -> None:
    one: Any = {
        **REPORT,
        "filter": {**REPORT["filter"], "absent": None, "false_positives": None},
        "tasks": {"ptb": REPORT["tasks"]["ptb"]},
    }
    assert overlap_table(one).splitlines()[-1] == (
        "false positives not measured: the test sets are too large for an exact set beside the filter"
    )


def test_percent() -> None:
    assert [percent(1, 3), percent(0, 5), percent(None, 5), percent(0, 0)] == [
        "33.33",
        "0.00",
        "-",
        "-",
    ]


def part(rows: int, primary: str, **values: tuple[float, float, float]) -> TaskScores:
    metrics: Any = {
        name: {"value": value, "low": low, "high": high}
        for name, (value, low, high) in values.items()
    }
    return {
        "split": "validation",
        "rows": rows,
        "primary": primary,
        "chance": 0.5,
        "metrics": metrics,
    }


PARTS = """\
task  metric           all                   clean                 overlapping
-------------------------------------------------------------------------------------
cola  matthews *       0.500 [0.400, 0.600]  0.400 [0.300, 0.500]  0.900 [0.800, 1.000]
      accuracy         0.700 [0.600, 0.800]  0.650 [0.550, 0.750]  0.950 [0.900, 1.000]
      rows             100                   80                    20
ptb   bits_per_byte *  2.000 [1.900, 2.100]  2.000 [1.900, 2.100]  -
      rows             53                    53                    0

* primary metric; [low, high] is the bootstrap 95 % interval
bits_per_byte: lower is better
ptb: no row is overlapping
overlap: 8-grams of books
"""


def test_the_parts_side_by_side() -> None:
    cola = {
        "all": part(100, "matthews", accuracy=(0.7, 0.6, 0.8), matthews=(0.5, 0.4, 0.6)),
        "clean": part(80, "matthews", accuracy=(0.65, 0.55, 0.75), matthews=(0.4, 0.3, 0.5)),
        "overlapping": part(20, "matthews", accuracy=(0.95, 0.9, 1.0), matthews=(0.9, 0.8, 1.0)),
    }
    whole = part(53, "bits_per_byte", bits_per_byte=(2.0, 1.9, 2.1))
    whole["lower_is_better"] = ["bits_per_byte"]
    file = io.StringIO()
    tasks = {"cola": cola, "ptb": {"all": whole, "clean": whole}}
    print_parts(tasks, notes=["overlap: 8-grams of books"], file=file)
    shown = [line.rstrip() for line in file.getvalue().splitlines()]
    expected = PARTS.splitlines()
    assert [line.strip("-") for line in shown] == [line.strip("-") for line in expected]
