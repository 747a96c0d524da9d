"""What was asked and how: everything that is needed to repeat the study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mtl.comparing.results import Results
from mtl.reporting import numerals
from mtl.reporting.runs import setting
from mtl.reporting.view import View


@dataclass(frozen=True)
class Fact:
    """A line of the list."""

    name: str
    text: str
    code: bool = False
    """Whether it is to be typed."""


def asked(view: View) -> list[Fact]:
    """The lines that have something to say."""
    return [fact for fact in _facts(view) if fact.text]


def _facts(view: View) -> Iterator[Fact]:
    results = view.results
    yield Fact("command", results.command, code=True)
    yield Fact("common settings", " ".join(results.settings), code=True)
    yield Fact("primary metric", f"{results.primary}, {_direction(results)}")
    yield Fact("reference", results.reference or "none")
    yield Fact(f"tasks ({len(results.tasks)})", ", ".join(results.tasks))
    yield Fact(f"seeds ({len(results.seeds)})", ", ".join(map(str, results.seeds)))
    for axis, levels in results.axes.items():
        yield Fact(f"axis {axis}", ", ".join(levels))
    yield Fact("training tokens of a run", _budget(view))
    yield from _tuning(results)
    yield Fact("level of the tests", f"{view.answer.level:g}, after Holm's correction")
    yield Fact("code", _code(results))
    yield Fact("versions", ", ".join(f"{name} {text}" for name, text in results.versions.items()))
    yield Fact("started", results.started)
    yield Fact("last run ended", results.updated)


def _direction(results: Results) -> str:
    return "lower is better" if results.direction == "minimize" else "higher is better"


def _budget(view: View) -> str:
    used = [one.cost.tokens for one in view.answer.standings]
    if not used:
        return ""
    low, high = numerals.amount(min(used)), numerals.amount(max(used))
    return low if low == high else f"{low} to {high}"


def _tuning(results: Results) -> Iterator[Fact]:
    search = results.search
    if not search.trials:
        yield Fact("tuning", "none: all settings are as given")
        return
    spent = sum(trial.tokens for arm in results.arms for trial in arm.trials)
    objectives = ", ".join(
        f"{name} ({direction})"
        for name, direction in zip(search.objectives, search.directions, strict=True)
    )
    yield Fact(
        "tuning",
        f"{search.trials} trials for each arm, {numerals.amount(spent)} tokens in all; sampler {search.sampler}, "
        f"pruner {search.pruner}; objectives on the selection split: {objectives}",
    )
    yield Fact("searched", "; ".join(f"{name} {_range(r)}" for name, r in search.space.items()))
    for arm, space in search.own_space.items():
        text = "; ".join(f"{name} {_range(r)}" for name, r in space.items())
        yield Fact(f"searched for {arm} alone", text)


def _range(where: dict[str, Any]) -> str:
    if "choices" in where:
        return f"one of {', '.join(map(str, where['choices']))}"
    scale = " on a logarithmic scale" if where.get("log") else ""
    step = f" in steps of {setting(where['step'])}" if where.get("step") else ""
    return f"{setting(where['low'])} to {setting(where['high'])}{scale}{step}"


def _code(results: Results) -> str:
    if results.commit is None:
        return "not from a git checkout"
    return f"commit {results.commit}{', with changes that are not in it' if results.dirty else ''}"
