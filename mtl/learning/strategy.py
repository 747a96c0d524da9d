"""The contract every paradigm fulfils: one class in one file of ``strategies/``.

A strategy says five things and nothing else: how an example is encoded, how batches are composed, what modules
it adds around the decoder for these tasks, the per-example losses of a batch, and the answers to a batch. Its
constructor's keyword arguments are its config schema.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.tasks.task import Answer, Example, Task

Composition = Literal["one_task", "every_task", "mixed"]
"""How draws become steps: one task a step, every task in each step, or freely mixed."""


class Strategy(nn.Module, ABC):
    """One paradigm of multi-task learning.

    Life: constructed from the config; ``special_tokens`` extends the vocabulary; ``encode`` runs over the rows
    (in any process, before the decoder exists); ``build`` receives the decoder; then ``losses`` in training and
    ``answers`` in evaluation.
    """

    composition: ClassVar[Composition]
    """How draws become steps."""
    reads: ClassVar[Literal["tasks", "corpus"]] = "tasks"
    """What it is trained on: labelled rows of the tasks, or running text."""
    reduction: str
    """How per-example losses become the step's loss; a name in ``mtl.learning.reduction``."""

    decoder: Decoder
    tasks: tuple[Task, ...]
    vocabulary: Vocabulary

    def special_tokens(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        """Tokens this strategy needs beyond those every vocabulary has (start, delimiter, extract, end)."""
        return ()

    @abstractmethod
    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        """The example as token ids, each encoding at most ``context`` positions long.

        One encoding, or, for a document that is longer than the context, one per chunk of it. For
        ``purpose="answer"`` the tokens must not depend on the target or the references (a document is its own).
        """

    def build(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, *, seed: int = 0
    ) -> None:
        """Receive the decoder, and add what this paradigm needs for these tasks (heads, towers).

        :param tasks: What is trained on, in the order of ``Batch.task``.
        :param seed: Draws the added weights; the decoder brings its own.
        """
        self.decoder = decoder
        self.tasks = tuple(tasks)
        self.vocabulary = vocabulary

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """(B,) loss of each example in nats (squared error for scores): the mean over its ``batch.terms``."""

    @abstractmethod
    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        """(B,) answers to a batch of one task, encoded with ``purpose="answer"``."""

    def task_parameters(self, task: Task) -> int:
        """How many parameters serve this task alone; the ledger counts them beside the shared ones."""
        return 0
