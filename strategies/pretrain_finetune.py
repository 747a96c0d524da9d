"""Pretrain, then fine-tune: a language model is trained further on each task, a copy per task.

Radford et al., "Improving Language Understanding by Generative Pre-Training" (GPT-1). The language-model stage is the
run's own (``pretrain.tokens``, half of ``budget.tokens`` where it is null). Fine-tuning then minimises
L3 = L2 + lambda * L1 (section 3.2, equation 5) on traversal-style inputs (section 3.3): L2 of a linear head at the
extract token, L1 of language modelling on the same inputs. Its schedule is the paper's (section 4.1): a quarter of the
learning rate of pretraining (6.25e-5 of 2.5e-4), warm-up over 0.2 % of the stage, then a line to 0. The paper's own
learning rate, decay and moments are ``optimizer=gpt1``.

The ablations of section 5 are values: ``strategy.auxiliary=0``, ``pretrain.tokens=0``, ``decoder=gpt1_lstm``,
``pretrain.layers=K``. GPT-1 has no open tasks; their answers follow the extract token, predicted by the language
model's own projection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mtl.config.errors import UserError, raise_all
from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.asked import Asked
from mtl.learning.reading import heads_layout
from mtl.learning.readout import hidden_states, label_nats, text_answers
from mtl.learning.strategy import Stage, Strategy
from mtl.learning.traversal import ExtractHeads, label_weights, traversed
from mtl.tasks.task import Answer, Example, Task


class PretrainFinetune(Strategy):
    """Pretrain, then fine-tune: language modelling first, then a copy for each task; a head, and an auxiliary LM loss.

    :param auxiliary: lambda of L1, language modelling on the labelled inputs, 0 or more.
    :param classifier_dropout: Dropout of the extract state, at least 0 and below 1.
    :param learning_rate: Highest learning rate of fine-tuning, as a multiple of ``optimizer.learning_rate``.
    :param warmup: Share of fine-tuning over which the learning rate rises, 0 to 1.
    """

    composition = "mixed"
    reduction = "example_mean"
    pretraining = 0.5

    def __init__(
        self,
        *,
        auxiliary: float = 0.5,
        classifier_dropout: float = 0.1,
        learning_rate: float = 0.25,
        warmup: float = 0.002,
    ):
        super().__init__()
        self.auxiliary = auxiliary
        self.classifier_dropout = classifier_dropout
        self.learning_rate = learning_rate
        self.warmup = warmup
        self._check()

    def stages(self) -> tuple[Stage, ...]:
        schedule = {"decay": "linear", "warmup": self.warmup, "final": 0.0}
        return (Stage("fine-tune", each=True, learning_rate=self.learning_rate, schedule=schedule),)

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        modelled = self.auxiliary > 0
        return traversed(example, task, vocabulary, context, purpose, modelled=modelled)

    def build(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, *, seed: int = 0
    ) -> None:
        super().build(decoder, tasks, vocabulary, seed=seed)
        self.heads = ExtractHeads(tasks, decoder, seed, self.classifier_dropout)

    def losses(self, batch: Batch) -> Tensor:
        hidden = hidden_states(self.decoder, batch)
        losses = self.heads.losses(hidden, batch)
        if not self.auxiliary and not any(task.is_open for task in self.tasks):
            return losses
        decoder = self.decoder
        nats = label_nats(hidden, batch, decoder.logits, vocabulary=decoder.vocabulary_size)
        examples = batch.branch_examples[batch.label_branches]
        return losses.index_add(0, examples, nats * self._weights(batch).to(nats.device))

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        if task.is_open:
            return text_answers(self.decoder, batch, task, self.vocabulary)
        return self.heads.answers(hidden_states(self.decoder, batch), batch, task)

    def asked(self, task: Task) -> Asked | None:
        layout = heads_layout(self.vocabulary, choices=task.kind == "multiple_choice")
        if task.is_open:
            return Asked(layout)
        head, both = self.heads.heads[task.name], task.config.symmetric
        return Asked(layout, head=head, head_name=task.name, both_orders=both)

    def own_parameters(self, task: Task) -> Iterable[nn.Parameter]:
        return () if task.is_open else self.heads.heads[task.name].parameters()

    def added_operations(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        return self.heads.operations(task, rows)

    def _weights(self, batch: Batch) -> Tensor:
        """(P,) what each labelled token counts in the loss of its example."""
        weights = [
            label_weights(encoded, self.tasks[index], self.vocabulary.extract, self.auxiliary)
            for encoded, index in zip(batch.encoded, batch.task.tolist(), strict=True)
        ]
        return torch.from_numpy(np.concatenate(weights))

    def _check(self) -> None:
        """:raises UserError: All settings outside their range, in one message."""
        ranges = {
            "auxiliary": (0 <= self.auxiliary < math.inf, "a finite number, 0 or more"),
            "classifier_dropout": (0 <= self.classifier_dropout < 1, "at least 0 and below 1"),
            "learning_rate": (0 < self.learning_rate < math.inf, "a finite number above 0"),
            "warmup": (0 <= self.warmup <= 1, "between 0 and 1"),
        }
        raise_all(
            [
                UserError(f"{name} is {words}", where=f"strategy.{name}={getattr(self, name)}")
                for name, (holds, words) in ranges.items()
                if not holds
            ]
        )
