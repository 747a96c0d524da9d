"""The closed schema of every configuration key, as plain dataclasses.

A key that is not a field here is an error wherever it was written (command line, ``+key=``, file).
The docstring under a field is its help text. Only the standard library is imported, so that the
decoder and the training loop can take these dataclasses where nothing else is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mtl.config.corpus_schema import C4Config as C4Config
from mtl.config.corpus_schema import CleaningConfig as CleaningConfig
from mtl.config.corpus_schema import CorpusConfig as CorpusConfig
from mtl.config.corpus_schema import DeduplicationConfig as DeduplicationConfig
from mtl.config.corpus_schema import GopherQualityConfig as GopherQualityConfig
from mtl.config.corpus_schema import GopherRepetitionConfig as GopherRepetitionConfig
from mtl.config.task_schema import DecodingConfig as DecodingConfig
from mtl.config.task_schema import HubConfig as HubConfig
from mtl.config.task_schema import MixtureConfig as MixtureConfig
from mtl.config.task_schema import MixtureGroup as MixtureGroup
from mtl.config.task_schema import MixturePoint as MixturePoint
from mtl.config.task_schema import PromptConfig as PromptConfig
from mtl.config.task_schema import ProtocolConfig as ProtocolConfig
from mtl.config.task_schema import SourceConfig as SourceConfig
from mtl.config.task_schema import SuiteConfig as SuiteConfig
from mtl.config.task_schema import TaskConfig as TaskConfig
from mtl.config.task_schema import TaskKind as TaskKind


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of the shared decoder."""

    name: str
    """Name of the size, as on the command line."""
    layers: int
    """Number of transformer blocks, or of layers of the LSTM."""
    width: int
    """Width D of the hidden states; a multiple of ``heads``."""
    heads: int
    """Attention heads in each block."""
    context: int
    """Longest sequence in tokens: the number of learned positions, where there are any."""
    norm: Literal["pre", "post"] = "pre"
    """``pre``: GPT-2, with a final layer norm. ``post``: GPT-1, without."""
    dropout: float = 0.0
    """Dropout probability on residual branches, embeddings and attention weights; in an LSTM on embeddings and on what
    each layer gives the next."""
    pretrained: str | None = None
    """A local Hugging Face folder or a hub name to start from (safetensors only)."""
    trunk: Literal["transformer", "lstm"] = "transformer"
    """``lstm``: GPT-1's ablation (section 5), an LSTM without attention, positions or layer norm; ``heads`` and
    ``norm`` mean nothing to it."""
    units: int | None = None
    """Units of each layer of an LSTM, projected back to ``width`` where they differ; null is ``width`` (``lstm``
    only)."""


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """How several tasks' losses, or their gradients, become one update."""

    name: str
    """Name of the method, as on the command line."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each task, 0 or more (``static`` only)."""
    temperature: float | None = None
    """How much the pace of a loss matters: large makes the weights equal (``dwa`` only)."""
    every: int | None = None
    """Steps over which losses are averaged, in place of the paper's epochs (``dwa`` only)."""
    learning_rate: float | None = None
    """Of the weights' own Adam (``famo`` only)."""
    weight_decay: float | None = None
    """Of the weights' own Adam (``famo`` only)."""
    mu: float | None = None
    """Smoothing: small heeds the largest loss alone, large all alike (``stch`` only)."""
    c: float | None = None
    """Radius around the mean gradient, as a share of its length (``cagrad`` only)."""
    beta: float | None = None
    """Share of a new cosine in the target, 0 to 1 (``gradvac`` only)."""
    max_norm: float | None = None
    """Longest direction; 0 for no limit (``nash`` only)."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The vocabulary."""

    name: str
    """Name of the tokenizer, as on the command line."""
    kind: Literal["byte_bpe", "folder"]
    """``byte_bpe`` is trained on the training text of the tasks; ``folder`` is loaded."""
    vocabulary: int = 8192
    """Size of a trained vocabulary in tokens, special tokens aside."""
    folder: str | None = None
    """A Hugging Face tokenizer folder, or one with GPT-2's ``vocab.json`` and ``merges.txt``."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a schedule over the token budget."""

    learning_rate: float = 2e-3
    """Highest learning rate."""
    weight_decay: float = 0.1
    """Decoupled decay, on matrices only."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    """Decay rates of AdamW's moments."""
    epsilon: float = 1e-8
    """AdamW's epsilon."""
    warmup: float = 0.05
    """Share of the budget over which the learning rate rises linearly from 0."""
    decay: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls after the warm-up."""
    final: float = 0.1
    """Learning rate at the end, as a share of the highest."""
    clip: float | None = 1.0
    """Largest global gradient norm; null for no clipping."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Where and in which precision training runs."""

    name: str
    """Name of the trainer file."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Lightning accelerator."""
    devices: int | Literal["auto"] = 1
    """Processes on each machine, one per device."""
    nodes: int = 1
    """Machines. With more than one, a launcher such as torchrun starts the command on each, and all share the run's
    folder."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """Lightning strategy."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """``32``: float32 everywhere, the parity mode. ``bf16``: autocast. ``auto``: bf16 where it is faster, on GPUs that
    have it and, from a width of 256 on, on CPUs that have it; which it was stands in the run's config."""
    threads: int | None = None
    """CPU threads per process; null leaves torch's choice."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Compile the decoder's blocks for training. ``auto``: on a GPU, where a run is long enough to save more time than
    compiling takes; what was decided stands in the run's log."""
    keep_memory: bool = True
    """Keep freed memory for the next step (glibc only): faster, and the process stays as large as it was at its
    largest."""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """When training ends: exactly one of the three is set."""

    tokens: int | None = None
    """Non-padding input tokens."""
    steps: int | None = None
    """Optimizer steps."""
    epochs: float | None = None
    """Passes over as many draws as there are training rows."""
    each: Literal["divided", "whole"] = "divided"
    """What one task gets where every task is trained alone: the budget divided by the number of tasks, or all of it."""
    like: str | None = None
    """A run folder: where every task is trained alone, it gets the very rows, step by step, that it got in that run.
    Stands in place of tokens, steps and epochs."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A language-model stage before the tasks, on ``corpus``; done once and reused by every run that begins so."""

    tokens: int | None = None
    """Tokens of running text, on top of the budget; 0 for none. Null is what the strategy says: none, or a share of the
    budget's tokens."""
    learning_rate: float | None = None
    """Highest learning rate; null is the optimizer's."""
    layers: int | None = None
    """Only the embeddings and the first this many blocks of whatever the decoder starts from are kept, the rest is
    drawn anew; null keeps all (GPT-1, figure 2)."""


