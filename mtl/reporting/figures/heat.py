"""Heat map with its numbers written in: who helps whom, and whose gradients agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mtl.comparing.answer import Conflict, Transfer
from mtl.reporting.figures.figure import Figure
from mtl.reporting.figures.svg import element, note, picture, words
from mtl.reporting.numerals import change, span

CELL = 54.0
LETTER = 6.4
"""Width of a letter of a name."""
DARKEST = 0.75
"""Opacity of the farthest value, so that numbers stay readable on it."""
NULL = "same_task_"
"""Before the name of a measure between two batches of one task."""
SIGNS = {"better": "▲", "worse": "▼", "undecided": ""}


def transfer_matrix(transfers: Sequence[Transfer], tasks: Sequence[str]) -> Figure:
    """A panel for each way of learning. Row: the helper; column: the target.

    :param tasks: In the order of rows and columns.
    """
    families = list(dict.fromkeys(one.family for one in transfers))
    panels = [
        _transfer_map(
            f"Transfer between tasks{f', {family}' if len(families) > 1 else ''}",
            [one for one in transfers if one.family == family],
            tasks,
        )
        for family in families
    ]
    return Figure(
        name="transfer",
        title="Who helps whom",
        reading="Points that the target (column) gains when the helper (row) is trained beside it, against the target "
        "without it, paired by seed. ▲ and ▼ mark claims; without a sign nothing is decided.",
        panels=panels,
        columns=(
            "family",
            "helper",
            "target",
            "points",
            "low",
            "high",
            "p",
            "p_holm",
            "verdict",
            "seeds",
        ),
        rows=[
            (
                t.family,
                t.helper,
                t.target,
                t.points.value,
                t.points.low,
                t.points.high,
                t.p,
                t.p_holm,
                t.verdict,
                t.seeds,
            )
            for t in transfers
        ],
        wide=True,
    )


def _transfer_map(title: str, transfers: Sequence[Transfer], tasks: Sequence[str]) -> str:
    cells = {(one.helper, one.target): one for one in transfers}
    return heat_map(
        title,
        _ordered((one.helper for one in transfers), tasks),
        _ordered((one.target for one in transfers), tasks),
        {place: one.points.value for place, one in cells.items()},
        lambda place: f"{change(cells[place].points.value)}{SIGNS[cells[place].verdict]}",
        lambda place: (
            f"{place[0]} beside {place[1]}: {change(cells[place].points.value)} points"
            f"{span(cells[place].points, change)}, {cells[place].verdict}"
        ),
        across="target",
        down="helper",
    )


def conflict_maps(conflicts: Sequence[Conflict], order: Sequence[str]) -> Figure:
    """A panel for each arm and measure; on the diagonal stands what two batches of one task give.

    :param order: Of the tasks.
    """
    measures = {one.measure for one in conflicts if one.first != one.second}
    shown = [
        replace(one, measure=one.measure.removeprefix(NULL))
        for one in conflicts
        if one.measure.removeprefix(NULL) in measures
    ]
    panels = []
    for arm, measure in dict.fromkeys((one.arm, one.measure) for one in shown):
        found = [one for one in shown if (one.arm, one.measure) == (arm, measure)]
        tasks = _ordered((name for one in found for name in (one.first, one.second)), order)
        values = {(one.second, one.first): one.value for one in found}
        values |= {(one.first, one.second): one.value for one in found}
        panels.append(_conflict_map(arm, measure, tasks, values))
    return Figure(
        name="conflict",
        title="Do gradients agree?",
        reading="Mean over training and seeds of a measure between the gradients of two tasks on the shared "
        "parameters; a cosine below 0 is conflict. On the diagonal, two batches of one task: the value that agreement "
        "alone would give, beside which the others are read.",
        panels=panels,
        columns=("arm", "measure", "first", "second", "value"),
        rows=[(one.arm, one.measure, one.first, one.second, one.value) for one in shown],
        wide=True,
    )


def _ordered(names: Iterable[str], order: Sequence[str]) -> list[str]:
    found = set(names)
    return [name for name in order if name in found] + sorted(found - set(order))


def _conflict_map(
    arm: str, measure: str, tasks: Sequence[str], values: Mapping[tuple[str, str], float]
) -> str:
    return heat_map(
        f"{arm}: {measure.replace('_', ' ')}",
        tasks,
        tasks,
        values,
        lambda place: change(values[place]),
        lambda place: f"{place[0]}, {place[1]}: {change(values[place])}",
    )


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[str, str], float],
    written: Callable[[tuple[str, str]], str],
    about: Callable[[tuple[str, str]], str],
    *,
    across: str = "",
    down: str = "",
) -> str:
    """One picture; blue is above 0, orange below, and the farthest value from 0 has the full colour."""
    left = max(60.0, LETTER * max(map(len, rows)) + 10)
    slant = LETTER * max(map(len, columns)) * 0.72 + 14
    top = 24 + slant
    farthest = max(map(abs, values.values()), default=0.0) or 1.0
    parts = [words(4, 15, title, class_="heading")]
    for index, name in enumerate(rows):
        parts.append(
            words(left - 6, top + CELL * (index + 0.5) + 4, name, anchor="end", class_="label")
        )
    for index, name in enumerate(columns):
        x = left + CELL * (index + 0.5)
        turn = f"rotate(-45 {x:.1f} {top - 6:.1f})"
        parts.append(words(x, top - 6, name, class_="label", transform=turn))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            place = (row, column)
            x, y = left + CELL * j, top + CELL * i
            parts.append(_cell(place, values.get(place), farthest, x, y, written, about))
    if across:
        parts.append(words(left - 6, top - 6, f"{down} ↓  {across} →", anchor="end", class_="axis"))
    return picture(
        max(left + CELL * len(columns) + slant, LETTER * len(title) + 20, left + CELL * 3),
        top + CELL * len(rows) + 8,
        title,
        f"{len(rows)} by {len(columns)} values.",
        *parts,
    )


def _cell(
    place: tuple[str, str],
    value: float | None,
    farthest: float,
    x: float,
    y: float,
    written: Callable[[tuple[str, str]], str],
    about: Callable[[tuple[str, str]], str],
) -> str:
    size = CELL - 2
    if value is None:
        return element("rect", x=x, y=y, width=size, height=size, class_="cell none")
    return element(
        "g",
        note(about(place)),
        element("rect", x=x, y=y, width=size, height=size, class_="cell"),
        element(
            "rect",
            x=x,
            y=y,
            width=size,
            height=size,
            class_="above" if value > 0 else "below",
            fill_opacity=f"{abs(value) / farthest * DARKEST:.2f}",
        ),
        words(x + size / 2, y + size / 2 + 4, written(place), anchor="middle", class_="number"),
    )
