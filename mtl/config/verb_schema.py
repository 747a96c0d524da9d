"""What the verbs beside ``fit`` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mtl.config.schema import CorpusConfig, DecoderConfig, SuiteConfig, TaskConfig, TokenizerConfig


@dataclass(frozen=True, kw_only=True)
class PlaceConfig:
    """Where data lies, for a finished run; what is null is taken from the run."""

    root: str | None = None
    """Folder with ``<dataset>/<split>.parquet``; null is the run's, else ``MTL_DATA_ROOT``."""
    cache: str | None = None
    """Folder for tokenised data; null is the run's."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Everything ``python -m mtl.evaluate`` can be told."""

    run: str | None = None
    """Folder of the finished run."""
    hf: str | None = None
    """A Hugging Face folder or hub name in place of a run: a language model, asked through prompts."""
    tasks: list[str] | None = None
    """Tasks to score, those the run never saw included; null is the run's own."""
    task: dict[str, TaskConfig] = field(default_factory=dict)
    """Full definition of each named task (filled from configs/task)."""
    data: PlaceConfig = field(default_factory=PlaceConfig)
    """Where data lies."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint is scored."""
    overlap: str | None = None
    """JSON file written by ``mtl.prepare overlap out=FILE``: the scores of all rows, of those that do not stand in the
    corpus and of those that do, side by side."""
    start_token: bool = True
    """Whether a language model reads the end-of-text token before each prompt, as before a document. Without, GPT-2 is
    asked as lm-evaluation-harness asks it."""
    signal: Literal["right", "shuffled", "wrong"] = "right"
    """What tells the tasks apart, for strategies that give a signal: the right one, one drawn for each row, or always
    another task's. The wrong ones are controls and must hurt where the signal matters."""
    split: Literal["report", "selection"] = "report"
    """Which split is scored."""
    shots: int | None = None
    """Examples of the train split that a language model reads before each row; null is what the task's protocol says.
    With one or more the score is few-shot, and is called so."""
    prompts: Literal["first", "all"] = "first"
    """Ask in the task's own words alone, or also in every other wording it has, and report the spread."""
    window: Literal["disjoint", "strided"] = "disjoint"
    """How a document longer than the context is cut (language modelling): windows that follow each other, or windows
    that overlap by half of the context, so that each token but the first ones sees at least half of it."""
    rows: int | None = None
    """At most this many rows per task, spread evenly over the split; null for all. A cut is said in the table."""
    batch_tokens: int = 8192
    """Tokens scored at once."""
    resamples: int = 1000
    """Bootstrap resamples of each interval."""
    out: str | None = None
    """JSON file for the scores; null only prints them."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Everything ``python -m mtl.predict`` can be told: ``text`` or ``file``, not both."""

    run: str
    """Folder of the finished run."""
    task: str | None = None
    """Task that is answered; null where the run has only one."""
    text: str | dict[str, Any] | None = None
    """One input: a text, or the columns of a row as ``{premise: ..., hypothesis: ...}``."""
    file: str | None = None
    """Inputs: .jsonl, .csv or .txt; ``-`` is standard input."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint answers."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Everything ``python -m mtl.generate`` can be told."""

    run: str | None = None
    """Folder of the finished run."""
    hf: str | None = None
    """A Hugging Face folder or hub name in place of a run."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint writes."""
    prompt: str | None = None
    """Text that is continued; null writes a document from its beginning."""
    file: str | None = None
    """Prompts in place of ``prompt``: one a line of a .txt, column ``prompt`` of a .jsonl or any other file of rows,
    ``-`` for standard input."""
    samples: int = 1
    """Continuations of each prompt."""
    max_new_tokens: int = 128
    """Longest continuation in tokens."""
    temperature: float = 1.0
    """0 takes the likeliest token each time."""
    top_k: int | None = None
    """Draw among the k likeliest tokens only."""
    top_p: float | None = None
    """Draw among the fewest likeliest tokens whose probabilities sum to at least p."""
    stop: list[str] = field(default_factory=list)
    """Texts that end a continuation and do not belong to it."""
    seed: int = 0
    """Fixes what is drawn."""
    batch: int = 16
    """Continuations written at once; it changes none of them."""
    precision: Literal["auto", "32", "bf16"] = "32"
    """Numbers that matrices are multiplied in. ``bf16`` is faster on hardware that has it and writes other texts, for
    probabilities differ in their third digit; ``auto`` takes it where it is faster, as ``trainer.precision`` does."""
    out: str | None = None
    """JSON-lines file of the continuations; null prints them."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Everything ``python -m mtl.export`` can be told."""

    run: str
    """Folder of the finished run."""
    to: str
    """Folder that is written; it must not be there yet, or be empty."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint is exported."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Everything ``python -m mtl.prepare`` can be told."""

    corpus: CorpusConfig
    """Running text."""
    tokenizer: TokenizerConfig
    """The vocabulary: trained on the corpus, or loaded."""
    decoder: DecoderConfig
    """Whose context the tokenised text is cut to."""
    data: PlaceConfig = field(default_factory=PlaceConfig)
    """Where data lies."""
    seed: int = 0
    """Fixes which documents are held out, where the corpus says a share of them."""


@dataclass(frozen=True, kw_only=True)
class OverlapConfig:
    """Everything ``python -m mtl.prepare overlap`` can be told."""

    corpus: CorpusConfig
    """Text whose n-grams are looked for."""
    suite: SuiteConfig
    """Named list of tasks."""
    tasks: list[str]
    """Tasks whose rows are looked at, in their report split."""
    task: dict[str, TaskConfig] = field(default_factory=dict)
    """Full definition of each named task (filled from configs/task)."""
    data: PlaceConfig = field(default_factory=PlaceConfig)
    """Where data lies."""
    n: int = 8
    """Words of an n-gram."""
    false_positive_rate: float = 1e-8
    """Of the Bloom filter, for an n-gram that is not in the text."""
    seed: int = 0
    """As in ``fit``: which rows are cut from train to select."""
    out: str | None = None
    """JSON file for the table; null only prints it."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Everything ``python -m mtl.report`` can be told."""

    study: str
    """Name of a study in runs/, or its folder."""
    out: str | None = None
    """Folder that is written; null is ``report`` in the study's folder."""
