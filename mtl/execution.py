"""A fit from its config to its record: load, train, score, write down."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from mtl.accounting import summarise
from mtl.answering import Scorer
from mtl.assembly import (
    load_data,
    load_weights,
    make_strategy,
    pretraining_tokens,
    read_checkpoint,
    save_model,
)
from mtl.claiming import (
    for_other_processes,
    is_first,
    launched_together,
    new_folder,
    occupied_folder,
    takes_part,
)
from mtl.config.errors import Interrupted, Stopped, UserError
from mtl.config.schema import FitConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.allocator import keep_freed_memory
from mtl.ending import Ending, final_split
from mtl.learning.balance.methods import check_balance, check_shared
from mtl.learning.conflict import check_conflict, make_conflict
from mtl.learning.interruption import interrupt, interruptions
from mtl.learning.module import NonFiniteLossError
from mtl.learning.precision import settled
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import BEST, LAST, drop_own_checkpoints
from mtl.learning.training import (
    Listener,
    Trained,
    check_devices,
    check_sharding,
    process_group_ended,
    train,
)
from mtl.parts import Part, trainings
from mtl.pretraining import FOLDER as PRETRAINING
from mtl.pretraining import Pretraining
from mtl.record.conflict import conflict_table, draw_conflict
from mtl.record.curves import draw_curves
from mtl.record.folder import RunFolder
from mtl.record.progress import Progress
from mtl.record.recorder import Recorder
from mtl.record.run import Run
from mtl.record.summary import Summary, git_state, write_summary
from mtl.record.tracking import Nested, Tracker, make_tracker
from mtl.scoring.metrics import check_metrics
from mtl.scoring.score import TaskScore
from mtl.starting import starting_point

Watch = Callable[[int, int, float], None]
"""(steps, tokens, what selects), counted over the whole run."""


def fit(
    config: FitConfig, *, watch: Watch | None = None, nested: Nested | None = None
) -> Run | None:
    """Train, score and record what the config says; a finished run in ``run_dir`` is returned as it is.

    :param watch: Is told of every scoring of the selection split that takes in all tasks of the run, on the first
        device; of a run that is resumed, of those that are left. It may raise :class:`Stopped`, which ends the run.
    :param nested: Under which MLflow run this one stands.
    :return: The run; None in the processes beside the first.
    :raises UserError: whatever is wrong with the config or the data; before training nothing is written but caches.
    """
    with interruptions(interrupt):
        try:
            return _fit(config, watch, nested)
        except (Interrupted, NonFiniteLossError):
            # Every process ends after the same step; the first one says why.
            if is_first():
                raise
            return None


def _fit(config: FitConfig, watch: Watch | None, nested: Nested | None) -> Run | None:
    config = replace(config, trainer=settled(config.trainer, config.decoder.width))
    folder = occupied_folder(config)
    if folder is not None and folder.finished and is_first():
        return Run(folder.path)
    title = config.strategy["name"]
    with Progress(title, shown=None if is_first() else False) as progress:
        with progress.stage("loading the libraries"):
            check_devices(config.trainer)
            strategy = make_strategy(config)
            check_sharding(config.trainer, strategy)
            check_balance(config, strategy)
            for name in config.tasks:
                check_metrics(config.task[name])
        keeps_memory = config.trainer.keep_memory and keep_freed_memory()
        fitting = _Fitting(config, strategy, progress, watch, nested)
        folder = folder or new_folder(config)
        fitting.run(folder, keeps_memory)
    return Run(folder.path) if is_first() else None


class _Fitting:
    """One fit: what its steps share."""

    def __init__(
        self,
        config: FitConfig,
        strategy: Strategy,
        progress: Progress,
        watch: Watch | None,
        nested: Nested | None,
    ):
        self.config = config
        self.watch = watch
        self.nested = nested
        self.progress = progress
        self.scorer = Scorer(config, progress)
        with progress.stage(f"loading {len(config.tasks)} tasks"):
            self.loaded = load_data(config, strategy)
            for task in self.loaded.tasks:
                final_split(task, config)
        with progress.stage("building the vocabulary and the decoder"):
            tokens = pretraining_tokens(config, strategy)
            self.start = starting_point(config, self.loaded, pretrains=tokens > 0)
        self.pretraining = (
            Pretraining(config, self.loaded, self.start, tokens, progress) if tokens else None
        )
        with progress.stage("tokenising the training rows"):
            self.trainings = trainings(config, self.loaded, self.start)
        self.model = self.trainings.model
        check_conflict(config, [part.strategy for part in self.trainings.parts])
        for part in self.trainings.parts:
            if part.budget == "shared":
                check_shared(config, part.strategy)

    def run(self, folder: RunFolder, keeps_memory: bool) -> None:
        """:param keeps_memory: For the log: whether freed memory stays with the process."""
        config = self.config
        resume = any(folder.path.glob(f"**/{LAST}"))
        tracker = make_tracker(
            folder, enabled=config.record.mlflow and is_first(), uri=config.record.tracking_uri
        )
        recorder = Recorder(folder, tracker)
        ending = "failed"
        try:
            if is_first():
                word = "resumed" if resume else "started"
                folder.say(f"{word}: {config.strategy['name']}, seed {config.seed}")
                folder.say(
                    f"trainer: precision {config.trainer.precision},"
                    f" freed memory {'kept' if keeps_memory else 'given back'}"
                )
                self._save_vocabulary(folder)
                self._start(tracker, folder)
            with process_group_ended() if launched_together() else nullcontext():
                pretrained = self._pretrain(folder)
                trained = self._train(folder, recorder)
            if is_first():
                self._report(folder, recorder, trained, pretrained)
            ending = "finished"
        except (Interrupted, KeyboardInterrupt) as interruption:
            ending = "interrupted"
            if is_first():
                folder.say("interrupted")
                print(
                    f"interrupted; go on with: python -m mtl.fit resume={folder.path}",
                    file=sys.stderr,
                )
            raise interruption
        except Stopped as stopped:
            ending = "interrupted"
            folder.say(f"stopped: {stopped}")
            raise
        except Exception as error:
            if is_first():
                folder.say(f"failed: {error}")
            raise
        finally:
            with self.progress.stage("writing to MLflow"):
                tracker.finish(ending)  # type: ignore[arg-type]

    def _save_vocabulary(self, folder: RunFolder) -> None:
        """Keep the vocabulary beside the run; a resumed run must find the one it began with."""
        ours, kept = self.model.vocabulary, folder.path / "tokenizer"
        if kept.is_dir() and Vocabulary.load(kept).fingerprint != ours.fingerprint:
            raise UserError(
                "the training text is no longer what this run began with: it gives another vocabulary",
                where=str(kept),
                hints=["put the data back as it was, or begin a new run in another folder"],
            )
        ours.save(kept)

    def _pretrain(self, folder: RunFolder) -> dict[str, Any] | None:
        """The language-model stage, and every model built anew around what came of it."""
        if self.pretraining is None:
            return None
        self.progress.title = PRETRAINING
        with for_other_processes(folder, self.config, PRETRAINING):
            self.start, ledger = self.pretraining.run(folder, first=is_first())
        for part in self.trainings.parts:
            self.start.build(part.strategy, part.strategy.tasks, part.strategy.vocabulary)
        return ledger

    def _train(self, folder: RunFolder, recorder: Recorder) -> list[Trained]:
        """Every part in its order, each from where the one before it ended; finished ones are only read."""
        trained, steps, tokens = [], 0, 0
        if is_first():
            folder.truncate_after(self._steps_saved(folder))
        for part in self.trainings.parts:
            if takes_part(part.name):
                if part.source is not None:
                    self._begin_with(part, folder)
                self.progress.title = part.name or self.config.strategy["name"]
                trained.append(self._train_part(part, folder, recorder, steps, tokens))
            steps += part.budgeted.steps
            tokens += part.budgeted.tokens
        return trained

    def _steps_saved(self, folder: RunFolder) -> int:
        """Steps that no checkpoint has to repeat, of all parts. A run that ended before its first begins anew."""
        saved = 0
        for part in self.trainings.parts:
            checkpoint = part.folder(folder) / LAST
            if not checkpoint.is_file():
                break
            saved += read_checkpoint(checkpoint)["global_step"]
        return saved

    def _begin_with(self, part: Part, folder: RunFolder) -> None:
        """Give a model the weights of the stage before."""
        assert part.source is not None
        before = part.source.strategy
        load_weights(before, self._chosen(part.source, folder))
        known = before.state_dict()
        part.strategy.load_state_dict({name: known[name] for name in part.strategy.state_dict()})

    def _chosen(self, part: Part, folder: RunFolder) -> Any:
        """The checkpoint of a part that counts: its best on the selection rows, or its last."""
        best = part.folder(folder) / BEST
        wanted = self.config.evaluation.checkpoint == "best" and best.is_file()
        return best if wanted else part.folder(folder) / LAST

    def _train_part(
        self, part: Part, folder: RunFolder, recorder: Recorder, steps: int, tokens: int
    ) -> Trained:
        """
        :param steps: Steps of all parts before.
        :param tokens: Tokens of all parts before.
        """
        config, whole, checkpoints = self.config, self.trainings, part.folder(folder)
        selection = self.scorer.selection(part.strategy, self.loaded.tasks)
        whole_run = len(part.strategy.tasks) == len(self.loaded.trained)

        def step_done(step: int, losses: Mapping[str, float], learning_rate: float) -> None:
            seen = tokens + int(part.budgeted.cumulative[step - 1])
            self.progress.update(
                steps + step, whole.steps, seen, whole.tokens, losses, learning_rate
            )

        def log(step: int, seen: int, values: Mapping[str, float]) -> None:
            recorder.metrics(steps + step, tokens + seen, values)

        conflict = make_conflict(config, part.strategy, part.stores)
        if conflict is not None and is_first():
            for note in conflict.notes:
                folder.say(note)

        def scored(step: int, seen: int, value: float) -> None:
            if self.watch is not None and whole_run:
                self.watch(steps + step, tokens + seen, value)

        listener = Listener(
            score=lambda: self.scorer.select(part.strategy, selection, named=whole_run),
            log=log,
            step_done=step_done,
            scored=scored,
            say=folder.say if is_first() else None,
            diagnose=None if conflict is None else conflict.measure,
        )
        with for_other_processes(folder, config, part.name):
            return train(
                part.strategy,
                part.stores,
                part.plan,
                part.budgeted.cumulative,
                replace(config, optimizer=part.optimizer),
                checkpoints,
                listener,
                resume=(checkpoints / LAST).is_file(),
                shares=part.shares,
                balance=config.balance if part.budget == "shared" else None,
                more_follow=launched_together(),
            )

    def _report(
        self,
        folder: RunFolder,
        recorder: Recorder,
        trained: Sequence[Trained],
        pretrained: dict[str, Any] | None,
    ) -> None:
        config = self.config
        for name in (LAST, BEST) if self.trainings.several else ():
            self._gather(folder, name)
        ended = Ending(config, self.scorer, self.loaded, self.trainings, folder).score(trained)
        summary = summarise(
            config,
            self.loaded,
            self.trainings,
            trained,
            ended.scores,
            ended.said,
            start=self.start,
            pretrained=pretrained,
        )
        if ended.of_own is not None:
            summary["average_of_own_checkpoints"] = ended.of_own  # type: ignore[typeddict-item]
        write_summary(folder, summary)
        if self.trainings.several:  # the model's checkpoints hold all their weights
            for part in self.trainings.parts:
                shutil.rmtree(part.folder(folder), ignore_errors=True)
        drop_own_checkpoints(folder.last_checkpoint.parent)
        self._finish(folder, recorder, summary, ended.scores)

    def _gather(self, folder: RunFolder, name: str) -> None:
        """Write the checkpoint of the whole model from those of the parts that made it."""
        for part in self.trainings.final:
            own = part.folder(folder) / name
            load_weights(part.strategy, own if own.is_file() else part.folder(folder) / LAST)
        save_model(self.model, folder.path / "checkpoints" / name, steps=self.trainings.steps)

    def _finish(
        self, folder: RunFolder, recorder: Recorder, summary: Summary, scores: Sequence[TaskScore]
    ) -> None:
        values = {
            f"{score.task}/{name}": value.value
            for score in scores
            for name, value in score.metrics.items()
        }
        for name, found in summary["tasks"].items():
            if (own := found.get("own_checkpoint")) is not None:
                value = own["metrics"][found["primary"]]["value"]
                values[f"{name}/own_checkpoint_{found['primary']}"] = float(value or 0.0)
        values["average"] = float(summary["average"]["value"] or 0.0)
        recorder.tracker.log(self.trainings.tokens, values)
        title = f"{self.config.strategy['name']}, seed {self.config.seed}"
        with self.progress.stage("drawing the learning curves"):
            draw_curves(folder, title=title)
            if (folder.path / PRETRAINING).is_dir():
                draw_curves(RunFolder(folder.path / PRETRAINING), title=f"{title}: {PRETRAINING}")
            conflict = draw_conflict(folder, title=title)
        if conflict is not None:
            folder.say(conflict_table(folder))
        for path in (folder.config, folder.summary, folder.curves, conflict, folder.log):
            if path is not None and path.is_file():
                recorder.tracker.artifact(path)
        folder.say("finished")

    def _start(self, tracker: Tracker, folder: RunFolder) -> None:
        config, nested = self.config, self.nested
        commit = git_state()["commit"]
        tracker.start(
            experiment=config.record.experiment or config.suite.name,
            run_name=nested.run_name if nested else f"{config.strategy['name']} seed {config.seed}",
            parent=nested.parent if nested else None,
            parameters=_flat(asdict(config), skip=("task", "suite")),
            tags={
                "strategy": config.strategy["name"],
                "balance": config.balance.name,
                "seed": config.seed,
                "suite": config.suite.name,
                "tasks": ",".join(config.tasks),
                "commit": commit,
                "run_dir": folder.path.absolute(),
                **(nested.tags if nested else {}),
            },
        )


def _flat(
    values: Mapping[str, Any], *, skip: Sequence[str] = (), prefix: str = ""
) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in skip:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
