"""The part of the schema that says what is learned: tasks, suites and mixtures of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

TaskKind = Literal[
    "classification",
    "pair_classification",
    "regression",
    "multiple_choice",
    "ranking",
    "generation",
    "language_modelling",
]


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """Where the Hugging Face hub keeps a dataset."""

    path: str
    """Repository of the dataset, such as ``nyu-mll/glue``."""
    name: str | None = None
    """Configuration of the dataset, such as ``sst2``."""
    splits: dict[str, str] = field(default_factory=dict)
    """Split of the hub for a split named in the task file, where the two differ: ``{validation: test}``."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where the rows of a task come from."""

    folder: str | None = None
    """Folder under ``data.root`` that holds ``<split>.parquet`` (or .jsonl, .csv, ...)."""
    hub: HubConfig | None = None
    """Dataset on the hub, asked where no ``data.root`` is given."""
    microworld: str | None = None
    """Name of a generated microworld task; needs neither folder nor hub."""
    train: str | None = "train"
    """Published split that trains; null for a task that is only evaluated."""
    validation: str | None = None
    """Published split that selects, where a labelled test split exists to report."""
    report: str = "validation"
    """Published split whose score is reported."""
    documents: Literal["rows", "articles", "blocks"] = "rows"
    """How rows become documents (language modelling only). ``rows``: each row is one. ``articles``: lines are
    joined up to the next ``= Title =``. ``blocks``: 64 lines are joined, up to a blank line where there are any."""


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """Another wording of a task's prompt; what is left out is the task's own."""

    prompt: list[str]
    """As the task's ``prompt``."""
    answers: list[str] = field(default_factory=list)
    """As the task's ``answers``."""
    choices: list[str] | str = field(default_factory=list)
    """As the task's ``choices``."""


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How a language model writes the answer to an open task."""

    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_k: int | None = None
    """Draw among the k likeliest tokens only."""
    top_p: float | None = None
    """Draw among the fewest likeliest tokens whose probabilities sum to at least p."""
    stop: list[str] = field(default_factory=lambda: ["\n"])
    """Texts that end an answer and do not belong to it; the end of the document always does."""
    sentences: int | None = None
    """Only this many sentences of what was written are the answer; null for all of it."""


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """How a language model that was never taught the task is asked. Strategies that learn the task do not read it."""

    rank_by: Literal["sum", "token", "character", "byte", "mutual_information"] = "sum"
    """Which likelihood of a candidate makes it the answer (closed tasks): the sum of its tokens' log-probabilities,
    that sum over its tokens, characters or UTF-8 bytes, or less its log-probability after ``unconditional``."""
    given: list[str] | str = field(default_factory=list)
    """Text before each candidate that is given and not scored: one template per candidate, or the name of a column that
    holds a list. Partial scoring (Trinh and Le 2018): the referent is given, the rest of the sentence is scored."""
    unconditional: str | None = None
    """Prompt after which candidates are scored for ``mutual_information``, such as ``"Answer:"``; null for no such
    score, an empty text for the beginning of a document."""
    threshold: Literal["median"] | None = None
    """Two classes by the mean log-probability of a row's prompt, with no candidate read: label 1 above the median of
    the training rows, whose labels are not read (GPT-1, section 5, thresholds CoLA so; it does not say where)."""
    target_tokens: Literal["all", "last"] = "all"
    """Of an open answer whose likelihood is scored: all its tokens, or the last alone after the others."""
    without_stop_words: bool = False
    """A token that is a stop word by itself is never taken as the likeliest first one (GPT-2, section 3.3)."""
    truncate: Literal["longest", "left"] = "longest"
    """What a prompt longer than the context loses: the last tokens of its longest piece, or its first tokens."""
    context_examples: int = 0
    """Examples of the train split that stand before each row: a few-shot protocol, and never called zero-shot."""
    separator: str = "\n\n"
    """Between two context examples, and before the row."""
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    """How open answers are written."""


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One task: its rows, how a row reads for a head and as text, and its metrics.

    Templates are Jinja (sandboxed) over the columns of a row.
    """

    name: str
    """Name of the task, as in ``tasks=[...]``. Left out: the name of its file."""
    kind: TaskKind
    """What is asked: decides the head, the read-out and the admissible metrics."""
    source: SourceConfig
    """Where the rows come from."""
    segments: list[str] = field(default_factory=list)
    """How a row reads for a head: one template per segment (none for language_modelling). Ranking: how the query reads;
    left out, the query."""
    prompt: list[str] = field(default_factory=list)
    """How a row reads as text: pieces that are joined; where the whole is longer than the context,
    the longest piece loses its last tokens. Left out: the segments, one a line, then ``Answer:``."""
    target: str
    """Template of the target: label name or index, number, or (open tasks) the answer as text. For a task with
    several references, a template that yields a JSON list is allowed with ``references``."""
    labels: list[str] = field(default_factory=list)
    """Names of the classes, in the order of their indices. Ranking: the label of a right candidate, then that of a
    wrong one."""
    answers: list[str] = field(default_factory=list)
    """Label words, one per class, as the answer reads in text (classification only). Left out: the labels."""
    choices: list[str] | str = field(default_factory=list)
    """Templates of the candidates, or the name of a column that holds a list (multiple choice). Ranking: one template
    of the candidate that a row brings."""
    query: str | None = None
    """Template of the query that a row brings a candidate for (ranking only): rows of a split with the same query are
    the candidates of one example, and exactly one of them is right."""
    range: list[float] = field(default_factory=list)
    """Lowest and highest score (regression only)."""
    references: str | None = None
    """Name of a column that holds a list of acceptable answers (open tasks), in place of ``target`` at scoring."""
    max_answer_tokens: int = 32
    """Longest answer that is decoded (open tasks)."""
    unlabelled: str | None = None
    """Target of rows without a gold label, such as ``-1``: they are left out, and counted in the record."""
    identifying: list[int] = field(default_factory=list)
    """Segments (0 is the first) that alone give a row away when another row has them too: a premise, a passage,
    a dialogue. Empty: only all segments together do."""
    symmetric: bool = False
    """The order of its two segments has no meaning (classes and scores only): what reads both orders may do so."""
    metrics: list[str] = field(default_factory=list)
    """Names of the metrics, the first is the primary one. Left out: accuracy for classes and choices, pearson and
    spearman for scores, bits_per_byte, perplexity_per_word and perplexity_per_token for language modelling."""
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    """How a language model that was never taught the task is asked."""
    prompts: dict[str, PromptConfig] = field(default_factory=dict)
    """Other wordings of the prompt by name; a language model's scores over all of them are a spread."""
    detokeniser: Literal["none", "wikitext", "ptb"] = "none"
    """What undoes the source's tokenisation before a model reads a document (language modelling only). It can be undone
    itself, and what a document is divided by are its own bytes and words."""
    description: str = ""
    """One line for ``python -m mtl``."""
    instruction: str = ""
    """What is asked, in words, where a strategy tells tasks apart by text; it stands before the row. Left out: the
    description."""


