"""Rules between the keys of a balance and the tasks it weighs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mtl.config.values import Problem

OWN_KEYS = {
    "weights": "static",
    "temperature": "dwa",
    "every": "dwa",
    "learning_rate": "famo",
    "weight_decay": "famo",
    "mu": "stch",
    "c": "cagrad",
    "beta": "gradvac",
    "max_norm": "nash",
}
"""The one balance that reads a key."""


def balance_fits(config: dict[str, Any]) -> Iterator[Problem]:
    """A balance has the keys it reads and no others; given weights name the tasks that are trained."""
    balance = config.get("balance")
    if not isinstance(balance, dict):
        return
    name = balance.get("name")
    for key, reader in OWN_KEYS.items():
        value = balance.get(key)
        if reader != name and value not in (None, {}):
            yield Problem(f"balance.{key}", "range", value, f"left out, unless balance={reader}")
        elif reader == name and value is None and key != "weights":
            yield Problem(f"balance.{key}", "range", None, f"given where balance={reader}")
    if name == "static":
        yield from _weights_fit(balance.get("weights") or {}, config)


def _weights_fit(weights: Any, config: dict[str, Any]) -> Iterator[Problem]:
    if not isinstance(weights, dict):
        return
    trained = _trained(config)
    if trained is not None and set(weights) != set(trained):
        words = f"one weight for each of {', '.join(trained)}"
        yield Problem("balance.weights", "range", weights, words)
    numbers = {
        task: weight
        for task, weight in weights.items()
        if isinstance(weight, (int, float)) and not isinstance(weight, bool)
    }
    for task, weight in numbers.items():
        if not 0 <= weight < float("inf"):
            yield Problem(f"balance.weights.{task}", "range", weight, "0 or more")
    if len(numbers) == len(weights) > 0 and not any(numbers.values()):
        yield Problem("balance.weights", "range", weights, "more than 0 for at least one task")


def _trained(config: dict[str, Any]) -> list[str] | None:
    """Names of the tasks that have training rows; None where the list of tasks is wrong itself."""
    tasks, found = config.get("tasks"), config.get("task")
    if not isinstance(tasks, list):
        return None
    sources = {
        name: task["source"]
        for name, task in (found.items() if isinstance(found, dict) else ())
        if isinstance(task, dict) and isinstance(task.get("source"), dict)
    }
    return [str(task) for task in tasks if sources.get(str(task), {}).get("train", "") is not None]
