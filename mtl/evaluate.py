"""Score a finished run on tasks: its own, or, for a language model, any that it can be asked.

python -m mtl.evaluate run=RUN_DIR
python -m mtl.evaluate run=RUN_DIR tasks=[lambada,wsc273_partial] data.root=DIR
python -m mtl.evaluate hf=FOLDER tasks=[copa,sst2] prompts=all data.root=DIR
python -m mtl.evaluate run=RUN_DIR tasks=[multi30k] shots=4
python -m mtl.evaluate run=RUN_DIR signal=wrong
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mtl.config.command_line import command
from mtl.config.errors import UserError, raise_all
from mtl.config.verb_schema import EvaluateConfig

if TYPE_CHECKING:
    from mtl.config.schema import DataConfig, TaskConfig
    from mtl.learning.strategy import Strategy
    from mtl.record.folder import RunFolder
    from mtl.record.summary import TaskScores
    from mtl.scoring.asking import Asking
    from mtl.tasks.task import Split, Task

DESCRIPTION = (
    "Score a finished run, or a language model, on tasks: with intervals, chance and majority."
)


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> dict[str, TaskScores]:
    """The command from Python: ``run(["run=RUN_DIR", "tasks=[cola]"])`` returns the scores of each task, in the
    form of ``tasks`` in summary.json."""
    from mtl.config.compose import compose

    return evaluate(compose("evaluate", EvaluateConfig, overrides, config_dir=config_dir))


def evaluate(config: EvaluateConfig) -> dict[str, TaskScores]:
    """Score the tasks of the config.

    The answers are written into the run folder's predictions, except those that the run recorded itself, those that
    ``rows=`` cuts and those that were asked otherwise than a run asks (``signal``, ``shots``, ``window``,
    ``start_token``): evaluating changes nothing that a run said.

    :raises UserError: a run or a folder that does not exist or cannot be read, a task that cannot be answered, or a
        control of a signal that is not given.
    """
    from mtl.answering import answer, encoded
    from mtl.assembly import limited, save_answers
    from mtl.record.files import check_output
    from mtl.record.progress import Progress
    from mtl.scoring.contaminated import overlapping_rows, read_overlap, score_parts
    from mtl.scoring.score import score_task

    if config.out is not None:
        check_output(Path(config.out), f"out={config.out}")
    with Progress() as progress:
        with progress.stage(
            "loading the run" if config.hf is None else "loading the language model"
        ):
            model = _model(config)
        if config.signal != "right":
            model.strategy.disturb(config.signal)
        tasks = _tasks(config, model)
        asking = _asking(config, model)
        flagged: dict[str, frozenset[str]] = {}
        if config.overlap is not None:
            found_rows = read_overlap(config.overlap)
            flagged = {
                task.name: overlapping_rows(found_rows, task, whole, path=config.overlap)
                for task, whole in tasks
            }
        scores: dict[str, TaskScores] = {}
        for task, whole in tasks:
            split = limited(whole, config.rows)
            with progress.stage(f"scoring {task.name}") as reached:
                store = encoded(model.strategy, task, split, model.data)
                answered = answer(
                    model.strategy,
                    task,
                    split,
                    store,
                    asking,
                    decode=True,
                    advance=_counter(reached),
                )
                answers = answered.answers
                score = score_task(
                    task, split, answers, resamples=config.resamples, windows=config.window
                )
                found: dict[str, Any] = {**score.as_summary(), **answered.said}
                if config.prompts == "all" and task.config.prompts:
                    values = _wordings(task, score.metrics[score.primary].value, config, model)
                    found["prompts"] = values
                    found["notes"] = [*found["notes"], _spread(score.primary, values)]
                if task.name in flagged:
                    parts = score_parts(
                        task,
                        split,
                        answers,
                        flagged[task.name],
                        resamples=config.resamples,
                        windows=config.window,
                    )
                    found["parts"] = {name: part.as_summary() for name, part in parts.items()}
            scores[task.name] = cast("TaskScores", found)
            recorded = config.split == model.split and task.name in model.known
            if split is whole and not recorded and model.folder is not None and _is_plain(config):
                save_answers(model.folder, task, split, answers)
    if config.out is not None:
        _write(config.out, scores, config.signal)
    return scores


def _counter(reached: Callable[[str], None]) -> Callable[[int], None]:
    """Shows how many rows, candidates or windows are done."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        reached(f"({done} done)")

    return advance


@dataclass(frozen=True)
class _Model:
    """What answers, and where its data lies."""

    strategy: Strategy
    data: DataConfig
    seed: int
    folder: RunFolder | None
    known: Mapping[str, TaskConfig]
    """Definitions of the tasks of its run."""
    split: str | None = None
    """The split whose answers its run wrote down itself."""

    @property
    def recorded(self) -> list[str]:
        """Tasks whose answers the run wrote down itself."""
        return list(self.known)


