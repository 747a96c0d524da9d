"""From hidden states to losses and answers, for answers that are text."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtl.data.batch import Batch
from mtl.data.grid import read_on_grid
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gathering import rows_at
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.learning.cross_entropy import Project, projected_nats, token_nats
from mtl.tasks.closed import score_values
from mtl.tasks.task import Answer, Task

ROW_MULTIPLE = 16
"""A row of a matrix product on a processor comes out alike whatever stands beside it, where there is a multiple of so
many rows: the kernels for the rows left over sum in another order."""


def pad_rows(x: Tensor) -> Tensor:
    """(P, ...) -> the same with its first row repeated at the end, to a multiple of ``ROW_MULTIPLE`` rows."""
    missing = -len(x) % ROW_MULTIPLE if len(x) else 0
    return torch.cat([x, x[:1].expand(missing, *x.shape[1:])]) if missing else x


def hidden_states(decoder: Decoder, batch: Batch, offsets: Tensor | None = None) -> Tensor:
    """(R*T, D) hidden states of a batch, laid flat as the batch's indices expect.

    :param offsets: (B, D), for each example a vector that is added to the embeddings of all its tokens.
    """
    return _states(decoder, batch, offsets, None).flatten(0, 1)


def read_states(decoder: Decoder, batch: Batch, places: Tensor) -> Tensor:
    """(N, D) hidden states at flat indices (N,), in any order; the last block does most of its work for them alone, and
    once for those that are read more than once."""
    only, order = places.unique(return_inverse=True)
    return rows_at(_chosen_states(decoder, batch, None, only), order)


def label_states(decoder: Decoder, batch: Batch, offsets: Tensor | None = None) -> Tensor:
    """(P, D) hidden states that predict the labelled tokens; the last block does most of its work for them alone.

    :param offsets: (B, D), see :func:`hidden_states`.
    """
    return _chosen_states(decoder, batch, offsets, batch.label_sources)


def _chosen_states(decoder: Decoder, batch: Batch, offsets: Tensor | None, only: Tensor) -> Tensor:
    if batch.on_grid:
        padded = read_on_grid(only, batch.tokens.numel())
        return _states(decoder, batch, offsets, padded)[: len(only)]
    if decoder.training:
        return _states(decoder, batch, offsets, only)
    return _states(decoder, batch, offsets, pad_rows(only))[: len(only)]


def _states(decoder: Decoder, batch: Batch, offsets: Tensor | None, only: Tensor | None) -> Tensor:
    spread = None
    if offsets is not None:
        spread = rows_at(offsets, token_examples(batch)).unflatten(0, batch.tokens.shape)
    return decoder(batch.tokens, batch.positions, batch.mask, offsets=spread, only=only)


def token_examples(batch: Batch) -> Tensor:
    """(R*T,) the example each token of the rows laid flat belongs to; padding counts to any."""
    # An example lies in one piece that ends with its last branch: the next end is one of its own.
    ends, order = batch.branch_ends.sort()
    tokens = torch.arange(batch.tokens.numel(), device=ends.device)
    following = torch.searchsorted(ends, tokens).clamp(max=len(ends) - 1)
    return batch.branch_examples[order[following]]


def label_nats(hidden: Tensor, batch: Batch, project: Project, *, vocabulary: int) -> Tensor:
    """(P,) negative log-likelihood of each labelled token, from all hidden states (R*T, D); the vocabulary, of that
    many tokens, is projected at those tokens alone."""
    states = rows_at(hidden, batch.label_sources)
    return projected_nats(states, batch.label_tokens, project, vocabulary=vocabulary)


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
    *,
    offsets: Tensor | None = None,
) -> list[Answer]:
    """Answers of one task read from text: the likeliest of a closed answer space, or decoded greedily.

    The score of an answer is its log-probability in nats, end token included. A document's answer is its negative
    log-likelihood in nats, and how many tokens that is of, its end token among them.

    :param project: The vocabulary projection; the decoder's own where it is None.
    :param offsets: (B, D), see :func:`hidden_states`.
    """
    if task.kind == "generation":
        prompts = [encoded.tokens.tolist() for encoded in batch.encoded]
        tokens = generate(
            decoder,
            prompts,
            max_new_tokens=task.config.max_answer_tokens,
            stop={vocabulary.end},
            project=project,
            banned=vocabulary.unwritten(decoder.vocabulary_size),
            offsets=offsets,
        )
        return [Answer(value=vocabulary.decode(answer).strip()) for answer in tokens]
    states = label_states(decoder, batch, offsets)
    logits = (project or decoder.logits)(pad_rows(states))[: len(states)]
    nats = token_nats(logits, batch.label_tokens)
    by_example = per_example(branch_nats(nats, batch), batch)
    if task.kind == "language_modelling":
        return [
            Answer(value=sum(branches), tokens=(int(encoded.labelled.sum()),))
            for branches, encoded in zip(by_example, batch.encoded, strict=True)
        ]
    answers = []
    for branches in by_example:
        best = min(range(len(branches)), key=branches.__getitem__)
        value = (
            float(score_values(task, len(branches))[best]) if task.kind == "regression" else best
        )
        answers.append(Answer(value=value, scores=tuple(-nats for nats in branches)))
    return answers


def freely_decoded(
    decoder: Decoder,
    batch: Batch,
    vocabulary: Vocabulary,
    words: Mapping[int, str],
    *,
    offsets: Tensor | None = None,
) -> list[str]:
    """(B,) what is written where a closed task is asked and no answer is offered, without blanks at both ends.

    Greedy, until the end token or as many tokens as the row's longest answer has. A row's text does not depend on the
    other rows.

    :param words: Special tokens that stand for answers, and the text of each.
    :param offsets: (B, D), see :func:`hidden_states`.
    """
    prompts = [encoded.tokens[: encoded.prefix].tolist() for encoded in batch.encoded]
    longest = [max(encoded.branches) for encoded in batch.encoded]
    texts = [""] * len(prompts)
    for length in sorted(set(longest)):
        rows = [row for row, own in enumerate(longest) if own == length]
        written = generate(
            decoder,
            [prompts[row] for row in rows],
            max_new_tokens=length,
            stop={vocabulary.end},
            banned=vocabulary.unwritten(decoder.vocabulary_size, words),
            offsets=None if offsets is None else offsets[rows],
        )
        for row, tokens in zip(rows, written, strict=True):
            texts[row] = _text(tokens, vocabulary, words).strip()
    return texts


def _text(tokens: list[int], vocabulary: Vocabulary, words: Mapping[int, str]) -> str:
    text, plain = "", list[int]()
    for token in tokens:
        if token in words:
            # A character may take several tokens, so that they are decoded together.
            text += vocabulary.decode(plain) + words[token]
            plain = []
        else:
            plain.append(token)
    return text + vocabulary.decode(plain)
