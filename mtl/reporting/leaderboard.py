"""The leaderboard: score, difference to the reference and cost of every arm, a table for each panel."""

from __future__ import annotations

from collections.abc import Iterator

from mtl.comparing.answer import Comparison, Interval, Standing
from mtl.reporting import numerals
from mtl.reporting.tables import Column, Entry, Group, Table, missing, words
from mtl.reporting.view import AVERAGE, View

PANELS = {"supervised": "Leaderboard", "zero-shot": "Zero-shot panel"}
READING = {
    "supervised": "Score: mean over seeds with its 95 % interval, at one checkpoint for all tasks; own checkpoint: the "
    "same with the best checkpoint for each task, which needs as many models as tasks. IQM: mean of the middle half of "
    "all runs' normalised scores over tasks.",
    "zero-shot": "These arms saw no labels. Their scores stand apart and are in no comparison.",
}


REFERENCE = "the arm that others are compared with"
COMPARED = (
    " Difference: paired by seed, in points. P(better): how likely a run beats one of the reference on a task. Bold: "
    "the best, where that is a claim."
)


def leaderboards(view: View) -> Iterator[Table]:
    """The tables that have rows, supervised first."""
    for panel, title in PANELS.items():
        if standings := view.panel(panel):
            yield _leaderboard(view, panel, title, standings)


def _leaderboard(view: View, panel: str, title: str, standings: list[Standing]) -> Table:
    compared = panel == "supervised" and any(one.comparison for one in standings)
    columns = [
        Column("#", why="the arm's number in the figures"),
        Column("arm", number=False),
        Column("seeds", why="runs that finished"),
        Column("score", why=f"{view.results.primary}, one checkpoint for all tasks"),
        Column("own checkpoint", why=f"{view.results.primary}, the best checkpoint for each task"),
        *(
            [
                Column("difference", why="to the reference, in points"),
                Column("verdict", number=False),
                Column("P(better)", why="probability that a run beats one of the reference"),
            ]
            if compared
            else []
        ),
        Column("IQM", why="interquartile mean of the normalised scores"),
        Column("tokens", why="of training"),
        Column("FLOPs"),
        Column("time", why="of training"),
        Column("parameters"),
    ]
    rows = []
    for one in standings:
        row = [
            words(view.series[one.arm].number),
            words(one.arm, href=view.anchor(one.arm), why=_role(view, one)),
            words(str(one.seeds)),
            _score(view, one),
            interval(one.own_checkpoint, "not measured: runs kept one checkpoint for all tasks"),
        ]
        if compared:
            row += [*_compared(view, one), _chance_to_win(view, one)]
        row.append(interval(one.interquartile_mean, "chance or perfect is not known"))
        cost, href = one.cost, view.anchor(one.arm)
        row += [
            words(numerals.amount(cost.tokens), href=href),
            words(numerals.amount(cost.flops), href=href),
            words(numerals.duration(cost.seconds), href=href),
            words(numerals.amount(cost.parameters_total), href=href),
        ]
        rows.append(row)
    return Table(
        name=f"leaderboard_{panel.replace('-', '_')}",
        title=title,
        columns=columns,
        groups=[Group(rows=rows)],
        reading=READING[panel] + (COMPARED if compared else ""),
        keep=2,
    )


def _role(view: View, one: Standing) -> str:
    settings = " ".join(view.results.arm(one.arm).settings)
    return f"{'reference' if one.arm in view.references else one.role}: {settings}"


def _score(view: View, one: Standing) -> Entry:
    cell = view.answer.cell(one.arm, view.head)
    if cell is not None and view.results.primary not in (AVERAGE, f"{cell.task}/{cell.metric}"):
        cell = None  # the study's measure is another metric of the task
    return Entry(
        text=numerals.score(one.average.value),
        more=numerals.span(one.average),
        why="" if one.average.low is not None else "too few seeds for an interval",
        sources=view.sources(cell) if cell else (),
        href=None if cell else view.anchor(one.arm),
        strong=best_by_claim(view, one.arm),
    )


def best_by_claim(view: View, arm: str) -> bool:
    """Whether an arm leads at its place by a claim: it beats the reference, or is that and beats every other."""
    supervised = view.panel("supervised")
    place = next((one.place for one in supervised if one.arm == arm), None)
    ranked = [one for one in supervised if one.place == place]
    if not ranked or ranked[0].arm != arm:
        return False
    verdicts = {one.arm: one.comparison.verdict for one in ranked if one.comparison}
    if arm not in view.references:
        return verdicts.get(arm) == "better"
    references = [one.arm for one in ranked if one.arm in view.references]
    return references == [arm] and set(verdicts.values()) == {"worse"}


def interval(value: Interval | None, why: str) -> Entry:
    """A score with its interval, or a dash with its reason."""
    if value is None:
        return missing(why)
    return Entry(text=numerals.score(value.value), more=numerals.span(value))


def verdict(one: Comparison) -> Entry:
    """In a word, with the reason behind it."""
    sign = {"better": "▲ ", "worse": "▼ ", "undecided": ""}[one.verdict]
    unequal = "\u00a0*" if one.unequal else ""
    return Entry(text=f"{sign}{one.verdict}{unequal}", why=one.why, look=one.verdict)


def _compared(view: View, one: Standing) -> tuple[Entry, Entry]:
    found = one.comparison
    if found is None or not found.seeds:
        if one.arm in view.references:
            return missing(REFERENCE), words("reference", why=REFERENCE)
        why = "it has no seed in common with a reference"
        return missing(why), missing(why)
    difference = Entry(
        text=numerals.change(found.points.value),
        more=numerals.span(found.points, numerals.change),
        sources=view.compared(found),
    )
    return difference, verdict(found)


def _chance_to_win(view: View, one: Standing) -> Entry:
    if one.arm in view.references:
        return missing(REFERENCE)
    return interval(one.probability_of_improvement, "no runs in common with the reference")
