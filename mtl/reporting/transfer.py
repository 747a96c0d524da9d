"""Who helps whom as a table: helpers down, targets across."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtl.comparing.answer import Answer, Transfer
from mtl.record import numbers
from mtl.reporting import numerals
from mtl.reporting.tables import Column, Entry, Group, Table, missing, words
from mtl.reporting.view import View

ALONE = "alone, score"


def transfer_tables(view: View) -> Iterator[Table]:
    """One for each way of learning the study asked about."""
    families = list(dict.fromkeys(one.family for one in view.answer.transfers))
    for number, family in enumerate(families, start=1):
        cells = {
            (one.helper, one.target): one for one in view.answer.transfers if one.family == family
        }
        tasks = _tasks(view.results.tasks, cells)
        several = len(families) > 1
        yield Table(
            name=f"transfer_{number}" if several else "transfer",
            title=f"Transfer between tasks{f', {family}' if several else ''}",
            columns=[Column("helper", number=False), *(Column(task) for task in tasks)],
            groups=[
                Group(
                    rows=[
                        [words(helper), *(_entry(cells.get((helper, task))) for task in tasks)]
                        for helper in tasks
                    ]
                )
            ],
            reading="Points that the target (column) gains when the helper (row) is trained beside it, against the "
            "target alone, paired by seed. Bold: a claim.",
        )


def transfer_rows(answer: Answer, family: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows for a terminal: names without what all of them begin with, ``*`` behind a claim."""
    cells = {(one.helper, one.target): one for one in answer.transfers if one.family == family}
    tasks = _tasks([task for pair in cells for task in pair], cells)
    begin = f"{tasks[0].partition('_')[0]}_"
    common = begin if all(task.startswith(begin) for task in tasks) else ""
    short = {task: task.removeprefix(common) for task in tasks}
    rows = [
        [short[helper], *(_short(cells.get((helper, task))) for task in tasks)] for helper in tasks
    ]
    alone = [answer.cell(f"{family}/{task}", task) for task in tasks]
    rows.append([ALONE, *(numbers.score(one.mean.value if one else None) for one in alone)])
    return [f"helper \\ target, points{f' ({common})' if common else ''}", *short.values()], rows


def _tasks(order: Sequence[str], cells: dict[tuple[str, str], Transfer]) -> list[str]:
    present = {task for pair in cells for task in pair}
    return [task for task in dict.fromkeys(order) if task in present]


def _short(one: Transfer | None) -> str:
    if one is None:
        return numbers.MISSING
    return f"{one.points.value:+.1f}{'' if one.verdict == 'undecided' else '*'}"


def _entry(one: Transfer | None) -> Entry:
    if one is None:
        return missing("not measured")
    return Entry(
        text=numerals.change(one.points.value),
        why=f"{one.verdict}{numerals.span(one.points, numerals.change)}",
        strong=one.verdict != "undecided",
    )
