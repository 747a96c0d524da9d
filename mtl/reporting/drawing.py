"""Which figures a study has: those whose numbers exist."""

from __future__ import annotations

from collections.abc import Iterator

from mtl.comparing.answer import Interval
from mtl.comparing.results import Arm
from mtl.reporting.figures.along import Point, along_axis
from mtl.reporting.figures.cost import score_against_cost
from mtl.reporting.figures.curves import Band, band, learning_curves
from mtl.reporting.figures.exposure import exposure_bars
from mtl.reporting.figures.figure import Figure, Series
from mtl.reporting.figures.forest import forest
from mtl.reporting.figures.heat import conflict_maps, transfer_matrix
from mtl.reporting.figures.tuning import expected_best
from mtl.reporting.view import View

CURVES = (
    ("curves_average", "The average over training", "selection_average"),
    ("curves_selection", "Scores over training, task by task", "/selection_"),
    ("curves_loss", "Loss over training, task by task", "/loss"),
)
"""Name, title, and what the names of its curves hold."""


def forest_figure(view: View) -> Figure | None:
    """Differences to the reference, the average first."""
    if not view.comparisons:
        return None
    names = view.references
    reference = names[0] if len(names) == 1 else f"{view.results.reference} at the same place"
    return forest(view.comparisons, view.series, reference)


def _place(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def curve_figures(view: View) -> Iterator[Figure]:
    """Learning curves of finished runs."""
    for name, title, held in CURVES:
        curves: dict[str, dict[str, Band]] = {}
        for arm in (one.arm for one in view.answer.standings):
            for curve, found in _bands(view.results.arm(arm), held).items():
                curves.setdefault(curve, {})[arm] = found
        if curves:
            order = sorted(curves, key=lambda one: _place(view.results.tasks, one.split("/")[0]))
            ordered = {curve: curves[curve] for curve in order}
            yield learning_curves(name, title, ordered, view.series)


def _bands(arm: Arm, held: str) -> dict[str, Band]:
    runs = [run for run in arm.runs if run.ending == "finished"]
    names = dict.fromkeys(name for run in runs for name in run.curves if held in name)
    found = {}
    for name in names:
        curves = [run.curves[name] for run in runs if len(run.curves.get(name, ())) > 1]
        if curves and len((one := band(curves)).tokens) > 1:
            found[name] = one
    return found


def cost_figure(view: View) -> Figure | None:
    """Score against cost of the supervised arms."""
    standings = view.panel("supervised")
    if len(standings) < 2:
        return None
    return score_against_cost(
        standings, view.series, falls=view.falls, primary=view.results.primary
    )


def axis_figures(view: View) -> Iterator[Figure]:
    """One for each axis of the study on which a family has two levels or more."""
    for axis, levels in view.results.axes.items():
        points = [point for point in _points(view, axis) if point.level in levels]
        seen: dict[str, set[str]] = {}
        for point in points:
            seen.setdefault(point.family, set()).add(point.level)
        families = [family for family, own in seen.items() if len(own) > 1]
        if families:
            series = {name: Series(name, index) for index, name in enumerate(families)}
            kept = [point for point in points if point.family in series]
            yield along_axis(axis, levels, kept, series)


def _points(view: View, axis: str) -> Iterator[Point]:
    for measure in (view.results.primary, "parameters", "parameters of single tasks"):
        for one in view.panel("supervised"):
            arm = view.results.arm(one.arm)
            if axis not in arm.factors:
                continue
            others = [f"{name}={value}" for name, value in arm.factors.items() if name != axis]
            value = {
                "parameters": Interval(value=one.cost.parameters_total),
                "parameters of single tasks": Interval(value=one.cost.parameters_per_task),
            }.get(measure, one.average)
            yield Point(
                measure=measure,
                family=", ".join([arm.family or arm.name, *others]),
                level=arm.factors[axis],
                arm=one.arm,
                value=value,
                href=view.anchor(one.arm),
            )


def transfer_figure(view: View) -> Figure | None:
    """Who helps whom, where the study trains pairs."""
    return (
        transfer_matrix(view.answer.transfers, view.results.tasks)
        if view.answer.transfers
        else None
    )


def conflict_figure(view: View) -> Figure | None:
    """Gradient diagnostics, where they were measured."""
    return (
        conflict_maps(view.answer.conflicts, view.results.tasks) if view.answer.conflicts else None
    )


def tuning_figure(view: View) -> Figure | None:
    """Expected best selection score, where arms were tuned."""
    found = {arm: points for arm, points in view.answer.expected_best.items() if points}
    objectives = view.results.search.objectives
    if not found:
        return None
    return expected_best(found, view.series, objectives[0] if objectives else view.results.primary)


def exposure_figure(view: View) -> Figure | None:
    """Shares of tasks, where they are known."""
    if not view.answer.exposures:
        return None
    return exposure_bars(view.answer.exposures, view.series, view.tasks)
