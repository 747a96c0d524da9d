"""Put one question to many runs: tune every arm alike, run each under every seed, and answer on one page.

python -m mtl.study study=paradigms
python -m mtl.study study=paradigms suite=glue budget.tokens=5000000 size=full workers=8
python -m mtl.study study=paradigms storage=postgresql+psycopg://user@host/base    (on every machine that joins)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.config.command_line import command
from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.keys import fields
from mtl.config.study_schema import StudyConfig

if TYPE_CHECKING:
    from mtl.comparing.results import Results

DESCRIPTION = "Put one question to many runs: tune every arm alike, run each under every seed, answer on one page."


def run(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> Results:
    """The command from Python: ``run(["study=paradigms", "suite=glue"])`` returns what the study found.

    :param overrides: As on the command line, settings of ``mtl.fit`` included.
    :param config_dir: A folder with configs of your own, as ``--config-dir``.
    :raises UserError: whatever is wrong, in one message.
    """
    config = compose("study", StudyConfig, for_study(overrides), config_dir=config_dir)
    return _study(config, config_dir, " ".join(["python -m mtl.study", *overrides]))


def for_study(overrides: Sequence[str]) -> list[str]:
    """The arguments with those of ``mtl.fit`` put into ``settings``, which is handed to every run."""
    own = {field.name for field in fields(StudyConfig)}
    kept: list[str] = []
    settings: list[str] = []
    for text in overrides:
        name = text.partition("=")[0].lstrip("+~")
        ours = name.split(".")[0] in own or name.startswith("hydra") or "=" not in text
        (kept if ours else settings).append(text)
    if settings:
        written = ",".join(_quoted(text) for text in settings)
        kept.append(f"settings=[{written}]")
    return kept


def _quoted(text: str) -> str:
    """One argument as an element of a list on Hydra's command line."""
    doubled = re.sub(r"\\+(?='|$)", lambda match: match[0] * 2, text)
    return "'" + doubled.replace("'", "\\'") + "'"


def _study(config: StudyConfig, config_dir: str | None, typed: str) -> Results:
    from mtl.studying.conducting import conduct

    return conduct(config, config_dir=config_dir, command=typed)


def main() -> None:
    """The command line."""
    typed = sys.argv[1:]
    arguments, config_dir = _split(typed)
    if "--multirun" in typed or "-m" in typed:
        from mtl.config.command_line import report

        sys.exit(report(UserError("a study is many runs already", where="--multirun")))
    sys.argv[1:] = arguments

    def execute(config: StudyConfig) -> None:
        _study(config, config_dir, " ".join(["python -m mtl.study", *typed]))

    command("study", StudyConfig, execute, describe=DESCRIPTION)


def _split(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments with those of ``mtl.fit`` put away, and the folder of ``--config-dir``."""
    flags: list[str] = []
    overrides: list[str] = []
    folder, value = None, False
    for text in arguments:
        if value or text.startswith("-"):
            if value and flags[-1] in ("--config-dir", "-cd"):
                folder = str(Path(text).absolute())
            elif text.startswith("--config-dir="):
                folder = str(Path(text.partition("=")[2]).absolute())
            value = not value and text in WITH_VALUE
            flags.append(text)
        else:
            overrides.append(text)
    return [*flags, *for_study(overrides)], folder


WITH_VALUE = (
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--cfg",
    "-c",
    "--package",
    "-p",
    "-sc",
)
"""Flags that are followed by a value."""


if __name__ == "__main__":
    main()
