"""What a task is: rows, an answer space and metrics. It knows nothing of tokens, batches or models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtl.config.schema import TaskConfig


@dataclass(frozen=True, slots=True)
class Example:
    """One row, read both ways: as segments for a head and as text for a language model.

    For a closed task (classification, regression, multiple choice) ``answers`` is the whole answer space as
    text and ``target`` says which one is right. For an open task (generation, language modelling) ``answers``
    is empty and ``references`` holds the acceptable answers, of which the first one is trained on. A language
    modelling row has an empty prompt and the document as its only reference.
    """

    row: str
    """Identity of the row inside its dataset: ``<published split>:<position>``."""
    segments: tuple[str, ...]
    """How the row reads for a head."""
    prompt: tuple[str, ...]
    """How the row reads as text, up to where the answer begins: pieces to be joined."""
    target: int | float | None
    """Class index, score, or index of the right choice; None for an open task."""
    answers: tuple[str, ...] = ()
    """The answer space as continuations of the prompt (each begins with a space); empty for an open task."""
    choices: tuple[str, ...] = ()
    """Candidates of a multiple-choice row, as a head reads them."""
    references: tuple[str, ...] = ()
    """Acceptable answers of an open task, as plain text."""
    given: tuple[str, ...] = ()
    """Text between the prompt and each of ``answers`` that is given to a language model and not scored; empty for
    none."""
    original: str = ""
    """A document as it stands in its source, where the one in ``references`` had its tokenisation undone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one example, in the task's own answer space.

    ``value`` is a class index, a score, a choice index or a text. For language modelling it is the total
    negative log-likelihood of the document in nats.
    """

    value: int | float | str
    scores: tuple[float, ...] = ()
    """One score per class or choice (log-probabilities), where there are choices."""
    decoded: str | None = None
    """What the model writes where no answer is offered, without blanks at both ends; None where it was not asked to."""
    tokens: tuple[int, ...] = ()
    """Tokens behind each of ``scores``, or those of a document; empty where nobody counted."""
    unconditional: tuple[float, ...] = ()
    """Log-probability of each choice without the row, in nats; empty where it was not asked for."""
    target_nats: float | None = None
    """Negative log-likelihood of an open task's first reference, in nats; None where it was not asked for."""
    target_greedy: bool | None = None
    """Whether each token of that reference is the likeliest one at its place."""


@dataclass(frozen=True)
class Split:
    """The examples of one purpose, and where they were taken from."""

    name: str
    """Published split they come from, such as ``validation``."""
    examples: Sequence[Example]
    fingerprint: str
    """Content hash of the examples (sha256, 16 hexadecimal digits)."""
    note: str = ""
    """How it was cut, where it was: ``500 of 67349 rows of train, seed 0``."""


@dataclass(frozen=True)
class Task:
    """A task with its rows loaded.

    ``train`` trains, ``selection`` selects checkpoints and settings, ``report`` is scored once at the end.
    No row of ``selection`` stands in ``train``, and ``report`` never selects.
    """

    config: TaskConfig
    train: Split | None
    selection: Split | None
    report: Split

    @classmethod
    def without_rows(cls, config: TaskConfig) -> Task:
        """The task alone: what a model needs to answer it, with no row loaded."""
        empty = Split(name=config.source.report, examples=(), fingerprint="")
        return cls(config=config, train=None, selection=None, report=empty)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def kind(self) -> str:
        """Kind of question a row asks: a ranking's rows, once read, are those of a multiple choice."""
        return "multiple_choice" if self.config.kind == "ranking" else self.config.kind

    @property
    def is_open(self) -> bool:
        """True where the answer is free text rather than one of a given set."""
        return self.config.kind in ("generation", "language_modelling")

    @property
    def classes(self) -> int:
        """Number of classes of a classification task."""
        return len(self.config.labels)
