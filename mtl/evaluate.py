"""Score a finished run on tasks: its own, or, for a strategy that reads running text, any.

python -m mtl.evaluate run=RUN_DIR
python -m mtl.evaluate run=RUN_DIR tasks=[lambada] data.root=DIR
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mtl.config.command_line import command
from mtl.config.errors import UserError, raise_all
from mtl.config.schema import EvaluateConfig

if TYPE_CHECKING:
    from mtl.record.summary import TaskScores
    from mtl.scoring.score import TaskScore

DESCRIPTION = "Score a finished run on tasks, with intervals, chance and majority."


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> list[TaskScore]:
    """The command from Python: ``run(["run=RUN_DIR", "tasks=[cola]"])`` returns one score per task."""
    from mtl.config.compose import compose

    return evaluate(compose("evaluate", EvaluateConfig, overrides, config_dir=config_dir))


def evaluate(config: EvaluateConfig) -> list[TaskScore]:
    """Score the tasks of the config, and write the answers into the run folder's predictions.

    :raises UserError: a run that does not exist or has not got as far, or a task the strategy cannot answer.
    """
    from mtl.assembly import encode_split, limited, restore, save_answers
    from mtl.learning.evaluation import answer_split
    from mtl.record.folder import RunFolder
    from mtl.record.progress import Progress
    from mtl.scoring.metrics import check_metrics
    from mtl.scoring.score import score_task
    from mtl.tasks.loading import load_task

    folder = RunFolder.open(config.run, where=f"run={config.run}")
    best = config.checkpoint == "best" and folder.best_checkpoint.is_file()
    with Progress() as progress:
        with progress.stage("loading the run"):
            fitted, strategy = restore(
                folder.path, folder.best_checkpoint if best else folder.last_checkpoint
            )
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
            root=config.data.root or fitted.data.root,
            cache=config.data.cache or fitted.data.cache,
        )
        scores = []
        for name in names:
            definition = config.task.get(name) or fitted.task[name]
            check_metrics(definition)
            task = load_task(definition, data, seed=fitted.seed)
            split = task.report if config.split == "report" else task.selection
            if split is None:
                raise UserError(f"task '{name}' has no selection rows", where="split=selection")
            split = limited(split, config.rows)
            with progress.stage(f"scoring {name}"):
                store = encode_split(strategy, task, split, "answer", data)
                answers = answer_split(strategy, task, store, batch_tokens=config.batch_tokens)
                scores.append(score_task(task, split, answers, resamples=config.resamples))
            save_answers(folder, task, split, answers)
    if config.out is not None:
        _write(config.out, scores)
    return scores


def _never_trained(name: str, trained: Sequence[str], config: EvaluateConfig) -> UserError:
    return UserError(
        f"the run was not trained on '{name}', and its strategy answers only what it was trained on",
        where=f"tasks={list(config.tasks or ())}",
        hints=[f"trained on: {', '.join(trained)}"],
    )


def _write(out: str, scores: Sequence[TaskScore]) -> None:
    from mtl.record.files import to_json, write_atomically

    summaries = {score.task: score.as_summary() for score in scores}
    write_atomically(Path(out), to_json({"tasks": summaries}, indent=2) + "\n")


def _execute(config: EvaluateConfig) -> None:
    from mtl.record.table import print_scores

    scores = evaluate(config)
    print_scores({score.task: cast("TaskScores", score.as_summary()) for score in scores})


def main() -> None:
    """The command line."""
    command("evaluate", EvaluateConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
