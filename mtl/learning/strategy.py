"""The contract every paradigm fulfils: one class in one file of ``strategies/``.

A strategy says five things and nothing else: how an example is encoded, how batches are composed, what modules
it adds around the decoder for these tasks, the per-example losses of a batch, and the answers to a batch. Its
constructor's keyword arguments are its config schema.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from mtl.config.errors import UserError
from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.asked import Asked
from mtl.tasks.task import Answer, Example, Task

Composition = Literal["one_task", "every_task", "mixed"]
"""How draws become steps: one task a step, every task in each step, or freely mixed."""


@dataclass(frozen=True)
class Stage:
    """One training within a run: all tasks together, or each task alone with a copy of its own.

    A run is the stages of its strategy, one after the other, each from where the one before it ended.
    """

    name: str
    """What the ledger and the checkpoints call it."""
    each: bool = False
    """Every task trains a copy of the model of its own, on its rows alone; the copies answer in the end."""
    share: float = 1.0
    """Share of the run's budget, 0 < share <= 1."""
    learning_rate: float = 1.0
    """Highest learning rate, as a multiple of ``optimizer.learning_rate``."""
    schedule: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``mtl.config.schema.OptimizerConfig`` that differ from the run's in this stage."""


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
    pretraining: float = 0.0
    """Share of the budget's tokens that goes to language-model pretraining where ``pretrain.tokens`` is null."""
    apart: bool = False
    """Whether a step comes as one batch for each of its tasks, rather than one for all."""
    joins_rows: bool = False
    """Whether a row that several tasks read alike is computed once and trains all of them."""
    packing: Literal["every_epoch", "once"] = "every_epoch"
    """Whether ``one_task`` batches are packed anew every epoch, or once for all epochs."""
    reduction: str
    """How per-example losses become the step's loss; a name in ``mtl.learning.reduction``."""

    decoder: Decoder
    tasks: tuple[Task, ...]
    vocabulary: Vocabulary

    def stages(self) -> tuple[Stage, ...]:
        """The trainings a run consists of, in their order; a stage with copies is the last one."""
        return (Stage("train"),)

    def rates(self, sizes: Mapping[str, int]) -> Mapping[str, float] | None:
        """Shares of draws by task name, where the paradigm itself decides; None leaves it to the mixture.

        :param sizes: Training rows of each task, in the order of the run's tasks.
        """
        return None

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

    def decoded(self, batch: Batch, task: Task) -> list[str] | None:
        """(B,) texts that are written where a closed task is asked and no answer is offered, to be compared with the
        answer space beside :meth:`answers`; None for an open task, and where answers are not text.

        :param batch: As for :meth:`answers`.
        """
        return None

    def decoders(self) -> Mapping[str, Decoder]:
        """Every decoder there is: one that all tasks share has the name ``""``, one of a single task the task's."""
        return {"": self.decoder}

    def asked(self, task: Task) -> Asked | None:
        """How the task is put to its decoder and read out, for those who have the decoder without the strategy; None
        where that cannot be said in these terms."""
        return None

    def own_parameters(self, task: Task) -> Iterable[nn.Parameter]:
        """Parameters that serve this task alone: its head, its tower. All others are shared."""
        return ()

    def task_parameters(self, task: Task) -> int:
        """How many parameters serve this task alone; the ledger counts them beside the shared ones."""
        return sum(parameter.numel() for parameter in self.own_parameters(task))

    def states_read(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        """(N,) int64: tokens of each training row whose last states :meth:`losses` asks the decoder for (``only``). For
        the others the last block does less, and the ledger counts less."""
        return rows.lengths

    def added_operations(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        """(N,) int64: operations of the forward matrix products of what was added around the decoder, for each training
        row. Logits of labelled tokens over the vocabulary are not among them: they count as the decoder's.
        """
        return np.zeros(len(rows), dtype=np.int64)

    def clipping_groups(self) -> list[list[nn.Parameter]] | None:
        """Parameters whose gradients are clipped by a norm of their own, where models that are apart must not scale
        each other's steps; None clips all by one norm."""
        return None

    def after_step(self, learning_rate: float) -> None:
        """Called after every optimizer step; what pulls parameters together without a gradient is done here."""
        return

    def disturb(self, control: str) -> None:
        """Give tasks a wrong signal from now on, as a control at evaluation.

        :param control: ``shuffled``: each row that of a task drawn for it. ``wrong``: always that of another task.
        :raises UserError: The strategy gives no signal.
        """
        raise UserError(
            f"strategy '{type(self).__name__}' tells a task by no signal, so none can be {control}",
            where=f"signal={control}",
        )
