"""From composed plain containers to the checked dataclass: what a run stored is filled in, then all is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from mtl.config.errors import UserError
from mtl.config.keys import Key, fields
from mtl.config.rules import broken_rules
from mtl.config.strategies import find_strategies
from mtl.config.values import Problem, check, convert

RUN_CONFIG = "config.yaml"
"""Name of the resolved config inside a run folder."""


def complete(schema: type, data: dict[str, Any]) -> tuple[Any, list[Problem]]:
    """The dataclass that ``data`` describes, and what is wrong; the first is None where anything is."""
    data = dict(data)
    problems: list[Problem] = []
    names = {field.name for field in fields(schema)}
    if "strategy" in names and isinstance(data.get("strategy"), dict):
        data["strategy"], problems = _strategy(data["strategy"])
    if "task" in names and isinstance(data.get("task"), dict):
        data["task"] = _tasks(data)
    for group in ("task", "study"):
        named = data.get(group)
        if isinstance(named, dict) and set(named) == {"name"}:  # how Hydra is given a name alone
            data[group] = named["name"]
    data = convert(schema, data)
    problems += broken_rules(schema, data)
    instance, wrong = check(schema, data)
    problems = [*wrong, *problems]
    return (None if problems else instance), problems


def stored_tasks(run: Any) -> dict[str, Any]:
    """The task definitions a finished run stored; empty where ``run`` is no run folder."""
    file = Path(run) / RUN_CONFIG if isinstance(run, str) else None
    if file is None or not file.is_file():
        return {}
    with file.open(encoding="utf-8") as source:
        stored = yaml.safe_load(source)
    tasks = stored.get("task") if isinstance(stored, dict) else None
    return dict(tasks) if isinstance(tasks, dict) else {}


def strategy_keys(name: str) -> tuple[Key, ...]:
    """The settings of a strategy as keys; none where it is unknown or its constructor cannot be read."""
    found = find_strategies().get(name)
    try:
        settings = found.settings if found is not None else {}
    except UserError:
        return ()
    keys = []
    for setting in settings.values():
        key = Key(f"strategy.{setting.name}", setting.type, help=setting.help)
        keys.append(Key(key.name, key.type, setting.default, key.help) if setting.optional else key)
    return tuple(keys)


def _strategy(given: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    name = given.get("name")
    found = find_strategies().get(name) if isinstance(name, str) else None
    if found is None:
        return given, [Problem("strategy.name", "unknown", found=name)]
    problems = [
        Problem(f"strategy.{key}", "unknown", found=value)
        for key, value in given.items()
        if key != "name" and key not in found.settings
    ]
    strategy: dict[str, Any] = {"name": name}
    for setting in found.settings.values():
        if setting.name in given and given[setting.name] != "???":
            value = convert(setting.type, given[setting.name])
            problems += check(setting.type, value, ("strategy", setting.name))[1]
            strategy[setting.name] = value
        elif setting.optional:
            strategy[setting.name] = setting.default
        else:
            problems.append(Problem(f"strategy.{setting.name}", "missing"))
    return strategy, problems


def _tasks(data: dict[str, Any]) -> dict[str, Any]:
    """The definitions of the named tasks in their order; a sweep composes those of its other jobs as well."""
    named = data.get("tasks")
    if not isinstance(named, list):
        return dict(data["task"])
    known = {**stored_tasks(data.get("run")), **data["task"]}
    return {str(name): _whole_task(str(name), known[name]) for name in named if name in known}


METRICS = {
    "classification": ["accuracy"],
    "pair_classification": ["accuracy"],
    "multiple_choice": ["accuracy"],
    "ranking": ["accuracy"],
    "regression": ["pearson", "spearman"],
    "language_modelling": ["bits_per_byte", "perplexity_per_word", "perplexity_per_token"],
}
"""Metrics of a task that names none; a generated answer has no usual one."""


def _whole_task(name: str, given: Any) -> Any:
    """The definition with what it leaves out filled in, where there is only one usual answer."""
    if not isinstance(given, dict):
        return given
    task = {"name": name, **given}
    ranks = task.get("kind") == "ranking"
    if ranks and "segments" not in given and isinstance(given.get("query"), str):
        task["segments"] = [given["query"]]
    segments, labels = task.get("segments"), task.get("labels")
    if "prompt" not in given and isinstance(segments, list) and segments:
        below = [f"\n{segment}" for segment in segments[1:]]
        task["prompt"] = [segments[0], *below, "\nAnswer:"]
    if "answers" not in given and isinstance(labels, list) and not ranks:
        task["answers"] = [f" {str(label).replace('_', ' ')}" for label in labels]
    if "metrics" not in given and task.get("kind") in METRICS:
        task["metrics"] = list(METRICS[task["kind"]])
    return task
