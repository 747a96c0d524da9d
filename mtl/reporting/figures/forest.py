"""Paired differences to the reference, task by task."""

from __future__ import annotations

from mtl.comparing.answer import Answer, Comparison
from mtl.reporting.svg import Drawing, Figure, Scale, padded

ROW, TOP, LEFT, PANEL = 20, 30, 8, 250
SIGNS = {"better": "var(--better)", "worse": "var(--worse)", "undecided": "var(--quiet)"}
HEADER = ["task", "arm", "reference", "points", "low", "high", "p_holm", "verdict"]


def forest(answer: Answer) -> Figure | None:
    """A row for each arm in a panel for each task, the average first; full dots are claims."""
    found = [c for c in answer.comparisons if c.seeds]
    if not found:
        return None
    tasks = list(dict.fromkeys(["average", *(c.task for c in found)]))
    tasks = [task for task in tasks if any(c.task == task for c in found)]
    order = [s.arm for s in answer.standings]
    arms = sorted({c.arm for c in found}, key=order.index)
    names = max(7 * max(map(len, arms)) + 16, 110)
    ends = [
        v
        for c in found
        for v in (c.points.low, c.points.high, c.points.value, 0.0)
        if v is not None
    ]
    low, high = padded(ends, 0.04)
    columns = max(1, min(len(tasks), int((1040 - names) // (PANEL + 10))))
    lines = -(-len(tasks) // columns)
    tall = TOP + ROW * len(arms) + 30
    drawing = Drawing(names + columns * (PANEL + 10), lines * tall, "Differences to the reference")
    for position, task in enumerate(tasks):
        x0 = names + (position % columns) * (PANEL + 10)
        y0 = (position // columns) * tall
        scale = Scale(low=low, high=high, start=x0 + LEFT, end=x0 + PANEL - LEFT)
        _panel(drawing, [c for c in found if c.task == task], arms, task, scale, y0)
        if position % columns == 0:
            for i, arm in enumerate(arms):
                y = y0 + TOP + ROW * i + ROW / 2
                drawing.text(names - 8, y + 4, arm, anchor="end", kind="name")
    return Figure(
        "differences",
        "Difference to the reference, paired by seed",
        "Points (hundredths of the metric), more is better; a line is the 95 % BCa interval over seeds. A full dot is "
        "a claim: interval and corrected test agree. A hollow one is undecided.",
        drawing.svg(),
        HEADER,
        [_row(c) for task in tasks for c in found if c.task == task],
    )


def _panel(
    drawing: Drawing, found: list[Comparison], arms: list[str], task: str, scale: Scale, top: float
) -> None:
    bottom = top + TOP + ROW * len(arms)
    drawing.text(scale.start, top + 18, task, kind="heading")
    for value in scale.ticks(4):
        drawing.line([(scale(value), top + TOP), (scale(value), bottom)])
        drawing.text(
            scale(value),
            bottom + 15,
            f"{value:+.3g}" if value else "0",
            anchor="middle",
            kind="tick",
        )
    drawing.line([(scale(0), top + TOP - 4), (scale(0), bottom)], colour="var(--ink)", wide=1.4)
    for one in found:
        y = top + TOP + ROW * arms.index(one.arm) + ROW / 2
        colour = SIGNS[one.verdict]
        if one.points.low is not None and one.points.high is not None:
            ends = [(scale(one.points.low), y), (scale(one.points.high), y)]
            drawing.path(ends, colour=colour)
        note = (
            f"{one.arm}, {task}: {one.points.value:+.2f} points, {one.verdict}: {one.verdict_why}"
        )
        claimed = one.verdict != "undecided"
        drawing.dot(scale(one.points.value), y, colour=colour, filled=claimed, note=note)


def _row(one: Comparison) -> list[object]:
    points = one.points
    return [
        one.task, one.arm, one.reference, points.value, points.low, points.high, one.p_holm, one.verdict,
    ]  # fmt: skip
