"""Zero-shot: plain language modelling on running text; tasks are only asked, never taught.

Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2): a model of p(text) that has read enough
performs tasks it meets in prompts, with no labelled row and no gradient step. Training reads the corpus alone.
Evaluation writes each row as a prompt; closed answers are ranked by likelihood, open ones decoded greedily.
"""

from __future__ import annotations

from torch import Tensor

from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.learning.reading import Layout, as_text
from mtl.learning.readout import example_nats, hidden_states, label_nats, text_answers
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Example, Task


class ZeroShot(Strategy):
    """Zero-shot: language modelling on a corpus; tasks are evaluated through prompts only."""

    composition = "mixed"
    reads = "corpus"
    reduction = "token_mean"

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        layout = Layout(opening=(vocabulary.end,), separator=None, closing=())
        return as_text(example.prompt, layout, example, task, vocabulary, context, purpose)

    def losses(self, batch: Batch) -> Tensor:
        hidden = hidden_states(self.decoder, batch)
        return example_nats(label_nats(hidden, batch, self.decoder.logits), batch)

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        return text_answers(self.decoder, batch, task, self.vocabulary)
