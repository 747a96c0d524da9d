"""What the strategies whose answers are text have in common: the loss on labelled tokens, and the read-out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from mtl.data.batch import Batch
from mtl.data.store import EncodedSplit
from mtl.learning.cross_entropy import projected_nats
from mtl.learning.readout import (
    example_nats,
    freely_decoded,
    label_states,
    text_answers,
)
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Task


class TextualStrategy(Strategy):
    """One decoder and nothing else; subclasses say how a row is written, hence what is learnt from it."""

    def offsets(self, batch: Batch, task: Task | None) -> Tensor | None:
        """(B, D) what is added to the embeddings of all of an example's tokens; None for nothing.

        :param task: The task that is answered; None in training, where ``batch.task`` says it.
        """
        return None

    def label_words(self, task: Task) -> Mapping[int, str]:
        """Special tokens that stand for answers, and what each reads as in an answer to this task."""
        return {}

    def losses(self, batch: Batch) -> Tensor:
        decoder = self.decoder
        states = label_states(decoder, batch, self.offsets(batch, None))
        nats = projected_nats(
            states, batch.label_tokens, decoder.logits, vocabulary=decoder.vocabulary_size
        )
        return example_nats(nats, batch)

    def states_read(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        return rows.label_counts

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        offsets = self.offsets(batch, task)
        return text_answers(self.decoder, batch, task, self.vocabulary, offsets=offsets)

    def decoded(self, batch: Batch, task: Task) -> list[str] | None:
        if task.is_open:
            return None
        words, offsets = self.label_words(task), self.offsets(batch, task)
        return freely_decoded(self.decoder, batch, self.vocabulary, words, offsets=offsets)
