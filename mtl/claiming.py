"""Whose run folder it is: claimed by the first process, known to those that Lightning starts beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtl.config.compose import compose, differing_keys, to_yaml
from mtl.config.errors import UserError
from mtl.config.schema import FitConfig
from mtl.record.folder import RunFolder

FOLDER_VARIABLE = "MTL_RUN_FOLDER"
"""Tells the processes that Lightning starts beside this one which folder the run has."""
PART_VARIABLE = "MTL_RUN_PART"
"""Tells them which of the run's trainings they are started for; they end with it."""

VARIABLES = (
    FOLDER_VARIABLE,
    PART_VARIABLE,
    "MASTER_ADDR",
    "MASTER_PORT",
    "NODE_RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "OMP_NUM_THREADS",
)


def is_first() -> bool:
    """Whether this is the process a person started, rather than one that Lightning started beside it."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("RANK", "0") == "0"


def launched_together() -> bool:
    """Whether another launcher started all processes of the run, which then stay for all of its parts."""
    return "LOCAL_RANK" in os.environ and PART_VARIABLE not in os.environ


def takes_part(part: str) -> bool:
    """Whether this process trains the part: all do but those that were started for another one."""
    return os.environ.get(PART_VARIABLE, part) == part


def occupied_folder(config: FitConfig) -> RunFolder | None:
    """The run folder where it is there already: of this run, or an error."""
    if not is_first():
        return _folder_of_first(config)
    if config.resume is not None:
        return RunFolder.open(config.resume, where=f"resume={config.resume}")
    if config.run_dir is not None:
        # An empty folder is left as it is until the data is known to be right.
        RunFolder.check_place(Path(config.run_dir))
        if (Path(config.run_dir) / "config.yaml").is_file():
            return _claim(config, config.run_dir)
    return None


def new_folder(config: FitConfig) -> RunFolder:
    """The folder of a run that begins: ``run_dir``, or a dated one under runs/."""
    if config.run_dir is not None:
        return _claim(config, config.run_dir)
    return RunFolder.dated(to_yaml(config), strategy=config.strategy["name"], seed=config.seed)


def _folder_of_first(config: FitConfig) -> RunFolder:
    path = os.environ.get(FOLDER_VARIABLE) or config.resume or config.run_dir
    if path is None:
        raise UserError(
            "processes that another launcher starts must be told the folder of their run",
            hints=["name it: run_dir=DIR"],
        )
    return RunFolder(path)


def _claim(config: FitConfig, path: str) -> RunFolder:
    def differing(found: str) -> list[tuple[str, str, str]]:
        there = compose("config", FitConfig, config_dir=path)
        return [
            (key, str(old), str(new))
            for key, old, new in differing_keys(there, config)
            if key not in ("run_dir", "resume")
        ]

    folder, _ = RunFolder.claim(Path(path), to_yaml(config), differing)
    return folder


@contextmanager
def for_other_processes(folder: RunFolder, config: FitConfig, part: str) -> Iterator[None]:
    """Within it, processes that Lightning starts repeat this command line; give them one that names this very run, and
    the part of it that they are to train.

    What Lightning tells them through this process's environment is taken back afterwards: it would read it as its
    own the next time.
    """
    if config.trainer.devices == 1 or not is_first() or launched_together():
        yield
        return
    arguments, before = sys.argv[1:], {name: os.environ.get(name) for name in VARIABLES}
    sys.argv[1:] = ["--config-dir", str(folder.path.absolute()), "--config-name", "config"]
    os.environ[FOLDER_VARIABLE] = str(folder.path.absolute())
    os.environ[PART_VARIABLE] = part
    try:
        yield
    finally:
        sys.argv[1:] = arguments
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
