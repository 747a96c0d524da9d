"""The table at the end of a run: every score beside its interval, chance and baselines, then what it cost."""

from __future__ import annotations

import html
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from mtl.record.numbers import count, duration, score
from mtl.record.summary import Summary, TaskScores, Value

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_WIDTH = 120
RANKED = "accuracy_by_"
DECODED = ("decoded_accuracy", "invalid_share")
CONTROLS = {
    "shuffled": "control: signal=shuffled, each row has the signal of a task drawn for it",
    "wrong": "control: signal=wrong, each row has the signal of another task",
}

OVERLAPS_SHOWN = 8

BASELINES = (("majority", "majority"), ("bag_of_words", "bag of words"))
"""Optional columns beside chance: key in summary.json and heading."""


@dataclass(frozen=True)
class Line:
    """One metric of one task, ready to be shown."""

    name: str
    """Of the task."""
    task: str
    """What stands in the first column: empty below the first line of a task."""
    metric: str
    value: str
    references: tuple[str, ...]
    """Chance and the baselines, on the primary metric's line only."""
    rows: str
    primary: bool


def print_table(
    summary: Summary, path: str | os.PathLike[str], *, file: TextIO | None = None
) -> None:
    """Print the table: coloured and as wide as it is on a terminal, else plain text of at most 120 columns."""
    from rich.console import Console

    file = file or sys.stdout
    if file.isatty():
        Console(file=file).print(_renderable(summary, path, plain=False))
    else:
        file.write(as_text(summary, path))


def print_scores(
    tasks: Mapping[str, TaskScores], *, signal: str = "right", file: TextIO | None = None
) -> None:
    """The table of scores alone, without a run's costs.

    :param signal: Which control the scores are of, see :class:`mtl.config.verb_schema.EvaluateConfig`.
    """
    from rich.console import Console, Group
    from rich.text import Text

    file = file or sys.stdout
    plain = not file.isatty()
    remarks = [Text(text, style="" if plain else "dim") for text in score_notes(tasks)]
    console = Console(file=file, width=PLAIN_WIDTH if plain else None)
    title = [Text(CONTROLS[signal]), Text()] if signal in CONTROLS else []
    console.print(Group(*title, _score_table(tasks, plain=plain), "", *remarks))


def as_text(summary: Summary, path: str | os.PathLike[str]) -> str:
    """The table as plain ASCII without control characters."""
    from rich.console import Console

    file = io.StringIO()
    console = Console(
        file=file, width=PLAIN_WIDTH, force_terminal=False, force_jupyter=False, color_system=None
    )
    console.print(_renderable(summary, path, plain=True))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def as_html(summary: Summary, path: str | os.PathLike[str]) -> str:
    """The table for a notebook."""
    cells = [f"<th>{html.escape(heading)}</th>" for heading in _headings(summary["tasks"])]
    rows = [f"<tr>{''.join(cells)}</tr>"]
    for line in lines(summary["tasks"]):
        texts = (line.task, line.metric, line.value, *line.references, line.rows)
        tag = "b" if line.primary else "span"
        rows.append(
            "<tr>"
            + "".join(f"<td><{tag}>{html.escape(text)}</{tag}></td>" for text in texts)
            + "</tr>"
        )
    below = [*_average(summary), *notes(summary), *costs(summary, path)]
    return f"<table>{''.join(rows)}</table><p>{'<br>'.join(map(html.escape, below))}</p>"


def lines(tasks: Mapping[str, TaskScores]) -> Iterator[Line]:
    """One line per task and metric, the primary metric first."""
    keys = ["chance", *(key for key, _ in _baselines(tasks))]
    for name, task in tasks.items():
        ordered = sorted(task["metrics"], key=lambda metric: metric != task["primary"])
        for metric in ordered:
            primary = metric == task["primary"]
            yield Line(
                name=name,
                task=_called(name, task) if metric == ordered[0] else "",
                metric=f"{metric} *" if primary else metric,
                value=interval(task["metrics"][metric]),
                references=tuple(score(task.get(key)) if primary else "" for key in keys),  # type: ignore[arg-type]
                rows=str(task["rows"]) if metric == ordered[0] else "",
                primary=primary,
            )


def _called(name: str, task: TaskScores) -> str:
    """The task's name, and how many examples were shown where any were: such a score is never zero-shot."""
    shots = task.get("shots", 0)
    return f"{name} ({shots}-shot)" if shots else name


def interval(value: Value) -> str:
    """``0.812 [0.783, 0.840]``, or the value alone where there is no interval."""
    low, high = value.get("low"), value.get("high")
    if low is None or high is None:
        return score(value["value"])
    return f"{score(value['value'])} [{score(low)}, {score(high)}]"


def above_references(task: TaskScores) -> bool | None:
    """Whether the whole interval of the primary metric is better than chance and majority; None if unknown."""
    value = task["metrics"][task["primary"]]
    low, high = value.get("low"), value.get("high")
    known = [value for value in (task["chance"], task.get("majority")) if value is not None]
    if low is None or high is None or not known:
        return None
    falls = task["primary"] in task.get("lower_is_better", [])
    return high < min(known) if falls else low > max(known)


def falling(tasks: Iterable[TaskScores]) -> list[str]:
    """Metrics that improve as they fall, those that are explained by themselves aside."""
    names = dict.fromkeys(name for task in tasks for name in task.get("lower_is_better", []))
    return [name for name in names if name not in DECODED]


