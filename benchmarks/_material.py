"""What benchmarks train on: the microworld, read once, and what a training has before its first step.

Without Hydra and pydantic, which may be absent where benchmarks run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import yaml
from _measuring import ROOT
from _tasks import read_task

from mtl.config import schema
from mtl.data.mixture import rates
from mtl.data.plan import Plan
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.strategy import Strategy
from mtl.tasks.corpus import load_corpus
from mtl.tasks.loading import load_task
from mtl.tasks.task import Task


@dataclass(frozen=True)
class Material:
    """The microworld, read once for all cases."""

    tasks: list[Task]
    corpus: Task
    vocabulary: Vocabulary

    @classmethod
    def load(cls, names: Sequence[str], rows: int) -> Material:
        """The first ``rows`` training rows of each task and of the running text."""
        data = schema.DataConfig()
        tasks = [_fewer(load_task(read_task(name), data, seed=0), rows) for name in names]
        config = schema.CorpusConfig(name="microworld", kind="microworld")
        corpus = _fewer(load_corpus(config, tasks, data, seed=0), rows)
        texts = (
            text
            for task in (*tasks, corpus)
            if task.train is not None
            for e in task.train.examples
            for text in (*e.segments, *e.prompt, *e.choices, *e.answers, *e.references)
        )
        return cls(tasks, corpus, Vocabulary.train(texts, 8192))

    def read_by(self, strategy: Strategy) -> list[Task]:
        """What a strategy trains on."""
        return self.tasks if strategy.reads == "tasks" else [self.corpus]


def _fewer(task: Task, rows: int) -> Task:
    assert task.train is not None
    return replace(task, train=replace(task.train, examples=task.train.examples[:rows]))


@dataclass(frozen=True)
class Prepared:
    """A training before its first step."""

    strategy: Strategy
    """Built."""
    stores: list[EncodedSplit]
    """Training rows of each task."""
    plan: Plan


def prepare(
    strategy: Strategy, tasks: Sequence[Task], vocabulary: Vocabulary, config: schema.FitConfig
) -> Prepared:
    """Build a strategy for these tasks, encode their rows, and plan its steps."""
    vocabulary = vocabulary.with_special(strategy.special_tokens(tasks))
    strategy.build(Decoder(config.decoder, vocabulary.size), tasks, vocabulary)
    stores = [_encode(strategy, task) for task in tasks]
    sizes = {task.name: len(store) for task, store in zip(tasks, stores, strict=True)}
    shares = rates(sizes, config.mixture) if len(sizes) > 1 else dict.fromkeys(sizes, 1.0)
    plan = Plan(
        [store.lengths for store in stores],
        list(shares.values()),
        keys=list(sizes),
        composition=strategy.composition,
        batch_tokens=config.batch.tokens,
        seed=config.seed,
    )
    return Prepared(strategy, stores, plan)


def _encode(strategy: Strategy, task: Task) -> EncodedSplit:
    """The training rows, in memory."""
    assert task.train is not None
    vocabulary, context = strategy.vocabulary, strategy.decoder.context
    return EncodedSplit.build(
        task.train.examples,
        lambda example: strategy.encode(example, task, vocabulary, context, "train"),
        prefetch=vocabulary.prefetch,
    )


def make_config(
    decoder: str, strategy: str, options: Mapping[str, str], *, tokens: int, block: int
) -> schema.FitConfig:
    """The defaults of ``mtl.fit``, but for what a benchmark fixes."""
    shape = yaml.safe_load((ROOT / f"configs/decoder/{decoder}.yaml").read_text(encoding="utf-8"))
    device = options.get("device", "cpu")
    precision = options["precision"]
    assert precision in ("32", "bf16")
    return schema.FitConfig(
        strategy={"name": strategy},
        suite=schema.SuiteConfig(name="microworld", tasks=[]),
        tasks=[],
        task={},
        mixture=schema.MixtureConfig(name="temperature", temperature=2.0),
        balance=schema.BalanceConfig(name="sum"),
        decoder=schema.DecoderConfig(**shape),
        tokenizer=schema.TokenizerConfig(name="byte_bpe", kind="byte_bpe"),
        corpus=schema.CorpusConfig(name="microworld", kind="microworld"),
        optimizer=schema.OptimizerConfig(),
        trainer=schema.TrainerConfig(
            name=device,
            accelerator="cpu" if device == "cpu" else "gpu",
            precision=precision,
            threads=int(options["threads"]),
            compile="never",  # the bare loop is not compiled either
        ),
        pretrain=schema.PretrainConfig(),
        diagnostics=schema.DiagnosticsConfig(),
        budget=schema.BudgetConfig(steps=block * (int(options["pairs"]) + 2)),
        batch=schema.BatchConfig(tokens=tokens),
        data=schema.DataConfig(),
        evaluation=schema.EvaluationConfig(times=0),
        record=schema.RecordConfig(
            mlflow=options["mlflow"] == "true", every=block, checkpoint_every=sys.maxsize
        ),
    )
