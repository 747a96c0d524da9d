"""Traversal-style inputs: every task is read as ordered sequences that end in an extract token.

"Improving Language Understanding by Generative Pre-Training" (GPT-1), section 3.3 and figure 1:

- one text: start, text, extract;
- two texts in an order (entailment): start, first, delimiter, second, extract;
- two texts without one (similarity, ``TaskConfig.symmetric``): both orders, their extract states added;
- multiple choice: start, context, delimiter, choice, extract for each choice, and a softmax over their outputs.

Where an example has several sequences, what they begin with alike is laid once, as the prefix of branches. Its loss is
L2 + lambda * L1 (equation 5): L2 is read from the extract states, L1 is language modelling of its sequences.

Legend: B examples, M branches, D width, N tokens of an example, P labelled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gathering import rows_at
from mtl.decoder.gpt import Decoder
from mtl.learning.heads import Heads, closed_answers, closed_losses
from mtl.learning.reading import for_heads
from mtl.tasks.task import Answer, Example, Task


def traversed(
    example: Example,
    task: Task,
    vocabulary: Vocabulary,
    context: int,
    purpose: Purpose,
    *,
    modelled: bool,
) -> list[Encoded]:
    """The example in the form of its task; a long one is cut as for any head.

    GPT-1 has no open tasks. Their answer follows the extract token here and is labelled. A document has no prompt.

    :param modelled: In training, label every token but the first: what L1 predicts.
    """
    if task.config.symmetric:
        encodings = [_both_orders(example, task, vocabulary, context, purpose)]
    else:
        encodings = for_heads(example, task, vocabulary, context, purpose)
    if task.kind == "language_modelling" or purpose == "answer" or not modelled:
        return encodings
    return [replace(one, labelled=np.arange(len(one.tokens)) >= 1) for one in encodings]


def _both_orders(
    example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
) -> Encoded:
    """Start, then two branches. The same for (A, B) and (B, A), so that no sum depends on how the row was written."""
    ordered = replace(example, segments=tuple(sorted(example.segments)))
    (one,) = for_heads(ordered, task, vocabulary, context, purpose)
    body = one.tokens[1:-1]
    (middle,) = np.flatnonzero(body == vocabulary.delimiter)
    first, delimiter, second = np.split(body, [middle, middle + 1])
    start, extract = one.tokens[:1], one.tokens[-1:]
    tokens = np.concatenate(
        [start, first, delimiter, second, extract, second, delimiter, first, extract]
    )
    length = len(one.tokens) - 1
    return replace(
        one,
        tokens=tokens,
        labelled=np.zeros(len(tokens), dtype=np.bool_),
        branches=(length, length),
    )


def label_weights(encoded: Encoded, task: Task, extract: int, auxiliary: float) -> np.ndarray:
    """(P,) float32: what each labelled token's negative log-likelihood counts in the loss of its example.

    - Closed tasks: L1 is the mean over the example's sequences of each sequence's mean over its tokens, wrong choices
      and both orders included, as in the released code. A token that sequences share counts in each of them.
    - Open tasks: the mean over the answer's tokens is the loss itself (L2), that over the prompt's is L1. A document
      is an answer from its first token on.

    :param extract: Id of the extract token.
    :param auxiliary: lambda, 0 or more.
    """
    labelled = encoded.labelled
    if task.is_open:
        asked = np.flatnonzero(encoded.tokens == extract)
        prompt = np.arange(len(labelled)) <= asked.max(initial=-1)
        answers, inputs = (labelled & ~prompt)[labelled], (labelled & prompt)[labelled]
        weights = answers / max(1, answers.sum()) + auxiliary * inputs / max(1, inputs.sum())
    else:
        segments = np.repeat(
            np.arange(len(encoded.branches) + 1), [encoded.prefix, *encoded.branches]
        )
        counts = np.bincount(segments[labelled], minlength=len(encoded.branches) + 1)
        sequences = counts[:1] if not encoded.branches else counts[0] + counts[1:]
        of_sequences = auxiliary / len(sequences) / np.maximum(1, sequences)
        of_segments = np.concatenate([[of_sequences.sum()], of_sequences])
        weights = of_segments[segments[labelled]]
    return weights.astype(np.float32)


class ExtractHeads(nn.Module):
    """W_y of each closed task, with a bias as in the released code (choices need none), and what it reads.

    :param tasks: The tasks, in the order of ``Batch.task``; open ones have no head.
    :param decoder: The decoder whose width the heads fit.
    :param seed: Draws each head from a generator of its own, as for :class:`mtl.learning.heads.Heads`.
    :param dropout: Of extract states in training. All candidates of an example lose the same entries, as in the
        released code: a choice is not judged by other features than its rivals.
    """

    def __init__(self, tasks: Sequence[Task], decoder: Decoder, seed: int, dropout: float):
        super().__init__()
        self.tasks = tuple(tasks)
        self.heads = Heads([task for task in tasks if not task.is_open], decoder, seed).heads
        self.dropout = dropout

    def losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B,) L2: cross-entropy in nats over classes or choices, squared error for a score, 0 for open tasks."""
        count = len(batch.task)
        losses = hidden.new_zeros(count, dtype=torch.float32)
        dropped = self._dropped(hidden, count)
        for index in batch.task.unique().tolist():
            task = self.tasks[index]
            if task.is_open:
                continue
            rows = batch.task == index
            outputs, candidates = self._outputs(task, hidden, batch, dropped, rows)
            losses = losses + closed_losses(task.kind, outputs, candidates, batch.target)
        return losses

    def answers(self, hidden: Tensor, batch: Batch, task: Task) -> list[Answer]:
        """(B,) answers to a batch of one closed task."""
        every = torch.ones_like(batch.task, dtype=torch.bool)
        outputs, _ = self._outputs(task, hidden, batch, None, every)
        return closed_answers(task, outputs, batch)

    def operations(self, task: Task, rows: EncodedSplit) -> np.ndarray:
        """(N,) int64: forward operations of the task's head on each row; open tasks have none."""
        candidates = np.ones_like(rows.lengths)
        if task.kind == "multiple_choice":
            candidates = rows.end_counts
        weights = 0 if task.is_open else cast("nn.Linear", self.heads[task.name]).weight.numel()
        return 2 * weights * candidates

    def _outputs(
        self, task: Task, hidden: Tensor, batch: Batch, dropped: Tensor | None, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(C, outputs) of the head at the C candidates of the examples ``rows`` (B,) bool, of classes their
        log-probabilities; (C,) their examples."""
        states, examples = rows_at(hidden, batch.branch_ends), batch.branch_examples
        if task.kind != "multiple_choice":
            # The two orders of one example are one candidate: their states are added.
            states = states.new_zeros(len(rows), states.shape[1]).index_add(0, examples, states)
            examples = torch.arange(len(rows), device=rows.device)
        if dropped is not None:
            states = states * dropped[examples]
        chosen = rows[examples]
        outputs = self.heads[task.name](states[chosen]).float()
        classes = task.kind not in ("regression", "multiple_choice")
        return outputs.log_softmax(-1) if classes else outputs, examples[chosen]

    def _dropped(self, hidden: Tensor, count: int) -> Tensor | None:
        """(B, D) factors of dropout, one row for all candidates of an example; None outside training."""
        if not self.training or not self.dropout:
            return None
        return F.dropout(hidden.new_ones(count, hidden.shape[1]), self.dropout)
