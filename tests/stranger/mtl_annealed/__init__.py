"""Annealed adapters: answers as text, and before the output a bottleneck for each task that fades in.

Adapters as in Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (ICML 2019, section 2.1), but one only,
behind the last block: ``h + s * up(gelu(down(h)))``. The strength s rises from ``1 / steps`` to 1, so that tasks first
learn what they have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.config.errors import UserError
from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder, draw_normal
from mtl.learning.reading import Layout, as_text
from mtl.learning.readout import example_nats, hidden_states, text_answers
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Example, Task


class Annealed(Strategy):
    """Annealed: one decoder, answers as text, a bottleneck per task that fades in.

    :param bottleneck: Width of the adapters.
    :param steps: Optimizer steps until they work with full strength.
    :raises UserError: One of them is not above 0.
    """

    composition = "mixed"
    reduction = "task_token_mean"

    def __init__(self, *, bottleneck: int = 8, steps: int = 100):
        super().__init__()
        for name, value in (("bottleneck", bottleneck), ("steps", steps)):
            if value < 1:
                raise UserError(f"{name} must be at least 1", where=f"strategy.{name}={value}")
        self.bottleneck = bottleneck
        self.steps = steps

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        layout = Layout(opening=(vocabulary.start,), separator=None, closing=())
        return as_text(example.prompt, layout, example, task, vocabulary, context, purpose)

    def build(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, *, seed: int = 0
    ) -> None:
        super().build(decoder, tasks, vocabulary, seed=seed)
        self.register_buffer("strength", torch.tensor(1.0 / self.steps))
        self.adapters = nn.ModuleDict()
        for task in tasks:
            down = nn.Linear(decoder.width, self.bottleneck, bias=False)
            up = nn.Linear(self.bottleneck, decoder.width, bias=False)
            with torch.no_grad():
                for name, layer in (("down", down), ("up", up)):
                    layer.weight.copy_(draw_normal(layer.weight.shape, seed, f"{task.name}/{name}"))
            self.adapters[task.name] = nn.Sequential(down, nn.GELU(), up)

    def losses(self, batch: Batch) -> Tensor:
        hidden = hidden_states(self.decoder, batch)[batch.label_sources]  # (P, D)
        owner = batch.task[batch.branch_examples[batch.label_branches]]  # (P,)
        for index in batch.task.unique().tolist():
            mine = (owner == index).nonzero().squeeze(1)
            own = self.adapters[self.tasks[index].name](hidden[mine])
            hidden = hidden.index_add(0, mine, (self.strength * own).to(hidden.dtype))
        logits = self.decoder.logits(hidden).float()
        return example_nats(F.cross_entropy(logits, batch.label_tokens, reduction="none"), batch)

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        def project(hidden: Tensor) -> Tensor:
            if task.name in self.adapters:  # a task that was never trained has none
                hidden = hidden + self.strength * self.adapters[task.name](hidden)
            return self.decoder.logits(hidden)

        return text_answers(self.decoder, batch, task, self.vocabulary, project=project)

    def own_parameters(self, task: Task) -> Iterable[nn.Parameter]:
        return self.adapters[task.name].parameters()

    def after_step(self, learning_rate: float) -> None:
        self.strength.add_(1.0 / self.steps).clamp_(max=1.0)
