"""Train one strategy on the chosen tasks under one budget, evaluate it, and record it.

python -m mtl.fit strategy=task_signal
python -m mtl.fit strategy=mt_dnn tasks=[sst2,mrpc,rte] data.root=DIR budget.tokens=2000000 seed=3
python -m mtl.fit resume=RUN_DIR
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.config.command_line import command
from mtl.config.schema import FitConfig

if TYPE_CHECKING:
    from mtl.record.run import Run

DESCRIPTION = "Train one strategy on the chosen tasks under one budget, evaluate it, and record it."


def run(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> Run:
    """The command from Python: ``run(["strategy=mt_dnn", "seed=3"])`` returns the finished run.

    :param overrides: As on the command line.
    :param config_dir: A folder with configs of your own, as ``--config-dir``.
    :raises UserError: whatever is wrong with the overrides, in one message.
    """
    from mtl.config.compose import compose

    finished = _fit(compose("fit", FitConfig, overrides, config_dir=config_dir))
    if finished is None:
        raise SystemExit(
            0
        )  # the caller's script once more, which Lightning started for another device
    return finished


def _fit(config: FitConfig) -> Run | None:
    if config.resume is None and not Path(config.run_dir or "").joinpath("config.yaml").is_file():
        # Before the heavy libraries are loaded; where a run is there already, it says what is wrong.
        from mtl.tasks.loading import check_tasks

        check_tasks([config.task[name] for name in config.tasks], config.data)
        if config.corpus.kind == "files":
            from mtl.tasks.prepared import check_files

            check_files(config.corpus, config.data)
    if config.trainer.devices != 1:
        # DistributedDataParallel would advise each process on steps that leave no parameter unused.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from mtl.execution import fit

    return fit(config)


def _execute(config: FitConfig) -> None:
    from mtl.record.table import print_table

    finished = _fit(config)
    if finished is not None:
        print_table(finished.summary, finished.path)


def main() -> None:
    """The command line."""
    command("fit", FitConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
