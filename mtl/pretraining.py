"""The language-model stage before the tasks: done once for a decoder, corpus, length and seed, then reused by all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from mtl.answering import Scorer
from mtl.assembly import Loaded, encode_split
from mtl.claiming import launched_together
from mtl.config.schema import FitConfig
from mtl.data.loader import planned_totals
from mtl.data.mixture import Schedule
from mtl.data.plan import Plan
from mtl.learning.language_modelling import LanguageModelling
from mtl.learning.ledger import cost
from mtl.learning.supervisor import Scored
from mtl.learning.training import Listener, train
from mtl.record.files import to_json, write_atomically
from mtl.record.folder import RunFolder
from mtl.record.progress import Progress
from mtl.starting import Start
from mtl.storage import cache

FOLDER = "pretraining"
"""Folder of a run that says how its decoder was pretrained."""
WEIGHTS, LEDGER, METRICS = "decoder.pt", "ledger.json", "metrics.jsonl"


class Pretraining:
    """Tokens of running text for the decoder of a start.

    The result is cached under a hash of all that decides it: the initial decoder, the corpus, the tokens, optimizer,
    step size and seed. Whoever needs it first trains it inside the run folder (``pretraining/``, resumable there) and
    publishes it; later runs copy what the record says of it and take the weights.

    :param tokens: Tokens of the stage, more than 0; the last step may go a little beyond.
    :raises UserError: A corpus that cannot be read.
    """

    def __init__(
        self, config: FitConfig, loaded: Loaded, start: Start, tokens: int, progress: Progress
    ):
        assert loaded.corpus is not None
        assert loaded.corpus.train is not None
        rate = config.pretrain.learning_rate or config.optimizer.learning_rate
        self.config = replace(config, optimizer=replace(config.optimizer, learning_rate=rate))
        self.start, self.progress = start, progress
        self.corpus = loaded.corpus
        self.tokens = tokens
        self.key = trunk_key(self.config, start, loaded.corpus.train.fingerprint, tokens)
        self.entry = cache.cache_root(config.data.cache) / f"pretrained-{self.key}"
        if not self.entry.is_dir():
            self._prepare()

    def _prepare(self) -> None:
        """Encode and plan, so that what is wrong is said before anything is created."""
        config, corpus = self.config, self.corpus
        self.strategy = LanguageModelling()
        self.strategy.build(self.start.decoder, [corpus], self.start.base, seed=config.seed)
        assert corpus.train is not None
        with self.progress.stage("tokenising the corpus"):
            self.store = encode_split(self.strategy, corpus, corpus.train, "train", config.data)
        self.plan = Plan(
            [self.store.lengths],
            Schedule.constant({corpus.name: 1.0}),
            keys=[corpus.name],
            composition=self.strategy.composition,
            batch_tokens=config.batch.tokens,
            seed=config.seed,
        )
        budget = replace(config.budget, tokens=self.tokens, steps=None, epochs=None, like=None)
        self.budgeted = planned_totals(self.plan, budget)

    def run(self, folder: RunFolder, *, first: bool) -> tuple[Start, dict[str, Any]]:
        """The start with a pretrained decoder, and the stage's ledger.

        :param first: Whether this process writes.
        """
        with self._lock():
            return self._run(folder, first)

    def _lock(self) -> AbstractContextManager[None]:
        """Of runs that need the same decoder at once, one trains it and the others wait for it; the processes of one
        run do not wait for each other."""
        trainer = self.config.trainer
        shared = trainer.devices != 1 or trainer.nodes != 1 or launched_together()
        if shared or self.entry.is_dir():  # a finished one may lie where nothing can be written
            return nullcontext()
        waiting = self.progress.stage("waiting for another run that pretrains this decoder")
        return cache.lock(self.entry.name, self.config.data.cache, waiting=waiting)

    def _run(self, folder: RunFolder, first: bool) -> tuple[Start, dict[str, Any]]:
        own = RunFolder(folder.path / FOLDER)
        decoder = self.start.decoder
        if self.entry.is_dir():
            weights = torch.load(self.entry / WEIGHTS, map_location="cpu", weights_only=True)
            decoder.load_state_dict(weights)
            if first and not (own.path / LEDGER).is_file():
                shutil.rmtree(own.path, ignore_errors=True)  # another run came first
                own.path.mkdir()
                shutil.copy(self.entry / METRICS, own.path / METRICS)
                kept = json.loads((self.entry / LEDGER).read_text(encoding="utf-8"))
                # Its seconds are those of the run that trained it.
                _write_ledger(own, {**kept, "reused": True})
        else:
            self._train(own, first)
        if not first:
            return self.start, {}
        ledger: dict[str, Any] = json.loads((own.path / LEDGER).read_text(encoding="utf-8"))
        pretrained = replace(self.start, tokens=self.start.tokens + ledger["tokens"])
        return pretrained, {"corpus": self.corpus.name, **ledger}

    def _train(self, own: RunFolder, first: bool) -> None:
        config = self.config
        resume = own.last_checkpoint.is_file()
        if first:
            own.path.mkdir(exist_ok=True)
            step = _step(own.last_checkpoint) if resume else 0
            own.truncate_after(step)
        scorer = Scorer(config, self.progress)
        held_out = scorer.selection(self.strategy, ())

        def score() -> Scored:
            # The last weights are taken whatever the score: nothing is selected here.
            return replace(scorer.select(self.strategy, held_out, named=False), value=0.0)

        total = self.budgeted

        def step_done(step: int, losses: Mapping[str, float], learning_rate: float) -> None:
            tokens = int(total.cumulative[step - 1])
            self.progress.update(step, total.steps, tokens, total.tokens, losses, learning_rate)

        def log(step: int, tokens: int, values: Mapping[str, float]) -> None:
            own.append_metrics({"step": step, "tokens": tokens, **values})

        trained = train(
            self.strategy,
            [self.store],
            self.plan,
            total.cumulative,
            config,
            own.last_checkpoint.parent,
            Listener(score=score, log=log, step_done=step_done),
            resume=resume,
            more_follow=launched_together(),
        )
        if not first:
            return
        ledger = cost(
            self.strategy,
            [self.store],
            self.plan,
            steps=trained.steps,
            seconds=trained.seconds,
            pieces=config.batch.accumulate * trained.devices,
        )
        kept = {name: ledger[name] for name in ("tokens", "steps", "flops", "seconds")}
        _write_ledger(own, {**kept, "reused": False})
        cache.build(self.entry.name, lambda place: self._publish(own, place), config.data.cache)
        shutil.rmtree(own.last_checkpoint.parent)

    def _publish(self, own: RunFolder, place: Path) -> None:
        torch.save(self.strategy.decoder.state_dict(), place / WEIGHTS)
        for name in (METRICS, LEDGER):
            shutil.copy(own.path / name, place / name)


def trunk_key(config: FitConfig, start: Start, corpus: str, tokens: int) -> str:
    """A key that differs wherever the weights that come of the stage would.

    :param config: With the stage's own learning rate.
    :param corpus: Fingerprint of the training text.
    """
    trainer = config.trainer
    decided = [
        {**asdict(start.decoder.config), "name": None},
        start.base.fingerprint,
        corpus,
        tokens,
        asdict(config.optimizer),
        asdict(config.batch),
        trainer.precision,
        config.seed,
        # Another device, or another number of threads, adds in another order.
        [trainer.accelerator, trainer.devices, trainer.threads or torch.get_num_threads()],
    ]
    return cache.content_key("pretraining", json.dumps(decided, sort_keys=True))


def _write_ledger(own: RunFolder, ledger: Mapping[str, Any]) -> None:
    write_atomically(own.path / LEDGER, to_json(ledger, indent=2) + "\n")


def _step(checkpoint: Path) -> int:
    step: int = torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]
    return step
