"""What the strategies whose answers are text have in common: the loss on labelled tokens, and the read-out."""

from __future__ import annotations

from torch import Tensor

from mtl.data.batch import Batch
from mtl.learning.readout import example_nats, hidden_states, label_nats, text_answers
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Task


class TextualStrategy(Strategy):
    """One decoder and nothing else; subclasses say how a row is written, hence what is learnt from it."""

    def losses(self, batch: Batch) -> Tensor:
        nats = label_nats(hidden_states(self.decoder, batch), batch, self.decoder.logits)
        return example_nats(nats, batch)

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        return text_answers(self.decoder, batch, task, self.vocabulary)
