"""What hard sharing adds to the decoder: a head for each task, or for each answer space, by the kind of answer.

Classes and scores are read from the extract token, choices from the extract token of each choice (GPT-1, section
3.3), open answers from a vocabulary projection of the task's own, which is what makes heads grow with the number of
tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.data.batch import Batch
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gathering import rows_at
from mtl.decoder.gpt import Decoder
from mtl.learning.cross_entropy import projected_nats
from mtl.learning.readout import hidden_states, pad_rows, per_example, read_states, text_answers
from mtl.learning.san import StochasticAnswerNetwork
from mtl.tasks.task import Answer, Task

MakePairHead = Callable[[int], StochasticAnswerNetwork]
"""Makes the head of a task of pairs, from its number of classes."""


def head_outputs(task: Task, vocabulary_size: int) -> int:
    """Rows of a task's head: its classes, one for a score or a choice, or the whole vocabulary."""
    if task.is_open:
        return vocabulary_size
    return task.classes if task.kind in ("classification", "pair_classification") else 1


def answer_space(task: Task) -> tuple[str | float, ...] | None:
    """What two tasks have in common that can share a head: the kind, and the answers in their order.

    Answers are the label words of classes, the range of a score, and nothing for choices, whose one score judges any
    text. None for an open task, whose head is always its own.
    """
    if task.is_open:
        return None
    if task.kind == "regression":
        return (task.kind, *map(float, task.config.range))
    return (task.kind, *task.config.answers)


