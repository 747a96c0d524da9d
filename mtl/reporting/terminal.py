"""The answer of a study as a table at the end of the command."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mtl.comparing.answer import Answer, Interval, Standing
from mtl.record.numbers import MISSING, count, duration
from mtl.reporting.transfer import transfer_rows

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_WIDTH = 170
HEADINGS = (
    "arm",
    "score [95 %]",
    "own checkpoints",
    "less reference, points [95 %]",
    "p (Holm)",
    "verdict",
    "tokens",
    "TFLOP",
    "seconds",
    "parameters",
)


def print_answer(answer: Answer, page: Path, *, file: TextIO | None = None) -> None:
    """Print the leaderboard, what to know before believing it, the answer, and where its page is.

    Arms over pairs of tasks learn other tasks each: there the effects of the tasks on each other stand in its place.
    """
    from rich.console import Console, Group
    from rich.text import Text

    file = file or sys.stdout
    plain = not file.isatty()
    families = dict.fromkeys(one.family for one in answer.transfers)
    tables = [_table(*transfer_rows(answer, family), plain) for family in families] or [
        _leaderboard(answer, plain)
    ]
    notes = [Text(f"- {note}", style="" if plain else "dim") for note in answer.notes]
    console = Console(file=file, width=PLAIN_WIDTH if plain else None)
    console.print(
        Group(
            *tables,
            "",
            *notes,
            "",
            Text(answer.sentence, style="" if plain else "bold"),
            Text(f"page: {page}"),
        )
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], plain: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=None if plain else box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position else "left", no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    return table


def _leaderboard(answer: Answer, plain: bool) -> Table:
    rows: list[tuple[str, ...]] = []
    for before, standing in zip([None, *answer.standings], answer.standings, strict=False):
        if before and (before.panel, before.place) != (standing.panel, standing.place):
            rows.append(())
        rows.append(row(standing))
    return _table(HEADINGS, rows, plain)


def row(standing: Standing) -> tuple[str, ...]:
    """The cells of an arm."""
    comparison, cost = standing.comparison, standing.cost
    name = standing.arm if standing.panel == "supervised" else f"{standing.arm} (zero-shot)"
    tokens = count(cost.tokens)
    if cost.pretraining_tokens:
        tokens += f" + {count(cost.pretraining_tokens)}"
    return (
        name,
        interval(standing.average),
        MISSING if standing.own_checkpoint is None else interval(standing.own_checkpoint),
        MISSING if comparison is None else interval(comparison.points, decimals=1),
        MISSING if comparison is None or comparison.p_holm is None else f"{comparison.p_holm:.3f}",
        MISSING if comparison is None else comparison.verdict,
        tokens,
        f"{cost.flops / 1e12:.2f}",
        duration(cost.seconds),
        count(cost.parameters_total),
    )


def interval(found: Interval, *, decimals: int = 3) -> str:
    """``0.412 [0.380, 0.441]``; the value alone where there is no interval."""
    text = f"{found.value:.{decimals}f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{found.low:.{decimals}f}, {found.high:.{decimals}f}]"
