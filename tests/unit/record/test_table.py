from __future__ import annotations

import io
from typing import Any

import pytest

from mtl.record.numbers import count, duration, score
from mtl.record.summary import Summary
from mtl.record.table import above_references, as_html, as_text, print_scores, print_table

EXPECTED = """
task_signal, balance equal, seed 3

task  metric                        value [95 % interval]    chance  majority  rows
-----------------------------------------------------------------------------------
sst2  accuracy *                    0.812 [0.783, 0.840]      0.500     0.509   872
mrpc  f1 *                          0.790 [0.750, 0.830]      0.576     0.812   872
      accuracy                      0.700 [0.660, 0.740]
ptb   bits_per_byte_disjoint *      2.310 [2.250, 2.360]      8.000         -   872
      perplexity_per_word_disjoint  5120.0 [4300.0, 6000.0]

* primary metric, the one in the average; [low, high] is the bootstrap 95 % interval
bits_per_byte_disjoint, perplexity_per_word_disjoint: lower is better
not clearly better than chance and majority: mrpc
mrpc: 17 of 408 rows were cut to the context of 128 tokens
overlap: 3 of 872 report rows of sst2 also stand in the training rows of mrpc

average     0.512 (primary metrics rescaled so that chance = 0 and perfect = 1)
training    2.00 M tokens, 489 steps, 1:49, 18.4 k tokens/s
parameters  1.24 M = 1.23 M shared + 516 of single tasks (258 each)
run folder  runs/x
"""


def test_the_whole_table(summary: Summary) -> None:
    assert as_text(summary, "runs/x") == EXPECTED


def test_a_pipe_gets_plain_text(summary: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    print_table(summary, "runs/x", file=file)
    assert file.getvalue() == EXPECTED


def test_a_terminal_gets_colour(summary: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    file = Terminal()
    print_table(summary, "runs/x", file=file)
    assert "\x1b[1;32m0.812 [0.783, 0.840]" in file.getvalue()
    assert "\x1b[1;33m0.790 [0.750, 0.830]" in file.getvalue()


def test_the_bag_of_words_has_a_column_where_it_is_known(summary: Summary) -> None:
    summary["tasks"]["sst2"]["bag_of_words"] = 0.802
    lines = as_text(summary, "x").splitlines()
    assert "majority  bag of words  rows" in lines[3]
    assert lines[5].split()[-3:] == ["0.509", "0.802", "872"]


def test_an_undefined_value_and_missing_intervals(summary: Summary) -> None:
    summary["tasks"]["sst2"]["metrics"]["accuracy"] = {"value": None, "low": None, "high": None}
    summary["tasks"]["mrpc"]["metrics"]["f1"].update(low=None, high=None)
    text = as_text(summary, "x").splitlines()
    assert text[5].split() == ["sst2", "accuracy", "*", "-", "0.500", "0.509", "872"]
    assert text[6].split() == ["mrpc", "f1", "*", "0.790", "0.576", "0.812", "872"]


def test_a_run_that_saw_no_label_stands_in_a_panel_of_its_own(summary: Summary) -> None:
    said = "zero-shot: trained on no labelled row; these scores belong in a panel of their own"
    summary["panel"] = "supervised"
    assert said not in as_text(summary, "x")
    summary["panel"] = "zero-shot"
    assert said in as_text(summary, "x").splitlines()


def test_freely_decoded_answers_have_lines_and_an_explanation(summary: Summary) -> None:
    for name, value in (("decoded_accuracy", 0.7), ("invalid_share", 0.125)):
        summary["tasks"]["sst2"]["metrics"][name] = {"value": value, "low": 0.1, "high": 0.9}
    text = as_text(summary, "x").splitlines()
    assert text[6].split() == ["decoded_accuracy", "0.700", "[0.100,", "0.900]"]
    assert text[7].split() == ["invalid_share", "0.125", "[0.100,", "0.900]"]
    assert (
        "decoded_accuracy: of answers written freely rather than ranked; invalid_share: those that are no answer"
        in text
    )


@pytest.mark.parametrize(
    ("signal", "title"),
    [
        ("shuffled", "control: signal=shuffled, each row has the signal of a task drawn for it"),
        ("wrong", "control: signal=wrong, each row has the signal of another task"),
    ],
)
def test_the_scores_of_a_control_say_so_first(summary: Summary, signal: str, title: str) -> None:
    file, plain = io.StringIO(), io.StringIO()
    print_scores(summary["tasks"], signal=signal, file=file)
    print_scores(summary["tasks"], file=plain)
    assert file.getvalue() == f"{title}\n\n{plain.getvalue()}"


def test_an_interrupted_run_says_so(summary: Summary) -> None:
    summary["status"] = "interrupted"
    assert "the run is not finished: interrupted" in as_text(summary, "x")


@pytest.mark.parametrize(
    ("primary", "low", "high", "chance", "majority", "expected"),
    [
        ("accuracy", 0.6, 0.7, 0.5, 0.55, True),
        ("accuracy", 0.52, 0.7, 0.5, 0.55, False),
        ("accuracy", 0.52, 0.7, 0.5, None, True),
        ("bits_per_byte", 2.0, 2.1, 8.0, None, True),
        ("bits_per_byte", 7.9, 8.1, 8.0, None, False),
        ("accuracy", None, None, 0.5, None, None),
        ("accuracy", 0.5, 0.6, None, None, None),
    ],
)
def test_clearly_better_is_a_matter_of_the_interval(
    primary: str, low: Any, high: Any, chance: Any, majority: Any, expected: bool | None
) -> None:
    value = {"value": 0.0, "low": low, "high": high}
    task: Any = {
        "primary": primary,
        "chance": chance,
        "majority": majority,
        "metrics": {primary: value},
        "lower_is_better": [primary] if primary == "bits_per_byte" else [],
    }
    assert above_references(task) is expected


def test_removed_overlap_is_said_and_many_pairs_are_counted(summary: Summary) -> None:
    summary["overlap"][0]["excluded"] = True
    summary["overlap"] *= 10
    overlaps = [line for line in as_text(summary, "x").splitlines() if line.startswith("overlap: ")]
    assert len(overlaps) == 9
    assert overlaps[0].endswith("the training rows of mrpc, removed from training")
    assert overlaps[-1] == "overlap: 2 more pairs of tasks in summary.json"


def test_the_notebook_escapes_names(summary: Summary) -> None:
    summary["tasks"]["<b>"] = summary["tasks"].pop("sst2")
    page = as_html(summary, "runs/x")
    assert "&lt;b&gt;" in page
    assert page.count("<tr>") == 6


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (872, "872"), (9999, "9999"), (18432, "18.4 k"), (1_999_999, "2.00 M"), (124_439_808, "124 M"),
     (1.5e13, "15.0 T")],
)  # fmt: skip
def test_counts(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (59.97, "1:00"), (108.7, "1:49"), (3599.6, "1:00:00"), (7509, "2:05:09")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_scores() -> None:
    assert [score(value) for value in (None, float("nan"), -0.0312, 12.345)] == [
        "-",
        "-",
        "-0.031",
        "12.3",
    ]