def _model(config: EvaluateConfig) -> _Model:
    from mtl.assembly import restore
    from mtl.config.schema import DataConfig
    from mtl.learning.language_modelling import LanguageModelling
    from mtl.record.folder import RunFolder

    root = config.data.root
    if config.run is None:
        from mtl.opening import open_language_model

        if config.tasks is None:
            raise UserError(
                "which tasks is the language model to be asked",
                where=f"hf={config.hf}",
                hints=["name them: tasks=[lambada,copa]", "what there is: python -m mtl"],
            )
        opened = open_language_model(run=None, hf=config.hf, checkpoint=config.checkpoint)
        strategy = LanguageModelling()
        strategy.build(opened.decoder, (), opened.vocabulary)
        data = DataConfig(root=root or os.environ.get("MTL_DATA_ROOT"), cache=config.data.cache)
        return _Model(strategy, data, seed=0, folder=None, known={})
    folder = RunFolder.open(config.run, where=f"run={config.run}")
    best = config.checkpoint == "best" and folder.best_checkpoint.is_file()
    fitted, restored = restore(
        folder.path, folder.best_checkpoint if best else folder.last_checkpoint
    )
    data = replace(
        fitted.data,
        root=root or fitted.data.root or os.environ.get("MTL_DATA_ROOT"),
        cache=config.data.cache or fitted.data.cache,
    )
    known = {name: fitted.task[name] for name in fitted.tasks}
    return _Model(
        restored, data, seed=fitted.seed, folder=folder, known=known, split=fitted.evaluation.split
    )


def _tasks(config: EvaluateConfig, model: _Model) -> list[tuple[Task, Split]]:
    """The tasks of the config with the split that is scored.

    :raises UserError: all that is wrong with any of them.
    """
    from mtl.scoring.metrics import check_metrics
    from mtl.tasks.loading import load_task

    names = config.tasks or model.recorded
    if model.strategy.reads == "tasks":
        raise_all(
            [
                _never_trained(name, model.recorded, config)
                for name in names
                if name not in model.known
            ]
        )
    tasks, errors = [], []
    for name in names:
        definition = config.task.get(name) or model.known[name]
        try:
            check_metrics(definition)
            task = load_task(definition, model.data, seed=model.seed)
            whole = task.report if config.split == "report" else task.selection
            if whole is None:
                raise UserError(f"task '{name}' has no selection rows", where="split=selection")
            tasks.append((task, whole))
        except UserError as error:
            errors.append(error)
    raise_all(errors)
    return tasks


def _asking(config: EvaluateConfig, model: _Model) -> Asking:
    """How a language model is asked.

    :raises UserError: a strategy that learned its tasks was to be asked as one.
    """
    from mtl.scoring.asking import Asking

    plain = EvaluateConfig(run=config.run)
    asked = ("shots", "prompts", "window", "start_token")
    given = [name for name in asked if getattr(config, name) != getattr(plain, name)]
    if given and model.strategy.reads == "tasks":
        raise UserError(
            "the run's strategy learned its tasks, and reads their rows as it did in training",
            where=" ".join(f"{name}={getattr(config, name)}" for name in given),
            hints=["these are for runs trained on running text, and for hf=FOLDER"],
        )
    return Asking(
        shots=config.shots,
        window=config.window,
        start_token=config.start_token,
        seed=model.seed,
        batch_tokens=config.batch_tokens,
    )


def _is_plain(config: EvaluateConfig) -> bool:
    """Whether a run is asked as it asks itself."""
    plain = EvaluateConfig(run=config.run)
    asked = ("signal", "shots", "window", "start_token")
    return all(getattr(config, name) == getattr(plain, name) for name in asked)


def _wordings(task: Task, own: float, config: EvaluateConfig, model: _Model) -> dict[str, float]:
    """The primary metric under every wording of the task, its own first."""
    from mtl.answering import answer
    from mtl.assembly import limited
    from mtl.scoring.metrics import METRICS
    from mtl.tasks.loading import load_task

    values = {"own": own}
    for name, wording in task.config.prompts.items():
        other = replace(
            task.config,
            prompt=wording.prompt,
            answers=wording.answers or task.config.answers,
            choices=wording.choices or task.config.choices,
        )
        read = load_task(other, model.data, seed=model.seed)
        whole = read.report if config.split == "report" else read.selection
        assert whole is not None
        split = limited(whole, config.rows)
        answers = answer(model.strategy, read, split, None, _asking(config, model)).answers
        values[name] = METRICS[other.metrics[0]].value(answers, split.examples)
    return values


def _spread(metric: str, values: Mapping[str, float]) -> str:
    from statistics import mean, stdev

    low, high = (f(values, key=values.__getitem__) for f in (min, max))
    return (
        f"{metric} over {len(values)} wordings: mean {mean(values.values()):.3f}, standard deviation "
        f"{stdev(values.values()):.3f}, from {values[low]:.3f} ({low}) to {values[high]:.3f} ({high})"
    )


def _never_trained(name: str, trained: Sequence[str], config: EvaluateConfig) -> UserError:
    return UserError(
        f"the run was not trained on '{name}', and its strategy answers only what it was trained on",
        where=f"tasks=[{', '.join(config.tasks or ())}]",
        hints=[f"trained on: {', '.join(trained)}"],
    )


def _write(out: str, scores: Mapping[str, TaskScores], signal: str) -> None:
    from mtl.record.files import to_json, write_atomically

    control = {} if signal == "right" else {"signal": signal}
    write_atomically(Path(out), to_json({**control, "tasks": scores}, indent=2) + "\n")


def _execute(config: EvaluateConfig) -> None:
    from mtl.record.contamination import print_parts
    from mtl.record.table import print_scores

    scores = evaluate(config)
    print_scores(scores, signal=config.signal)
    if config.overlap is not None:
        print()
        print_parts({name: score["parts"] for name, score in scores.items() if "parts" in score})


def main() -> None:
    """The command line."""
    command("evaluate", EvaluateConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
