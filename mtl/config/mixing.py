"""Rules of a mixture and of a fraction: whether they fit the chosen tasks and each other."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, TypeGuard

from mtl.config.values import Problem

Rules = Iterator[Problem]


def mixture_fits(config: dict[str, Any]) -> Rules:
    """Every rule a mixture breaks: of itself, of its groups, and at each point of its schedule."""
    mixture, tasks = config.get("mixture"), config.get("tasks")
    if not isinstance(mixture, dict) or not isinstance(tasks, list):
        return
    groups = mixture.get("groups") or {}
    points = mixture.get("schedule") or []
    if not isinstance(groups, dict) or not isinstance(points, list):
        return
    points = [point for point in points if isinstance(point, dict)]
    yield from _mixture(mixture, tasks, groups, "mixture")
    rules = {mixture.get("name"), *(point.get("rule") for point in points)}
    if "nested" in rules:
        yield from _groups(groups, tasks)
    elif groups:
        yield Problem("mixture.groups", "range", groups, "empty, unless mixture=nested")
    yield from _points(points)
    for number, point in enumerate(points):
        yield from _point(point, mixture, tasks, groups, f"mixture.schedule.{number}")


def fraction_names_tasks(config: dict[str, Any]) -> Rules:
    """A fraction for each task is of a chosen task, and a share."""
    fraction, tasks = config.get("fraction"), config.get("tasks")
    if not isinstance(fraction, dict) or not isinstance(tasks, list):
        return
    if set(fraction) - set(map(str, tasks)):
        words = f"a share for one or several of {_listed(tasks)}"
        yield Problem("fraction", "range", fraction, words)
    for name, share in fraction.items():
        if _is_number(share) and not 0 < share <= 1:
            yield Problem(f"fraction.{name}", "range", share, "more than 0 and at most 1")


def _mixture(
    mixture: dict[str, Any], tasks: list[Any], groups: dict[str, Any], key: str, rule: str = "name"
) -> Rules:
    """Rates and cap of a mixture, a group (whose rule is called so) or a point."""
    name, rates = mixture.get(rule), mixture.get("rates") or {}
    if name == "capped" and mixture.get("cap") is None:
        yield Problem(f"{key}.cap", "range", None, f"given where {key}.{rule} is capped")
    if not isinstance(rates, dict):
        return
    if name == "explicit":
        yield from _rates(rates, tasks, f"{key}.rates")
    elif name == "nested":
        yield from _rates(rates, list(groups), f"{key}.rates")
    elif rates:
        written = "mixture=explicit" if rule == "name" else f"{key}.{rule} is explicit"
        yield Problem(f"{key}.rates", "range", rates, f"empty, unless {written}")


def _rates(rates: dict[str, Any], names: list[Any], key: str) -> Rules:
    if set(rates) != set(map(str, names)):
        yield Problem(key, "range", rates, f"one rate for each of {_listed(names)}")
    numbers = {name: rate for name, rate in rates.items() if _is_number(rate)}
    for name, rate in numbers.items():
        if rate < 0:
            yield Problem(f"{key}.{name}", "range", rate, "0 or more")
    if numbers and len(numbers) == len(rates) and not any(numbers.values()):
        yield Problem(key, "range", rates, "more than 0 for at least one")


def _groups(groups: dict[str, Any], tasks: list[Any]) -> Rules:
    written = {
        name: group["tasks"]
        for name, group in groups.items()
        if isinstance(group, dict) and isinstance(group.get("tasks"), list)
    }
    if len(written) < len(groups):
        return  # of the wrong type, which is said elsewhere
    count = Counter(str(task) for members in written.values() for task in members)
    wrong = {
        "in none": [task for task in map(str, tasks) if not count[task]],
        "in several": [task for task, times in count.items() if times > 1],
        "not among tasks": sorted(set(count) - set(map(str, tasks))),
    }
    if any(wrong.values()):
        reasons = "; ".join(f"{words}: {_listed(names)}" for words, names in wrong.items() if names)
        expected = f"groups in which each chosen task stands once ({reasons})"
        yield Problem("mixture.groups", "range", written, expected)
        return
    for name, group in groups.items():
        key = f"mixture.groups.{name}"
        if not group["tasks"]:
            yield Problem(f"{key}.tasks", "range", [], "a list of at least one task")
        yield from _numbers(group, key)
        yield from _mixture(group, group["tasks"], {}, key, rule="rule")


def _points(points: list[dict[str, Any]]) -> Rules:
    moments = [point["at"] for point in points if _is_number(point.get("at"))]
    for number, point in enumerate(points):
        if _is_number(at := point.get("at")) and not 0 <= at <= 1:
            yield Problem(f"mixture.schedule.{number}.at", "range", at, "between 0 and 1")
    if any(later <= earlier for earlier, later in itertools.pairwise(moments)):
        yield Problem("mixture.schedule", "range", moments, "points whose at ascends")


def _point(
    point: dict[str, Any],
    mixture: dict[str, Any],
    tasks: list[Any],
    groups: dict[str, Any],
    key: str,
) -> Rules:
    yield from _numbers(point, key)
    rule = point.get("rule") or mixture.get("name")
    if point.get("temperature") is not None and rule != "temperature":
        words = f"null, unless {key}.rule is temperature"
        yield Problem(f"{key}.temperature", "range", point["temperature"], words)
    whole = {
        "rule": rule,
        "cap": mixture.get("cap") if point.get("cap") is None else point["cap"],
        "rates": point.get("rates"),
    }
    # What the mixture itself says was checked with it.
    if whole["rates"] is not None or rule != mixture.get("name"):
        yield from _mixture(whole, tasks, groups, key, rule="rule")


def _numbers(written: dict[str, Any], key: str) -> Rules:
    temperature, cap = written.get("temperature"), written.get("cap")
    if _is_number(temperature) and temperature <= 0:
        yield Problem(f"{key}.temperature", "range", temperature, "more than 0")
    if _is_number(cap) and cap < 1:
        yield Problem(f"{key}.cap", "range", cap, "at least 1")


def _listed(names: Collection[Any]) -> str:
    return ", ".join(map(str, names))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