class Heads(nn.Module):
    """The heads of all tasks.

    :param tasks: The tasks, in the order of ``Batch.task``.
    :param decoder: The decoder whose width and vocabulary the heads fit.
    :param seed: Heads are drawn from N(0, 0.02), each from a generator of its own, so that a task's head starts
        the same whatever the other tasks are.
    :param shared: Tasks with the same :func:`answer_space` have one head, which bears the name of the first of them.
    :param dropout: Of what a head reads, in training; at least 0 and below 1.
    :param pair_head: Makes the heads of tasks of pairs; None gives them a linear one too.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        decoder: Decoder,
        seed: int = 0,
        *,
        shared: bool = False,
        dropout: float = 0.0,
        pair_head: MakePairHead | None = None,
    ):
        super().__init__()
        self.tasks = tuple(tasks)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict()
        self.head_names: dict[str, str] = {}
        """Name of the head of each task."""
        named: dict[tuple[str | float, ...], str] = {}
        for task in self.tasks:
            space = answer_space(task) if shared else None
            self.head_names[task.name] = (
                task.name if space is None else named.setdefault(space, task.name)
            )
            if self.head_names[task.name] in self.heads:
                continue
            outputs = head_outputs(task, decoder.vocabulary_size)
            head: nn.Module
            if task.kind == "pair_classification" and pair_head is not None:
                head = pair_head(outputs)
            else:
                # What is added to all choices alike changes nothing, and a whole vocabulary has none in GPT.
                bias = not task.is_open and task.kind != "multiple_choice"
                head = nn.Linear(decoder.width, outputs, bias=bias)
            _draw(head, f"{seed}/head/{task.name if space is None else space}")
            if task.kind == "regression":
                # A score starts from the middle of its range, not from a constant far outside it.
                nn.init.constant_(cast("nn.Linear", head).bias, sum(task.config.range) / 2)
            self.heads[task.name] = head

    def losses(self, decoder: Decoder, batch: Batch) -> Tensor:
        """(B,) cross-entropy in nats over classes, choices or answer tokens; squared error for a score."""
        of_branches = batch.task[batch.branch_examples]
        labels = _ByTask.of(of_branches[batch.label_branches], len(self.tasks))
        ends = _ByTask.of(of_branches, len(self.tasks))
        sources, places = batch.label_sources[labels.order], batch.branch_ends[ends.order]
        present = [(i, task) for i, task in enumerate(self.tasks) if ends.counts[i]]
        hidden, states = self._states(
            decoder, batch, [task for _, task in present], torch.cat([sources, places])
        )
        read = states.split(labels.counts + ends.counts)
        label_tokens = labels.split(batch.label_tokens)
        label_examples = labels.split(batch.branch_examples[batch.label_branches])
        end_places, end_examples = places.split(ends.counts), ends.split(batch.branch_examples)

        nats = list[tuple[Tensor, Tensor]]()
        judged: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {}
        for i, task in present:
            if task.is_open:
                nats.append((self._nats(task, read[i], label_tokens[i]), label_examples[i]))
            else:
                at_ends = read[len(self.tasks) + i]
                outputs = self._judged(task, at_ends, hidden, batch, end_places[i])
                alike = judged.setdefault((task.kind, outputs.shape[1]), [])
                alike.append((outputs, end_examples[i]))
        losses = states.new_zeros(len(batch.task), dtype=torch.float32)
        if nats:
            found, examples = map(torch.cat, zip(*nats, strict=True))
            losses = losses.index_add(0, examples, found) / batch.terms
        for (kind, _), alike in judged.items():
            outputs, examples = map(torch.cat, zip(*alike, strict=True))
            losses = losses + closed_losses(kind, outputs, examples, batch.target)
        return losses

    def head_of(self, task: Task) -> nn.Module:
        """The task's head, which may be that of others too."""
        return self.heads[self.head_names[task.name]]

    def parameters_of(self, task: Task) -> list[nn.Parameter]:
        """Parameters of the task's head, where it serves this task alone."""
        if list(self.head_names.values()).count(self.head_names[task.name]) > 1:
            return []
        return list(self.head_of(task).parameters())

    def states_read(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        """(N,) int64: tokens of each row whose last states :meth:`losses` has computed, where no other task of the
        batch has a stochastic answer network, for which all are."""
        if isinstance(self.head_of(task), StochasticAnswerNetwork):
            return rows.lengths
        return rows.label_counts + rows.end_counts

    def operations(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        """(N,) int64: forward operations of a closed task's head on each row; an open one's are logits, see
        :meth:`mtl.learning.strategy.Strategy.added_operations`."""
        head = self.head_of(task)
        if isinstance(head, StochasticAnswerNetwork):
            return head.operations(rows.lengths)
        weights = 0 if task.is_open else cast("nn.Linear", head).weight.numel()
        return 2 * weights * rows.end_counts

    def _states(
        self, decoder: Decoder, batch: Batch, tasks: Iterable[Task], places: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """(R*T, D) all states where a head of these tasks reads whole examples, else None; and (N, D) those at flat
        indices (N,)."""
        if any(isinstance(self.head_of(task), StochasticAnswerNetwork) for task in tasks):
            hidden = hidden_states(decoder, batch)
            return hidden, rows_at(hidden, places)
        return None, read_states(decoder, batch, places)

    def _nats(self, task: Task, states: Tensor, tokens: Tensor) -> Tensor:
        """(P,) negative log-likelihood of an open task's labelled tokens (P,), predicted by states (P, D)."""
        return projected_nats(
            self.dropout(states),
            tokens,
            partial(self._outputs, task),
            vocabulary=cast("nn.Linear", self.head_of(task)).out_features,
        )

    def answers(
        self, decoder: Decoder, batch: Batch, task: Task, vocabulary: Vocabulary
    ) -> list[Answer]:
        """(B,) answers to a batch of one task, whatever index the batch has for it."""
        if task.is_open:
            return text_answers(decoder, batch, task, vocabulary, project=self.head_of(task))
        hidden, states = self._states(decoder, batch, [task], batch.branch_ends)
        judged = self._judged(task, states, hidden, batch, batch.branch_ends)
        return closed_answers(task, judged, batch)

    def _judged(
        self, task: Task, states: Tensor, hidden: Tensor | None, batch: Batch, ends: Tensor
    ) -> Tensor:
        """(C, outputs) of a closed task's head, which reads states (C, D) at flat indices (C,), or whole examples that
        end there; of classes their log-probabilities."""
        head = self.head_of(task)
        if isinstance(head, StochasticAnswerNetwork):
            log_probabilities: Tensor = head(hidden, batch, ends)
            return log_probabilities
        outputs = self._outputs(task, self.dropout(states)).float()
        return (
            outputs if task.kind in ("regression", "multiple_choice") else outputs.log_softmax(-1)
        )

    def _outputs(self, task: Task, states: Tensor) -> Tensor:
        """(P, outputs) of a linear head at states (P, D)."""
        head = self.head_of(task)
        outputs: Tensor = head(states) if self.training else head(pad_rows(states))[: len(states)]
        return outputs


@dataclass(frozen=True)
class _ByTask:
    """Entries of a batch (labels or branches) in the order of their tasks; those of one task keep theirs.

    Legend: N entries, K tasks.
    """

    order: Tensor
    """(N,) int64."""
    counts: list[int]
    """(K,) entries of each task."""

    @classmethod
    def of(cls, tasks: Tensor, count: int) -> _ByTask:
        """Of the task (N,) of each entry, below ``count``."""
        return cls(tasks.argsort(stable=True), tasks.bincount(minlength=count).tolist())

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """(K,) the values (N,) of each task's entries."""
        return values[self.order].split(self.counts)


def closed_losses(kind: str, outputs: Tensor, examples: Tensor, target: Tensor) -> Tensor:
    """(B,) losses of the examples of closed tasks of one kind, 0 elsewhere: cross-entropy in nats, squared error for a
    score.

    :param outputs: (C, 1) scores or (C, classes) log-probabilities of C candidates: an example has one, or, where it
        is a choice, one for each choice.
    :param examples: (C,) the example of each; those of one example stand side by side.
    :param target: (B,) of all examples of the batch.
    """
    losses = outputs.new_zeros(len(target), dtype=torch.float32)
    right = target[examples]
    if kind == "regression":
        return losses.index_add(0, examples, (outputs.squeeze(1) - right) ** 2)
    if kind == "multiple_choice":
        log_probabilities = grouped_log_softmax(outputs.squeeze(1), examples, len(target))
        chosen = _position_in_group(examples) == right.long()
        return losses.index_add(0, examples[chosen], -log_probabilities[chosen])
    return losses.index_add(0, examples, F.nll_loss(outputs, right.long(), reduction="none"))


def closed_answers(task: Task, outputs: Tensor, batch: Batch) -> list[Answer]:
    """(B,) answers to a batch of one closed task, from what :func:`closed_losses` takes."""
    if task.kind == "regression":
        low, high = task.config.range
        return [Answer(value=value) for value in outputs.squeeze(1).clamp(low, high).tolist()]
    if task.kind == "multiple_choice":
        choices = grouped_log_softmax(outputs.squeeze(1), batch.branch_examples, len(batch.task))
        by_example = per_example(choices, batch)
    else:
        by_example = outputs.double().tolist()
    return [
        Answer(value=max(range(len(row)), key=row.__getitem__), scores=tuple(row))
        for row in by_example
    ]


def _draw(head: nn.Module, what: str) -> None:
    """Matrices from N(0, 0.02) by a generator of their own, biases 0."""
    digest = hashlib.sha256(what.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    for parameter in head.parameters():
        if parameter.dim() < 2:
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=0.02, generator=generator)


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