@dataclass(frozen=True, kw_only=True)
class SuiteConfig:
    """A named list of tasks."""

    name: str
    """Name of the suite; the MLflow experiment carries it."""
    tasks: list[str]
    """The tasks of the suite."""


MixtureRule = Literal["proportional", "capped", "equal", "temperature", "explicit"]
NestedRule = Literal[MixtureRule, "nested"]


@dataclass(frozen=True, kw_only=True)
class MixtureGroup:
    """Tasks that share one rate of a nested mixture."""

    tasks: list[str]
    """The tasks of the group."""
    rule: MixtureRule = "proportional"
    """How often each is drawn among them."""
    temperature: float = 1.0
    """As for a mixture (``temperature`` only)."""
    cap: int | None = None
    """As for a mixture."""
    rates: dict[str, float] = field(default_factory=dict)
    """Relative rate of each task of the group (``explicit`` only)."""


@dataclass(frozen=True, kw_only=True)
class MixturePoint:
    """What a mixture is at one moment of training; what is null is as the mixture says."""

    at: float
    """Share of the budget that is spent, 0 to 1."""
    rule: NestedRule | None = None
    """In place of the mixture's name."""
    temperature: float | None = None
    """As for a mixture (``temperature`` only)."""
    cap: int | None = None
    """As for a mixture."""
    rates: dict[str, float] | None = None
    """As for a mixture (``explicit`` and ``nested`` only)."""


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How often each task is drawn."""

    name: NestedRule
    """``proportional`` to rows; ``capped``: to rows up to ``cap``; ``equal``; ``temperature``: rows ** (1/temperature);
    ``explicit``: ``rates``; ``nested``: ``rates`` between ``groups``, each with a rule of its own."""
    temperature: float = 1.0
    """1 is proportional, large tends to equal."""
    cap: int | None = None
    """Rows of a task count at most this many, applied before the temperature (T5 3.5.2)."""
    rates: dict[str, float] = field(default_factory=dict)
    """Relative rate of each task (``explicit``) or of each group (``nested``)."""
    groups: dict[str, MixtureGroup] = field(default_factory=dict)
    """Groups of tasks, each task in exactly one (``nested`` only)."""
    schedule: list[MixturePoint] = field(default_factory=list)
    """What the mixture becomes over training: between two points the share of each task changes linearly, after the
    last it stays. The mixture itself stands at 0 unless a point does."""