@dataclass(frozen=True, kw_only=True)
class DiagnosticsConfig:
    """What is measured beside the scores; it changes nothing in training."""

    conflict: bool = False
    """Cosine and magnitude similarity of the tasks' gradients on the shared parameters."""
    every: int = 100
    """Steps between two measurements."""
    batch_tokens: int = 2048
    """Tokens of each of the two disjoint batches of a task that a measurement compares."""


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How large a step is."""

    tokens: int = 2048
    """Non-padding input tokens of an optimizer step, over all devices and accumulated pieces."""
    accumulate: int = 1
    """Pieces a step is computed in, to save memory."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where data lies and how it is split."""

    root: str | None = None
    """Folder with ``<dataset>/<split>.parquet``; null asks the hub."""
    exclude_overlap: bool = False
    """Remove training rows that also stand in an evaluation split of a chosen task."""
    selection_rows: int = 500
    """Rows cut from train to select the checkpoint, where the published validation split is the one reported."""
    selection_share: float = 0.1
    """At most this share of train is cut for selection."""
    cache: str | None = None
    """Folder for tokenised data; null is the user's cache folder."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How often the selection split is scored, and how the final score is computed."""

    times: int = 4
    """Scorings of the selection split during training, the last one at the end."""
    selection_rows: int = 256
    """Rows per task used for selection."""
    rows: int | None = None
    """At most this many rows per task in the final report, spread evenly over the split; null for all. A cut is said in
    the table."""
    split: Literal["report", "selection"] = "report"
    """Which split the final scores are of. ``selection`` is for searches, which must not see the reported one."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint is reported."""
    per_task: bool = False
    """Score each task also at the checkpoint that was best for it alone."""
    batch_tokens: int = 8192
    """Tokens scored at once."""
    resamples: int = 1000
    """Bootstrap resamples of each interval."""


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """What is written where."""

    mlflow: bool = True
    """Log to MLflow."""
    tracking_uri: str | None = None
    """MLflow tracking server; null is SQLite in the working directory."""
    experiment: str | None = None
    """MLflow experiment; null is the name of the suite."""
    every: int = 20
    """Steps between logged metrics."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Everything ``python -m mtl.fit`` can be told."""

    strategy: dict[str, Any]
    """The paradigm: ``name`` and the arguments of its constructor."""
    suite: SuiteConfig
    """Named list of tasks."""
    tasks: list[str]
    """Tasks to train and evaluate."""
    task: dict[str, TaskConfig]
    """Full definition of each task (filled from configs/task when a run starts)."""
    mixture: MixtureConfig
    """How often each task is drawn."""
    balance: BalanceConfig
    """How the tasks' losses become one update."""
    decoder: DecoderConfig
    """Shape of the shared decoder."""
    tokenizer: TokenizerConfig
    """The vocabulary."""
    corpus: CorpusConfig
    """Running text, for strategies that read text."""
    optimizer: OptimizerConfig
    """AdamW and its schedule."""
    trainer: TrainerConfig
    """Devices and precision."""
    budget: BudgetConfig
    """When training ends."""
    pretrain: PretrainConfig
    """Language modelling before the tasks."""
    diagnostics: DiagnosticsConfig
    """What is measured beside the scores."""
    batch: BatchConfig
    """How large a step is."""
    data: DataConfig
    """Where data lies."""
    evaluation: EvaluationConfig
    """When and how scores are computed."""
    record: RecordConfig
    """What is written where."""
    init_from: str | None = None
    """A finished run whose weights this one starts from."""
    fraction: float | dict[str, float] = 1.0
    """Share of the training rows that is used, of every task or by task name. Nested: a smaller share is part of a
    larger one with the same seed."""
    seed: int = 0
    """Fixes the initial trunk, the order of the data and the cut splits."""
    run_dir: str | None = None
    """Folder of the run; null makes a dated one under runs/."""
    resume: str | None = None
    """A run folder to go on with; nothing else may be given beside it."""
