"""What hard sharing adds to the decoder: one head per task, by the kind of its answer.

Classes and scores are read from the extract token, choices from the extract token of each choice (GPT-1, section
3.3), open answers from a vocabulary projection of the task's own, which is what makes heads grow with the number of
tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.data.batch import Batch
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.readout import example_nats, hidden_states, per_example, text_answers
from mtl.tasks.task import Answer, Task


def head_outputs(task: Task, vocabulary_size: int) -> int:
    """Rows of a task's head: its classes, one for a score or a choice, or the whole vocabulary."""
    if task.is_open:
        return vocabulary_size
    return task.classes if task.kind in ("classification", "pair_classification") else 1


class Heads(nn.Module):
    """One linear head per task.

    :param tasks: The tasks, in the order of ``Batch.task``.
    :param decoder: The decoder whose width and vocabulary the heads fit.
    :param seed: Heads are drawn from N(0, 0.02), each from a generator of its own, so that a task's head starts
        the same whatever the other tasks are.
    """

    def __init__(self, tasks: Sequence[Task], decoder: Decoder, seed: int = 0):
        super().__init__()
        self.tasks = tuple(tasks)
        self.heads = nn.ModuleDict()
        for task in self.tasks:
            outputs = head_outputs(task, decoder.vocabulary_size)
            head = nn.Linear(decoder.width, outputs, bias=not task.is_open)
            digest = hashlib.sha256(f"{seed}/head/{task.name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            nn.init.normal_(head.weight, std=0.02, generator=generator)
            if not task.is_open:
                # A score starts from the middle of its range, not from a constant far outside it.
                nn.init.constant_(
                    head.bias, sum(task.config.range) / 2 if task.kind == "regression" else 0.0
                )
            self.heads[task.name] = head

    def losses(self, decoder: Decoder, batch: Batch) -> Tensor:
        """(B,) cross-entropy in nats over classes, choices or answer tokens; squared error for a score."""
        hidden = hidden_states(decoder, batch)
        losses = hidden.new_zeros(len(batch.task), dtype=torch.float32)
        for index in batch.task.unique().tolist():
            task = self.tasks[index]
            losses = losses + self._task_losses(task, index, hidden, batch)
        return losses

    def parameters_of(self, task: Task) -> list[nn.Parameter]:
        """Parameters of the task's head."""
        return list(self.heads[task.name].parameters())

    def _task_losses(self, task: Task, index: int, hidden: Tensor, batch: Batch) -> Tensor:
        """(B,) losses of one task's examples, 0 elsewhere."""
        head = self.heads[task.name]
        zeros = hidden.new_zeros(len(batch.task), dtype=torch.float32)
        if task.is_open:
            mine = batch.task[batch.branch_examples[batch.label_branches]] == index
            nats = zeros.new_zeros(len(mine))
            logits = head(hidden[batch.label_sources[mine]]).float()
            nats[mine] = F.cross_entropy(logits, batch.label_tokens[mine], reduction="none")
            return example_nats(nats, batch)
        branches = (batch.task[batch.branch_examples] == index).nonzero().squeeze(1)
        examples = batch.branch_examples[branches]
        outputs = head(hidden[batch.branch_ends[branches]]).float()
        target = batch.target[examples]
        if task.kind == "regression":
            return zeros.index_add(0, examples, (outputs.squeeze(1) - target) ** 2)
        if task.kind == "multiple_choice":
            log_probabilities = grouped_log_softmax(outputs.squeeze(1), examples, len(batch.task))
            right = _position_in_group(examples) == target.long()
            return zeros.index_add(0, examples[right], -log_probabilities[right])
        return zeros.index_add(
            0, examples, F.cross_entropy(outputs, target.long(), reduction="none")
        )

    def answers(
        self, decoder: Decoder, batch: Batch, task: Task, vocabulary: Vocabulary
    ) -> list[Answer]:
        """(B,) answers to a batch of one task."""
        head = self.heads[task.name]
        if task.is_open:
            return text_answers(decoder, batch, task, vocabulary, project=head)
        outputs = head(hidden_states(decoder, batch)[batch.branch_ends]).float()
        if task.kind == "regression":
            low, high = task.config.range
            return [Answer(value=value) for value in outputs.squeeze(1).clamp(low, high).tolist()]
        if task.kind == "multiple_choice":
            scores = grouped_log_softmax(outputs.squeeze(1), batch.branch_examples, len(batch.task))
            by_example = per_example(scores, batch)
        else:
            by_example = outputs.log_softmax(-1).double().tolist()
        return [
            Answer(value=max(range(len(row)), key=row.__getitem__), scores=tuple(row))
            for row in by_example
        ]


def grouped_log_softmax(scores: Tensor, groups: Tensor, count: int) -> Tensor:
    """(M,) log-softmax of scores within each group; ``groups`` (M,) are indices below ``count``."""
    highest = (
        scores.detach()
        .new_full((count,), -torch.inf)
        .scatter_reduce(0, groups, scores.detach(), "amax")
    )
    shifted = scores - highest[groups]
    total = scores.new_zeros(count).index_add(0, groups, shifted.exp())
    return shifted - total[groups].log()


def _position_in_group(groups: Tensor) -> Tensor:
    """(M,) position of each entry within its run of equal, adjacent group indices."""
    index = torch.arange(len(groups), device=groups.device)
    first = torch.ones_like(groups, dtype=torch.bool)
    first[1:] = groups[1:] != groups[:-1]
    starts = torch.where(first, index, torch.zeros_like(index)).cummax(0).values
    return index - starts
