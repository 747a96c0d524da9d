"""What every arm cost: means over its finished runs, from their ledgers."""

from __future__ import annotations

from collections.abc import Iterator

from mtl.comparing.answer import Cost
from mtl.reporting import numerals
from mtl.reporting.tables import Column, Entry, Group, Table, missing, words
from mtl.reporting.view import View

COLUMNS = (
    Column("#"),
    Column("arm", number=False),
    Column("tokens", why="non-padding input tokens of training"),
    Column("pretraining", why="tokens before training on tasks"),
    Column("FLOPs", why="floating-point operations of training"),
    Column("backward", why="backward passes"),
    Column("steps", why="optimizer steps"),
    Column("time", why="of training"),
    Column("memory", why="at its peak"),
    Column("parameters", why="all of them"),
    Column("shared", why="parameters that all tasks use"),
    Column("of tasks", why="parameters that serve one task alone, summed over tasks"),
    Column("trials", why="of the arm's search"),
    Column("tokens of trials", why="all trials together"),
)


def cost_table(view: View) -> Table | None:
    """All costs of all arms, in the leaderboard's order."""
    standings = view.answer.standings
    if not standings:
        return None
    rows = [
        [
            words(view.series[one.arm].number),
            words(one.arm, href=view.anchor(one.arm)),
            *_costs(one.cost, view.anchor(one.arm)),
        ]
        for one in standings
    ]
    return Table(
        name="costs",
        title="Costs",
        columns=COLUMNS,
        groups=[Group(rows=rows)],
        reading="Means over an arm's finished runs.",
        keep=2,
    )


def _costs(cost: Cost, href: str) -> Iterator[Entry]:
    for number in (
        cost.tokens,
        cost.pretraining_tokens,
        cost.flops,
        cost.backward_passes,
        cost.steps,
    ):
        yield words(numerals.amount(number), href=href)
    yield words(numerals.duration(cost.seconds), href=href)
    if cost.peak_memory_bytes:
        yield words(numerals.memory(cost.peak_memory_bytes), href=href)
    else:
        yield missing("was not measured")
    for number in (cost.parameters_total, cost.parameters_shared, cost.parameters_per_task):
        yield words(numerals.amount(number), href=href)
    if cost.tuning_trials:
        yield words(str(cost.tuning_trials), href=href)
        yield words(numerals.amount(cost.tuning_tokens), href=href)
    else:
        yield missing("the arm was not tuned itself")
        yield missing("the arm was not tuned itself")
