"""Score a finished run on tasks: its own, or, for a strategy that reads running text, any.

python -m mtl.evaluate run=RUN_DIR
python -m mtl.evaluate run=RUN_DIR tasks=[lambada] data.root=DIR
python -m mtl.evaluate run=RUN_DIR signal=wrong
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mtl.config.command_line import command
from mtl.config.errors import UserError, raise_all
from mtl.config.verb_schema import EvaluateConfig

if TYPE_CHECKING:
    from mtl.record.summary import TaskScores

DESCRIPTION = "Score a finished run on tasks, with intervals, chance and majority."


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> dict[str, TaskScores]:
    """The command from Python: ``run(["run=RUN_DIR", "tasks=[cola]"])`` returns the scores of each task, in the
    form of ``tasks`` in summary.json."""
    from mtl.config.compose import compose

    return evaluate(compose("evaluate", EvaluateConfig, overrides, config_dir=config_dir))


def evaluate(config: EvaluateConfig) -> dict[str, TaskScores]:
    """Score the tasks of the config.

    The answers are written into the run folder's predictions, except those that the run recorded itself, those that
    ``rows=`` cuts and those to a wrong signal: evaluating changes nothing that a run said.

    :raises UserError: a run that does not exist or has not got as far, a task the strategy cannot answer, or a control
        of a signal that it does not give.
    """
    from mtl.assembly import encode_split, limited, restore, save_answers, score_notes
    from mtl.learning.evaluation import answer_split
    from mtl.record.folder import RunFolder
    from mtl.record.progress import Progress
    from mtl.scoring.metrics import check_metrics
    from mtl.scoring.score import score_task
    from mtl.tasks.loading import load_task

    if config.out is not None:
        _check_out(Path(config.out))
    assert config.run is not None
    folder = RunFolder.open(config.run, where=f"run={config.run}")
    best = config.checkpoint == "best" and folder.best_checkpoint.is_file()
    with Progress() as progress:
        with progress.stage("loading the run"):
            fitted, strategy = restore(
                folder.path, folder.best_checkpoint if best else folder.last_checkpoint
            )
        if config.signal != "right":
            strategy.disturb(config.signal)
        names = config.tasks or fitted.tasks
        if strategy.reads == "tasks":
            raise_all(
                [
                    _never_trained(name, fitted.tasks, config)
                    for name in names
                    if name not in fitted.tasks
                ]
            )
        data = replace(
            fitted.data,
            root=config.data.root or fitted.data.root or os.environ.get("MTL_DATA_ROOT"),
            cache=config.data.cache or fitted.data.cache,
        )
        tasks = []
        errors = []
        for name in names:
            definition = config.task.get(name) or fitted.task[name]
            try:
                check_metrics(definition)
                task = load_task(definition, data, seed=fitted.seed)
                whole = task.report if config.split == "report" else task.selection
                if whole is None:
                    raise UserError(f"task '{name}' has no selection rows", where="split=selection")
                tasks.append((task, whole))
            except UserError as error:
                errors.append(error)
        raise_all(errors)
        scores: dict[str, TaskScores] = {}
        for task, whole in tasks:
            split = limited(whole, config.rows)
            with progress.stage(f"scoring {task.name}"):
                store = encode_split(strategy, task, split, "answer", data)
                answers = answer_split(
                    strategy, task, store, batch_tokens=config.batch_tokens, decode=True
                )
                score = score_task(task, split, answers, resamples=config.resamples)
            notes = score_notes(task, split, store, context=strategy.decoder.context)
            scores[task.name] = cast("TaskScores", {**score.as_summary(), "notes": notes})
            recorded = task.name in fitted.tasks and config.split == "report"
            if not recorded and split is whole and config.signal == "right":
                save_answers(folder, task, split, answers)
    if config.out is not None:
        _write(config.out, scores, config.signal)
    return scores


def _never_trained(name: str, trained: Sequence[str], config: EvaluateConfig) -> UserError:
    return UserError(
        f"the run was not trained on '{name}', and its strategy answers only what it was trained on",
        where=f"tasks=[{', '.join(config.tasks or ())}]",
        hints=[f"trained on: {', '.join(trained)}"],
    )


def _check_out(path: Path) -> None:
    """Refuse a file that cannot be written, before the work is done."""
    where = f"out={path}"
    if path.is_dir():
        raise UserError(f"{path} is a folder", where=where, hints=["name a file: out=scores.json"])
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", where=where)


def _write(out: str, scores: Mapping[str, TaskScores], signal: str) -> None:
    from mtl.record.files import to_json, write_atomically

    control = {} if signal == "right" else {"signal": signal}
    write_atomically(Path(out), to_json({**control, "tasks": scores}, indent=2) + "\n")


def _execute(config: EvaluateConfig) -> None:
    from mtl.record.table import print_scores

    print_scores(evaluate(config), signal=config.signal)


def main() -> None:
    """The command line."""
    command("evaluate", EvaluateConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
