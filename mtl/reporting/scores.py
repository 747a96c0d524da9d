"""Scores of every arm on every task, and the comparisons with the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtl.comparing.answer import Cell, Comparison
from mtl.reporting import numerals
from mtl.reporting.leaderboard import verdict
from mtl.reporting.tables import Column, Entry, Group, Table, missing, words
from mtl.reporting.view import AVERAGE, View

ACROSS = 5
"""Tasks in one table; more are put into several, so that paper holds them."""


def score_tables(view: View) -> Iterator[Table]:
    """Arms down, tasks across."""
    tasks = [task for task in view.results.tasks if any(c.task == task for c in view.answer.cells)]
    if not tasks:
        return
    pieces = -(-len(tasks) // ACROSS)
    size = -(-len(tasks) // pieces)
    for piece in range(pieces):
        chosen = tasks[piece * size : (piece + 1) * size]
        yield _scores(view, chosen, piece + 1 if pieces > 1 else 0)


def _scores(view: View, tasks: Sequence[str], piece: int) -> Table:
    groups = []
    for panel in ("supervised", "zero-shot"):
        arms = [one.arm for one in view.panel(panel)]
        rows = [
            [
                words(view.series[arm].number),
                words(arm, href=view.anchor(arm)),
                *(_score(view, arm, task) for task in tasks),
            ]
            for arm in arms
        ]
        if rows:
            groups.append(Group(heading="zero-shot" if panel == "zero-shot" else "", rows=rows))
    groups.append(Group(rows=[[words(""), words("chance"), *(_chance(view, t) for t in tasks)]]))
    return Table(
        name=f"scores_{piece}" if piece else "scores",
        title=f"Scores by task{f', part {piece}' if piece else ''}",
        columns=[
            Column("#"),
            Column("arm", number=False),
            *(Column(task, why=_measure(view, task)) for task in tasks),
        ],
        groups=groups,
        reading="Primary metric of each task: " + "; ".join(_measure(view, t) for t in tasks) + ". "
        "Mean over seeds with its 95 % interval and ± the standard deviation over seeds. The best of a column is bold "
        "only where it is a claim.",
        keep=2,
    )


def _first(view: View, task: str) -> Cell:
    return next(cell for cell in view.answer.cells if cell.task == task)


def _measure(view: View, task: str) -> str:
    cell = _first(view, task)
    return f"{task} {cell.metric}{', lower is better' if cell.lower_is_better else ''}"


def _chance(view: View, task: str) -> Entry:
    chance = _first(view, task).chance
    if chance is None:
        return missing("an open task: there is no answer drawn without looking")
    return words(numerals.score(chance))


def _score(view: View, arm: str, task: str) -> Entry:
    cell = view.answer.cell(arm, task)
    if cell is None:
        return missing(_absent(view, arm, task))
    spread = f" ± {numerals.score(cell.deviation)}" if cell.deviation is not None else ""
    return Entry(
        text=numerals.score(cell.mean.value),
        more=numerals.span(cell.mean) + spread,
        why="" if cell.mean.low is not None else "too few seeds for an interval",
        sources=view.sources(cell),
        strong=_best_by_claim(view, arm, task),
    )


def _absent(view: View, arm: str, task: str) -> str:
    finished = [run for run in view.results.arm(arm).runs if run.ending == "finished"]
    return f"the arm does not learn {task}" if finished else "no run of the arm finished"


def _best_by_claim(view: View, arm: str, task: str) -> bool:
    supervised = {one.arm for one in view.panel("supervised")}
    cells = [c for c in view.answer.cells if c.task == task and c.arm in supervised]
    if not cells or arm not in supervised:
        return False
    pick = min if cells[0].lower_is_better else max
    if pick(cells, key=lambda cell: cell.mean.value).arm != arm:
        return False
    if arm not in view.references:
        found = view.comparison(arm, task)
        return found is not None and found.verdict == "better"
    verdicts = [c.verdict for c in view.comparisons if c.task == task]
    return view.references == [arm] and set(verdicts) == {"worse"}


def comparison_table(view: View) -> Table | None:
    """Each arm against the reference: the average first, then task by task."""
    if not view.comparisons:
        return None
    groups = []
    for task in dict.fromkeys(one.task for one in view.comparisons):
        found = [one for one in view.comparisons if one.task == task]
        heading = "average over tasks" if task == AVERAGE else task
        rows = [_comparison(view, one) for one in found]
        against = f", against {view.references[0]}" if len(view.references) == 1 else ""
        groups.append(Group(heading=f"{heading}{against}", rows=rows))
    return Table(
        name="comparisons",
        title="Comparisons",
        columns=[
            Column("#"),
            Column("arm", number=False),
            *([Column("reference", number=False)] if len(view.references) > 1 else []),
            Column("seeds", why="that both finished"),
            Column(
                "points", why="mean paired difference, hundredths of the metric, more is better"
            ),
            Column("normalised", why="the same where chance is 0 and perfect is 1"),
            Column("relative", why="paired change against the reference's score, in percent"),
            Column("effect", why="in standard deviations of the reference over seeds"),
            Column("p", why="two-sided paired sign-flip permutation test"),
            Column("Holm p", why="corrected for all comparisons of the page"),
            Column("verdict", number=False),
            Column("why", number=False, typeset=False),
        ],
        groups=groups,
        reading="A claim needs an interval that excludes 0 and a corrected p below "
        f"{view.answer.level:g}. A relative change is left out where the reference is at or near chance: the quotient "
        "explodes there. * marks unequal budgets.",
        keep=2,
    )


def _comparison(view: View, one: Comparison) -> list[Entry]:
    if one.normalised is None:
        normalised = missing("chance is not known")
    else:
        normalised = Entry(
            text=numerals.change(one.normalised.value),
            more=numerals.span(one.normalised, numerals.change),
        )
    too_few = "one seed: there is nothing to test"
    smallest = (
        ""
        if one.smallest_p is None
        else f"at least {numerals.probability(one.smallest_p)} for so few seeds"
    )
    return [
        words(view.series[one.arm].number),
        words(one.arm, href=view.anchor(one.arm)),
        *(
            [words(one.reference, href=view.anchor(one.reference))]
            if len(view.references) > 1
            else []
        ),
        words(str(len(one.seeds))),
        Entry(
            text=numerals.change(one.points.value),
            more=numerals.span(one.points, numerals.change),
            why="" if one.points.low is not None else "too few seeds for an interval",
            sources=view.compared(one),
        ),
        normalised,
        missing(one.relative_why or "it would mislead")
        if one.relative is None
        else words(f"{numerals.change(one.relative)} %"),
        missing("the reference's scores do not vary, or there is one")
        if one.effect is None
        else words(numerals.change(one.effect)),
        missing(too_few) if one.p is None else words(numerals.probability(one.p), why=smallest),
        missing(too_few) if one.p_holm is None else words(numerals.probability(one.p_holm)),
        verdict(one),
        words(one.why),
    ]
