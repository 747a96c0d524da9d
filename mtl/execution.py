"""A fit from its config to its record: load, train, score, write down."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from mtl.assembly import (
    Loaded,
    build_strategy,
    encode_split,
    limited,
    load_data,
    load_weights,
    make_strategy,
    make_vocabulary,
    read_checkpoint,
    save_answers,
    score_notes,
)
from mtl.claiming import for_other_processes, is_first, new_folder, occupied_folder
from mtl.config.errors import Interrupted, UserError
from mtl.config.schema import FitConfig
from mtl.data.loader import planned_totals
from mtl.data.mixture import rates
from mtl.data.plan import Plan
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.learning.evaluation import answer_split
from mtl.learning.interruption import interrupt, interruptions
from mtl.learning.ledger import cost
from mtl.learning.module import NonFiniteLossError
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import LAST, Scored
from mtl.learning.training import Listener, Trained, check_devices, train
from mtl.record.curves import draw_curves
from mtl.record.folder import RunFolder
from mtl.record.progress import Progress
from mtl.record.recorder import Recorder
from mtl.record.run import Run
from mtl.record.summary import Data, Summary, git_state, versions, write_summary
from mtl.record.tracking import Tracker, make_tracker
from mtl.scoring.metrics import check_metrics
from mtl.scoring.score import TaskScore, average, score_task
from mtl.tasks.task import Answer, Split, Task


def fit(config: FitConfig) -> Run | None:
    """Train, score and record what the config says; a finished run in ``run_dir`` is returned as it is.

    :return: The run; None in the processes beside the first.
    :raises UserError: whatever is wrong with the config or the data; before training nothing is written but caches.
    """
    with interruptions(interrupt):
        try:
            return _fit(config)
        except (Interrupted, NonFiniteLossError):
            # Every process ends after the same step; the first one says why.
            if is_first():
                raise
            return None


def _fit(config: FitConfig) -> Run | None:
    folder = occupied_folder(config)
    if folder is not None and folder.finished and is_first():
        return Run(folder.path)
    title = config.strategy["name"]
    with Progress(title, shown=None if is_first() else False) as progress:
        with progress.stage("loading the libraries"):
            check_devices(config.trainer)
            strategy = make_strategy(config)
            for name in config.tasks:
                check_metrics(config.task[name])
        fitting = _Fitting(config, strategy, progress)
        folder = folder or new_folder(config)
        fitting.run(folder)
    return Run(folder.path) if is_first() else None


class _Fitting:
    """One fit: what its steps share."""

    def __init__(self, config: FitConfig, strategy: Strategy, progress: Progress):
        self.config = config
        self.strategy = strategy
        self.progress = progress
        self.loaded = self._load()
        self.budgeted = planned_totals(self.plan, config.budget)

    def _load(self) -> Loaded:
        config, progress, strategy = self.config, self.progress, self.strategy
        with progress.stage(f"loading {len(config.tasks)} tasks"):
            loaded = load_data(config, strategy)
        with progress.stage("building the vocabulary"):
            base = make_vocabulary(config, loaded)
        build_strategy(config, strategy, loaded.trained, base)
        with progress.stage("tokenising the training rows"):
            self.stores = [
                encode_split(strategy, task, task.train, "train", config.data)
                for task in loaded.trained
                if task.train is not None
            ]
        sizes = {
            task.name: len(store) for task, store in zip(loaded.trained, self.stores, strict=True)
        }
        # A corpus is one source: there is nothing to mix.
        self.rates = (
            rates(sizes, config.mixture) if strategy.reads == "tasks" else dict.fromkeys(sizes, 1.0)
        )
        self.plan = Plan(
            [store.lengths for store in self.stores],
            list(self.rates.values()),
            keys=list(self.rates),
            composition=strategy.composition,
            batch_tokens=config.batch.tokens,
            seed=config.seed,
        )
        return loaded

    def run(self, folder: RunFolder) -> None:
        config = self.config
        resume = (folder.path / "checkpoints" / LAST).is_file()
        tracker = make_tracker(
            folder, enabled=config.record.mlflow and is_first(), uri=config.record.tracking_uri
        )
        recorder = Recorder(folder, tracker)
        ending = "failed"
        try:
            if is_first():
                word = "resumed" if resume else "started"
                folder.say(f"{word}: {config.strategy['name']}, seed {config.seed}")
                self._save_vocabulary(folder)
                self._start(tracker, folder)
            trained = self._train(folder, recorder, resume)
            if is_first():
                self._report(folder, recorder, trained)
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
        except Exception as error:
            if is_first():
                folder.say(f"failed: {error}")
            raise
        finally:
            with self.progress.stage("writing to MLflow"):
                tracker.finish(ending)  # type: ignore[arg-type]

    def _save_vocabulary(self, folder: RunFolder) -> None:
        """Keep the vocabulary beside the run; a resumed run must find the one it began with."""
        ours, kept = self.strategy.vocabulary, folder.path / "tokenizer"
        if kept.is_dir() and Vocabulary.load(kept).fingerprint != ours.fingerprint:
            raise UserError(
                "the training text is no longer what this run began with: it gives another vocabulary",
                where=str(kept),
                hints=["put the data back as it was, or begin a new run in another folder"],
            )
        ours.save(kept)

    def _train(self, folder: RunFolder, recorder: Recorder, resume: bool) -> Trained:
        config, strategy, budgeted = self.config, self.strategy, self.budgeted
        total = len(budgeted.cumulative)
        if is_first():
            # A run that ended before its first checkpoint begins anew.
            folder.truncate_after(
                read_checkpoint(folder.last_checkpoint)["global_step"] if resume else 0
            )
        selection = self._selection_stores()

        def step_done(step: int, losses: Mapping[str, float], learning_rate: float) -> None:
            tokens = int(budgeted.cumulative[step - 1])
            self.progress.update(step, total, tokens, budgeted.tokens, losses, learning_rate)

        listener = Listener(
            score=lambda: self._select(selection), log=recorder.metrics, step_done=step_done
        )
        with for_other_processes(folder, config):
            return train(
                strategy,
                self.stores,
                self.plan,
                budgeted.cumulative,
                config,
                folder.path / "checkpoints",
                listener,
                resume=resume,
            )

    def _selection_stores(self) -> list[tuple[Task, Split, EncodedSplit]]:
        config = self.config
        tasks = [task for task in self.loaded.tasks if task.selection is not None]
        if self.strategy.reads == "corpus":
            tasks += self.loaded.trained
        found = []
        with self.progress.stage("tokenising the selection rows"):
            for task in tasks:
                assert task.selection is not None
                split = limited(task.selection, config.evaluation.selection_rows)
                found.append(
                    (task, split, encode_split(self.strategy, task, split, "answer", config.data))
                )
        return found

    def _select(self, selection: Sequence[tuple[Task, Split, EncodedSplit]]) -> Scored:
        """Score the selection rows. A strategy that reads a corpus is selected by its held-out text alone, so
        that no label takes part in training it."""
        scores = [
            self._score(task, split, store, resamples=0)[0] for task, split, store in selection
        ]
        values = {
            f"{score.task}/selection_{name}": value.value
            for score in scores
            for name, value in score.metrics.items()
        }
        corpus = [score for score in scores if score.task in {t.name for t in self.loaded.trained}]
        chosen = corpus if self.strategy.reads == "corpus" else scores
        value = float(average(chosen)["value"])
        return Scored(value, {**values, "selection_average": value})

    def _score(
        self, task: Task, split: Split, store: EncodedSplit, *, resamples: int, alone: bool = False
    ) -> tuple[TaskScore, list[Answer]]:
        world = (
            1
            if alone or not torch.distributed.is_initialized()
            else torch.distributed.get_world_size()
        )
        rank = torch.distributed.get_rank() if world > 1 else 0
        with self.progress.stage(f"scoring {task.name}"):
            answers = answer_split(
                self.strategy,
                task,
                store,
                batch_tokens=self.config.evaluation.batch_tokens,
                device=self.strategy.decoder.device,
                rank=rank,
                world=world,
            )
            return score_task(task, split, answers, resamples=resamples), answers

    def _report(self, folder: RunFolder, recorder: Recorder, trained: Trained) -> None:
        config = self.config
        best = config.evaluation.checkpoint == "best" and trained.best_step is not None
        load_weights(self.strategy, folder.best_checkpoint if best else folder.last_checkpoint)
        scores, notes = [], {}
        for task in self.loaded.tasks:
            split = limited(task.report, config.evaluation.rows)
            store = encode_split(self.strategy, task, split, "answer", config.data)
            score, answers = self._score(
                task, split, store, resamples=config.evaluation.resamples, alone=True
            )
            scores.append(score)
            notes[task.name] = score_notes(split, store)
            save_answers(folder, task, split, answers)
        summary = self._summary(scores, notes, trained)
        write_summary(folder, summary)
        self._finish(folder, recorder, summary, scores)

    def _finish(
        self, folder: RunFolder, recorder: Recorder, summary: Summary, scores: Sequence[TaskScore]
    ) -> None:
        values = {
            f"{score.task}/{name}": value.value
            for score in scores
            for name, value in score.metrics.items()
        }
        values["average"] = float(summary["average"]["value"] or 0.0)
        recorder.tracker.log(self.budgeted.tokens, values)
        with self.progress.stage("drawing the learning curves"):
            draw_curves(folder, title=f"{self.config.strategy['name']}, seed {self.config.seed}")
        for path in (folder.config, folder.summary, folder.curves, folder.log):
            if path.is_file():
                recorder.tracker.artifact(path)
        folder.say("finished")

    def _summary(
        self, scores: Sequence[TaskScore], notes: Mapping[str, list[str]], trained: Trained
    ) -> Summary:
        config, loaded = self.config, self.loaded
        names = [task.name for task in loaded.trained]
        rows = dict(zip(names, self.budgeted.rows_by_task.tolist(), strict=True))
        tokens = dict(zip(names, self.budgeted.tokens_by_task.tolist(), strict=True))
        sizes = dict(zip(names, map(len, self.stores), strict=True))
        return {
            "strategy": config.strategy["name"],
            "balance": config.balance.name,
            "seed": config.seed,
            "status": "finished",
            "tasks": {
                score.task: {**score.as_summary(), "notes": notes[score.task]}  # type: ignore[typeddict-item]
                for score in scores
            },
            "average": average(scores),  # type: ignore[typeddict-item]
            "ledger": cost(
                self.strategy,
                self.stores,
                self.plan,
                steps=trained.steps,
                seconds=trained.seconds,
                pieces=config.batch.accumulate * trained.devices,
            ),  # type: ignore[typeddict-item]
            "data": {task.name: _data(task) for task in (*loaded.trained, *loaded.tasks)},
            "mixture": {
                name: {
                    "planned": self.rates[name],
                    "tokens": tokens[name],
                    "rows": rows[name],
                    "passes": rows[name] / sizes[name],
                }
                for name in names
            },
            "overlap": [
                {**asdict(found), "excluded": config.data.exclude_overlap}  # type: ignore[typeddict-item]
                for found in loaded.overlap
            ],
            "versions": versions(),
            "git": git_state(),
        }

    def _start(self, tracker: Tracker, folder: RunFolder) -> None:
        config = self.config
        commit = git_state()["commit"]
        tracker.start(
            experiment=config.record.experiment or config.suite.name,
            run_name=f"{config.strategy['name']} seed {config.seed}",
            parameters=_flat(asdict(config), skip=("task", "suite")),
            tags={
                "strategy": config.strategy["name"],
                "balance": config.balance.name,
                "seed": config.seed,
                "suite": config.suite.name,
                "tasks": ",".join(config.tasks),
                "commit": commit,
                "run_dir": folder.path.absolute(),
            },
        )


def _data(task: Task) -> Data:
    splits = {"train": task.train, "selection": task.selection, "report": task.report}
    present = {purpose: split for purpose, split in splits.items() if split is not None}
    return {
        "fingerprint": "-".join(split.fingerprint for split in present.values()),
        "rows": {purpose: len(split.examples) for purpose, split in present.items()},
        "notes": [split.note for split in present.values() if split.note],
    }


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
