"""What each arm was trained on."""

from __future__ import annotations

from mtl.comparing.answer import Answer
from mtl.reporting.svg import Drawing, Figure, colour, legend, short

ROW, WIDE = 24, 620
HEADER = ["arm", "task", "planned_share_of_draws", "share_of_rows", "tokens", "passes"]


def exposure(answer: Answer) -> Figure | None:
    """Tokens of each task in each arm, one bar an arm."""
    if not answer.exposures:
        return None
    arms = [s.arm for s in answer.standings if any(e.arm == s.arm for e in answer.exposures)]
    tasks = list(dict.fromkeys(e.task for e in answer.exposures))
    most = max(sum(e.tokens for e in answer.exposures if e.arm == arm) for arm in arms)
    left = 7 * max(map(len, arms)) + 16
    drawing = Drawing(left + WIDE + 60, ROW * len(arms) + 8, "Tokens of each task")
    for i, arm in enumerate(arms):
        y, x = ROW * i + 4, float(left)
        drawing.text(left - 8, y + 14, arm, anchor="end", kind="name")
        for e in (e for e in answer.exposures if e.arm == arm):
            width = WIDE * e.tokens / most
            note = f"{arm}, {e.task}: {short(e.tokens)} tokens, {e.passes:.2f} passes"
            drawing.box(
                x, y, max(width - 1, 0.5), ROW - 6, colour=colour(tasks.index(e.task)), note=note
            )
            x += width
        drawing.text(x + 6, y + 14, short(most * (x - left) / WIDE), kind="tick")
    return Figure(
        "exposure",
        "What each arm was trained on",
        "Training tokens of each task, mean over runs; point at a piece for its tokens and passes.",
        legend(tasks, tasks) + drawing.svg(),
        HEADER,
        [[e.arm, e.task, e.planned, e.share, e.tokens, e.passes] for e in answer.exposures],
    )
