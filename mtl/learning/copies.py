"""A copy of one paradigm's model for each task, each trained on its task alone; together they answer all tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from torch import Tensor, nn

from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.asked import Asked
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Example, Task


class Copies(Strategy):
    """What a stage that trains each task alone leaves behind (see :class:`mtl.learning.strategy.Stage`).

    :param copies: For each task its model, built for that task alone.
    """

    def __init__(self, copies: Mapping[str, Strategy]):
        super().__init__()
        self.copies = nn.ModuleDict(copies)
        first = next(iter(copies.values()))
        self.composition = first.composition  # type: ignore[misc]  # of the instance: copies are all alike
        self.reads = first.reads  # type: ignore[misc]
        self.reduction = first.reduction
        self.tasks = tuple(task for copy in copies.values() for task in copy.tasks)
        self.vocabulary = first.vocabulary

    def of(self, task: Task) -> Strategy:
        """The model of one task."""
        return cast("Strategy", self.copies[task.name])

    @property
    def decoder(self) -> Decoder:  # type: ignore[override]  # what is asked of it is the same for all of them
        """The decoder of the first task."""
        return self.of(self.tasks[0]).decoder

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        return self.of(task).encode(example, task, vocabulary, context, purpose)

    def losses(self, batch: Batch) -> Tensor:
        raise NotImplementedError("Each copy is trained by itself.")

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        return self.of(task).answers(batch, task)

    def decoded(self, batch: Batch, task: Task) -> list[str] | None:
        return self.of(task).decoded(batch, task)

    def decoders(self) -> Mapping[str, Decoder]:
        return {task.name: self.of(task).decoder for task in self.tasks}

    def asked(self, task: Task) -> Asked | None:
        return self.of(task).asked(task)

    def own_parameters(self, task: Task) -> Iterable[nn.Parameter]:
        return self.of(task).parameters()

    def disturb(self, control: str) -> None:
        for task in self.tasks:
            self.of(task).disturb(control)
