"""Matrices of tasks: who helps whom, and whose gradients conflict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from mtl.comparing.answer import Answer
from mtl.reporting.svg import Drawing, Figure

CELL, HIGH = 74, 34
Cells = Mapping[tuple[str, str], tuple[float, str, bool]]
"""(row, column) to value, words, and whether it is a claim."""


def transfer(answer: Answer) -> Figure | None:
    """Rows help, columns are helped."""
    if not answer.transfers:
        return None
    tasks = sorted({t.target for t in answer.transfers} | {t.helper for t in answer.transfers})
    cells = {
        (t.helper, t.target): (t.points.value, f"{t.points.value:+.1f}", t.verdict != "undecided")
        for t in answer.transfers
    }
    return Figure(
        "transfer",
        "Who helps whom",
        "Points that the task of the column gains (or loses) when the task of the row is trained beside it, each read "
        "as often as alone; paired by seed. A frame is a claim: interval and corrected test agree.",
        matrix(tasks, cells, "Transfer between tasks"),
        ["helper", "target", "points", "low", "high", "p", "p_holm", "verdict", "seeds"],
        [
            [
                t.helper,
                t.target,
                t.points.value,
                t.points.low,
                t.points.high,
                t.p,
                t.p_holm,
                t.verdict,
                t.seeds,
            ]
            for t in answer.transfers
        ],
    )


def conflict(answer: Answer) -> Figure | None:
    """Cosine between the gradients of each two tasks, and of a task with itself, for each arm that measured it."""
    found = [c for c in answer.conflicts if c.measure in ("cosine", "same_task_cosine")]
    if not found:
        return None
    pieces = []
    for arm in dict.fromkeys(c.arm for c in found):
        own = [c for c in found if c.arm == arm]
        tasks = sorted({t for c in own for t in (c.first, c.second)})
        cells = {}
        for c in own:
            for pair in ((c.first, c.second), (c.second, c.first)):
                cells[pair] = (c.value, f"{c.value:+.2f}", c.first == c.second)
        pieces.append(
            f"<h4>{escape(arm)}</h4>" + matrix(tasks, cells, f"Gradient conflict, {arm}", limit=1.0)
        )
    return Figure(
        "conflict",
        "Do the tasks' gradients conflict?",
        "Mean cosine over training; below 0 they pull against each other. Framed: two batches of one task, what noise "
        "alone leaves of agreement (a pair is to be read against its two tasks' own).",
        "".join(pieces),
        ["arm", "first", "second", "measure", "value"],
        [[c.arm, c.first, c.second, c.measure, c.value] for c in answer.conflicts],
    )


def matrix(tasks: Sequence[str], cells: Cells, title: str, limit: float | None = None) -> str:
    """A square of coloured numbers; the colour says the sign and how far from 0."""
    left = 7 * max(map(len, tasks)) + 16
    top = min(150, 5 * max(map(len, tasks)) + 20)
    most = limit or max((abs(value) for value, _, _ in cells.values()), default=1.0) or 1.0
    drawing = Drawing(left + CELL * len(tasks) + 80, top + HIGH * len(tasks) + 8, title)
    for i, task in enumerate(tasks):
        drawing.text(left - 8, top + HIGH * i + HIGH / 2 + 4, task, anchor="end", kind="name")
        drawing.text(left + CELL * i + 20, top - 8, task, kind="name", turned=True)
    for (row, column), (value, words, claim) in cells.items():
        x, y = left + CELL * tasks.index(column), top + HIGH * tasks.index(row)
        strength = round(min(abs(value) / most, 1.0) * 70)
        hue = "var(--better)" if value >= 0 else "var(--worse)"
        fill = f"color-mix(in srgb, {hue} {strength}%, var(--paper))"
        drawing.box(x + 1, y + 1, CELL - 2, HIGH - 2, colour=fill, note=f"{row}, {column}: {words}")
        if claim:
            corners = [
                (x + 2, y + 2),
                (x + CELL - 2, y + 2),
                (x + CELL - 2, y + HIGH - 2),
                (x + 2, y + HIGH - 2),
                (x + 2, y + 2),
            ]
            drawing.path(corners, colour="var(--ink)", wide=1.6)
        drawing.text(x + CELL / 2, y + HIGH / 2 + 4, words, anchor="middle")
    return drawing.svg()
