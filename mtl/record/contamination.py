"""Tables of contamination: how much of a test set stands in a training text, and what that does to the scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, TypedDict

from mtl.record.numbers import MISSING, count
from mtl.record.summary import TaskScores
from mtl.record.table import PLAIN_WIDTH, falling, interval

if TYPE_CHECKING:
    from rich.console import RenderableType

PARTS = ("all", "clean", "overlapping")
"""Columns of :func:`print_parts`."""


class RowOverlap(TypedDict):
    """A row of which at least one n-gram was found."""

    row: str
    """Identity of the row inside its dataset."""
    share: float
    """Share of its n-grams that were found."""


class TaskOverlap(TypedDict):
    """What was found of one test set."""

    split: str
    """Published split the rows come from."""
    fingerprint: str
    """Content hash of the rows."""
    total: int
    """Rows of the split."""
    with_ngrams: int
    """Rows that are long enough to have an n-gram."""
    ngrams: int
    """N-grams of the split, each as often as it stands there."""
    found_in_train: int | None
    """How many of them stand in the task's own training rows; null where it has none."""
    found_in_corpus: int
    """How many of them stand in the corpus."""
    rows: list[RowOverlap]
    """Rows that overlap with the corpus."""
    rows_in_train: list[RowOverlap] | None
    """Rows that overlap with the task's own training rows; null where it has none."""


class CorpusText(TypedDict):
    """The text that was looked through."""

    name: str
    fingerprint: str
    """Content hash of its training documents."""
    documents: int
    ngrams: int
    """N-grams of the documents, each as often as it stands there."""


class Filter(TypedDict):
    """The Bloom filter of the corpus."""

    bits_per_ngram: float
    hashes: int
    expected_false_positive_rate: float
    """By formula, were all n-grams of the corpus different."""
    absent: int | None
    """N-grams asked for that really are not there, of all filters, those of own training rows among them."""
    false_positives: int | None
    """How many of these a filter has nevertheless."""


class OverlapReport(TypedDict):
    """The JSON file of ``python -m mtl.prepare overlap``."""

    n: int
    """Words of an n-gram."""
    false_positive_rate: float
    """Chosen for the filters."""
    measured_false_positive_rate: float | None
    """Of the n-grams asked for, against the exact set; null where that would not have fitted into memory."""
    corpus: CorpusText
    filter: Filter
    tasks: dict[str, TaskOverlap]


def print_overlap(report: OverlapReport, *, file: TextIO | None = None) -> None:
    """GPT-2's Table 6, a test set a line: coloured on a terminal, else plain text."""
    n, corpus = report["n"], report["corpus"]["name"]
    headings = ["test set", "split", "rows", f"with {n}-grams", f"{n}-grams"]
    headings += ["% in own train", f"% in {corpus}", "rows: own train", f"rows: {corpus}"]
    rows = []
    for name, task in report["tasks"].items():
        own = task["rows_in_train"]
        rows.append(
            [
                *(name, task["split"], str(task["total"]), str(task["with_ngrams"])),
                str(task["ngrams"]),
                percent(task["found_in_train"], task["ngrams"]),
                percent(task["found_in_corpus"], task["ngrams"]),
                MISSING if own is None else str(len(own)),
                str(len(task["rows"])),
            ]
        )
    _print(headings, rows, overlap_notes(report), left=2, file=file)


def overlap_notes(report: OverlapReport) -> list[str]:
    """What must be known to read the table."""
    n, corpus, sieve = report["n"], report["corpus"], report["filter"]
    measured = (
        "not measured: the test sets are too large for an exact set beside the filter"
        if sieve["absent"] is None
        else f"measured: {sieve['false_positives']} of {sieve['absent']} {n}-grams that are not there"
    )
    notes = [
        f"%: of all {n}-grams of the split, each as often as it stands there; rows: those with at least one found",
        f"{corpus['name']}: {corpus['documents']} documents, {count(corpus['ngrams'])} {n}-grams",
        f"Bloom filter: {sieve['bits_per_ngram']:.2f} bits and {sieve['hashes']} hashes for each {n}-gram;"
        f" false positives {report['false_positive_rate']:g} by formula",
        f"false positives {measured}",
    ]
    found = [
        (task["found_in_train"], task["found_in_corpus"], task["ngrams"])
        for task in report["tasks"].values()
        if task["ngrams"]
    ]
    if len(found) > 1:
        own = [100 * train / ngrams for train, _, ngrams in found if train is not None]
        shown = f", {sum(own) / len(own):.2f} % in own train" if own else ""
        mean = sum(100 * hits / ngrams for _, hits, ngrams in found) / len(found)
        notes.append(f"mean of the test sets: {mean:.2f} % in {corpus['name']}{shown}")
    return notes


def percent(part: int | None, whole: int) -> str:
    """``2.67``; ``-`` where there is nothing to divide by."""
    return MISSING if part is None or not whole else f"{100 * part / whole:.2f}"


def print_parts(
    tasks: Mapping[str, Mapping[str, TaskScores]],
    *,
    notes: Sequence[str] = (),
    file: TextIO | None = None,
) -> None:
    """Scores of all rows, of the clean and of the overlapping ones side by side, each with its interval.

    :param tasks: For each task the scores of its parts, as :func:`mtl.scoring.contaminated.score_parts` gives them; a
        part without rows is absent, and is shown as ``-``.
    :param notes: Lines below the table.
    """
    rows = []
    for name, parts in tasks.items():
        whole = parts["all"]
        ordered = sorted(whole["metrics"], key=lambda metric: metric != whole["primary"])
        for metric in ordered:
            mark = " *" if metric == whole["primary"] else ""
            shown = [
                interval(parts[part]["metrics"][metric]) if part in parts else MISSING
                for part in PARTS
            ]
            rows.append([name if metric == ordered[0] else "", f"{metric}{mark}", *shown])
        counts = [str(parts[part]["rows"]) if part in parts else "0" for part in PARTS]
        rows.append(["", "rows", *counts])
    said = ["* primary metric; [low, high] is the bootstrap 95 % interval"]
    if lower := falling([parts["all"] for parts in tasks.values()]):
        said.append(f"{', '.join(lower)}: lower is better")
    for name, parts in tasks.items():
        said += [f"{name}: no row is {part}" for part in PARTS if part not in parts]
    _print(["task", "metric", *PARTS], rows, [*said, *notes], left=5, file=file)


def _print(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    *,
    left: int,
    file: TextIO | None,
) -> None:
    """A table and the notes below it. ``left``: columns that are words, and stand left."""
    from rich.console import Console, Group
    from rich.text import Text

    file = file or sys.stdout
    plain = not file.isatty()
    remarks = [Text(text, style="" if plain else "dim") for text in notes]
    console = Console(file=file, width=PLAIN_WIDTH if plain else None)
    console.print(Group(_table(headings, rows, left=left, plain=plain), "", *remarks))


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, plain: bool
) -> RenderableType:
    from rich.box import SIMPLE_HEAD, Box
    from rich.table import Table
    from rich.text import Text

    ruled = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    table = Table(
        box=ruled if plain else SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=number < 2)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
