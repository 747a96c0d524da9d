"""What the strategies with a head per task have in common: how they read, learn and answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn

from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.asked import Asked
from mtl.learning.heads import Heads
from mtl.learning.reading import for_heads, heads_layout
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Example, Task


class HeadedStrategy(Strategy):
    """One decoder and heads; subclasses say how batches are composed, losses reduced, and which heads there are."""

    heads: Heads

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        return for_heads(example, task, vocabulary, context, purpose)

    def build(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, *, seed: int = 0
    ) -> None:
        super().build(decoder, tasks, vocabulary, seed=seed)
        self.heads = self.make_heads(decoder, tasks, vocabulary, seed)

    def make_heads(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, seed: int
    ) -> Heads:
        """The heads of these tasks; a linear one for each unless a subclass says otherwise."""
        return Heads(tasks, decoder, seed)

    def losses(self, batch: Batch) -> Tensor:
        return self.heads.losses(self.decoder, batch)

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        return self.heads.answers(self.decoder, batch, task, self.vocabulary)

    def asked(self, task: Task) -> Asked | None:
        layout = heads_layout(self.vocabulary, choices=task.kind == "multiple_choice")
        name = self.heads.head_names[task.name]
        return Asked(layout, head=self.heads.head_of(task), head_name=name)

    def own_parameters(self, task: Task) -> Iterable[nn.Parameter]:
        return self.heads.parameters_of(task)

    def states_read(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        return self.heads.states_read(task, rows)

    def added_operations(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        return self.heads.operations(task, rows)
