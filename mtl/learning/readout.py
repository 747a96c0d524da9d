"""From hidden states to losses and answers, for answers that are text."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.data.batch import Batch
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.learning.reading import score_values
from mtl.tasks.task import Answer, Task

Project = Callable[[Tensor], Tensor]
"""Hidden states (P, D) -> logits (P, V)."""


def hidden_states(decoder: Decoder, batch: Batch) -> Tensor:
    """(R*T, D) hidden states of a batch, laid flat as the batch's indices expect."""
    return decoder(batch.tokens, batch.positions, batch.mask).flatten(0, 1)


def label_nats(hidden: Tensor, batch: Batch, project: Project) -> Tensor:
    """(P,) negative log-likelihood of each labelled token; the vocabulary is projected at those alone."""
    logits = project(hidden[batch.label_sources])
    return F.cross_entropy(logits.float(), batch.label_tokens, reduction="none")


def example_nats(nats: Tensor, batch: Batch) -> Tensor:
    """(B,) mean over each example's labelled tokens; 0 where it has none."""
    of_example = batch.branch_examples[batch.label_branches]
    summed = nats.new_zeros(len(batch.task)).index_add(0, of_example, nats)
    return summed / batch.terms


def branch_nats(nats: Tensor, batch: Batch) -> Tensor:
    """(M,) sum over each branch's labelled tokens."""
    return nats.new_zeros(len(batch.branch_ends)).index_add(0, batch.label_branches, nats)


def per_example(values: Tensor, batch: Batch) -> list[list[float]]:
    """(M,) values of branches as one list per example."""
    counts = torch.bincount(batch.branch_examples, minlength=len(batch.task)).tolist()
    return [part.tolist() for part in values.double().cpu().split(counts)]


def text_answers(
    decoder: Decoder,
    batch: Batch,
    task: Task,
    vocabulary: Vocabulary,
    project: Project | None = None,
) -> list[Answer]:
    """Answers of one task read from text: the likeliest of a closed answer space, or decoded greedily.

    The score of an answer is its log-probability in nats, end token included. A document's answer is its negative
    log-likelihood in nats.

    :param project: The vocabulary projection; the decoder's own where it is None.
    """
    if task.kind == "generation":
        prompts = [encoded.tokens.tolist() for encoded in batch.encoded]
        banned = [
            token
            for token in range(vocabulary.base_size, vocabulary.size)
            if token != vocabulary.end
        ]
        tokens = generate(
            decoder,
            prompts,
            max_new_tokens=task.config.max_answer_tokens,
            stop={vocabulary.end},
            project=project,
            banned=banned,
        )
        return [Answer(value=vocabulary.decode(answer).strip()) for answer in tokens]
    nats = label_nats(hidden_states(decoder, batch), batch, project or decoder.logits)
    by_example = per_example(branch_nats(nats, batch), batch)
    if task.kind == "language_modelling":
        return [Answer(value=sum(branches)) for branches in by_example]
    answers = []
    for branches in by_example:
        best = min(range(len(branches)), key=branches.__getitem__)
        value = (
            float(score_values(task, len(branches))[best]) if task.kind == "regression" else best
        )
        answers.append(Answer(value=value, scores=tuple(-nats for nats in branches)))
    return answers
