"""Lists of settings as on the command line of ``mtl.fit``: put together, and with other arms' runs filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

RUN = re.compile(r"\{run:([^{}]+)\}")
"""Stands for the run folder of another arm under the same seed."""
BUDGET = {f"budget.{unit}" for unit in ("tokens", "steps", "epochs", "like")}


def key(setting: str) -> str:
    """What a setting sets. Ways of saying the same thing have one key: a budget's unit, a suite and its tasks."""
    name = setting.partition("=")[0].lstrip("+")
    if name in BUDGET:
        return "budget"
    return "tasks" if name == "suite" else name


def merged(*lists: Iterable[str]) -> list[str]:
    """All settings, of which later ones replace earlier ones of the same key.

    One that is within another of the same list (``suite=glue tasks=[rte]``) stands beside it.
    """
    kept: list[str] = []
    for settings in lists:
        settings = list(settings)
        replaced = {key(setting) for setting in settings}
        kept = [setting for setting in kept if key(setting) not in replaced]
        kept += settings
    return kept


def runs_named(settings: Iterable[str]) -> list[str]:
    """The arms whose runs a list of settings begins from, in order."""
    found = (name for setting in settings for name in RUN.findall(setting))
    return list(dict.fromkeys(found))


def with_runs(settings: Sequence[str], folder: Callable[[str], str]) -> list[str]:
    """The settings with ``{run:ARM}`` replaced by the folder of that arm's run."""
    return [RUN.sub(lambda match: folder(match[1]), setting) for setting in settings]


def written(value: object) -> str:
    """A searched value as it is written behind ``=``; numbers to their last digit."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value) if isinstance(value, str) else repr(value)