def score_notes(tasks: Mapping[str, TaskScores]) -> list[str]:
    """What must be known to read the scores of tasks."""
    found = ["* primary metric, the one in the average; [low, high] is the bootstrap 95 % interval"]
    if lower := falling(tasks.values()):
        found.append(f"{', '.join(lower)}: lower is better")
    if any(name.startswith(RANKED) for task in tasks.values() for name in task["metrics"]):
        found.append(
            "accuracy_by_...: had the candidates been ranked by the sum of their tokens' log-probabilities, by its "
            "mean over tokens or characters, or by mutual information"
        )
    if any(name in task["metrics"] for task in tasks.values() for name in DECODED):
        found.append(
            "decoded_accuracy: of answers written freely rather than ranked; invalid_share: those that are no answer"
        )
    unclear = [name for name, task in tasks.items() if above_references(task) is False]
    if unclear:
        found.append(f"not clearly better than chance and majority: {', '.join(unclear)}")
    for name, task in tasks.items():
        found += [f"{name}: {note}" for note in task.get("notes", [])]
    return found


def notes(summary: Summary) -> list[str]:
    """What must be known to read the scores of a run."""
    found = score_notes(summary["tasks"])
    # Where only some can be shown, those that touch the reported scores most.
    overlaps = sorted(
        summary.get("overlap", []),
        key=lambda pair: (pair["purpose"] != "report", -len(pair["rows"]) / max(1, pair["total"])),
    )
    for overlap in overlaps[:OVERLAPS_SHOWN]:
        removed = ", removed from training" if overlap.get("excluded") else ""
        found.append(
            f"overlap: {len(overlap['rows'])} of {overlap['total']} {overlap['purpose']} rows of"
            f" {overlap['evaluation_task']} also stand in the training rows of {overlap['train_task']}{removed}"
        )
    if len(overlaps) > OVERLAPS_SHOWN:
        found.append(
            f"overlap: {len(overlaps) - OVERLAPS_SHOWN} more pairs of tasks in summary.json"
        )
    if summary.get("panel") == "zero-shot":
        found.append(
            "zero-shot: trained on no labelled row; these scores belong in a panel of their own"
        )
    if summary["status"] != "finished":
        found.append(f"the run is not finished: {summary['status']}")
    return found


def costs(summary: Summary, path: str | os.PathLike[str]) -> list[str]:
    """What the run consumed, and where it lies."""
    ledger = summary["ledger"]
    parameters = ledger["parameters"]
    speed = ledger["tokens"] / ledger["seconds"] if ledger["seconds"] else 0.0
    used = [
        f"{count(ledger['tokens'])} tokens",
        f"{count(ledger['steps'])} steps",
        duration(ledger["seconds"]),
        f"{count(speed)} tokens/s",
    ]
    if ledger.get("pretraining_tokens"):
        used.append(f"after {count(ledger['pretraining_tokens'])} tokens of pretraining")
    return [
        f"training    {', '.join(used)}",
        f"parameters  {count(parameters['total'])} = {count(parameters['shared'])} shared"
        f" + {count(parameters['total'] - parameters['shared'])} of single tasks"
        f"{_spread(parameters['per_task'])}",
        f"run folder  {os.fspath(path)}",
    ]


def _spread(per_task: dict[str, int]) -> str:
    sizes = [size for size in per_task.values() if size]
    if not sizes:
        return ""
    low, high = count(min(sizes)), count(max(sizes))
    return f" ({low} each)" if low == high else f" ({low} to {high} each)"


def _average(summary: Summary) -> list[str]:
    average = summary["average"]
    if average["value"] is None:
        return []
    return [f"average     {score(average['value'])} ({average['of']})"]


def _baselines(tasks: Mapping[str, TaskScores]) -> list[tuple[str, str]]:
    return [
        (key, heading)
        for key, heading in BASELINES
        if any(task.get(key) is not None for task in tasks.values())
    ]


def _headings(tasks: Mapping[str, TaskScores]) -> list[str]:
    references = ["chance", *(heading for _, heading in _baselines(tasks))]
    return ["task", "metric", "value [95 % interval]", *references, "rows"]


def _renderable(summary: Summary, path: str | os.PathLike[str], *, plain: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    table = _score_table(summary["tasks"], plain=plain)
    title = Text(f"{summary['strategy']}, balance {summary['balance']}, seed {summary['seed']}")
    title.stylize("bold")
    cost = [Text(text) for text in (*_average(summary), *costs(summary, path))]
    remarks = [Text(text, style="dim") for text in notes(summary)]
    return Group("", title, "", table, "", *remarks, "", *cost)


def _score_table(tasks: Mapping[str, TaskScores], *, plain: bool) -> RenderableType:
    from rich.box import SIMPLE_HEAD, Box
    from rich.table import Table
    from rich.text import Text

    # Columns apart by spaces and one rule of hyphens: reads the same in a log, a mail and a diff.
    ruled = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    table = Table(
        box=ruled if plain else SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for number, heading in enumerate(_headings(tasks)):
        table.add_column(
            heading, justify="right" if number > 2 else "left", no_wrap=number in (1, 2)
        )
    for line in lines(tasks):
        better = above_references(tasks[line.name]) if line.task else None
        table.add_row(
            Text(line.task, style="bold" if line.primary else ""),
            Text(line.metric),
            Text(line.value, style=_style(line, better)),
            *(Text(text, style="dim") for text in line.references),
            Text(line.rows, style="dim"),
        )
    return table


def _style(line: Line, better: bool | None) -> str:
    if not line.primary:
        return ""
    return {True: "bold green", False: "bold yellow", None: "bold"}[better]
