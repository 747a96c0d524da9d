"""Decoding: continue prompts token by token, greedily or by sampling."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from mtl.config.errors import UserError
from mtl.decoder.gpt import Decoder


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Collection[int] = (),
    project: Callable[[Tensor], Tensor] | None = None,
    banned: Sequence[int] = (),
    offsets: Tensor | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """Continue each prompt until a stop token or ``max_new_tokens``; return the new tokens without the stop token.

    A row's result does not depend on the other rows: a row reads itself alone, and row b draws from a
    random stream of (seed, b). Rows that have stopped leave the batch.

    :param prompts: B prompts of at least one token each, of any lengths.
    :param stop: Tokens that end a row.
    :param project: (B, D) hidden states -> (B, V) logits. None: the decoder's own.
    :param banned: Tokens that are never chosen.
    :param offsets: (B, D), for each row a vector that is added to the embeddings of all its tokens, the new ones too.
    :param temperature: 0 takes the most likely token (ties: the lowest id); above 0 samples from the softmax of
        logits / temperature.
    :param top_k: Sample among the k most likely tokens only.
    :param top_p: Sample among the fewest most likely tokens whose probabilities sum to at least p (0 < p <= 1).
    :param seed: Fixes the samples.
    :raises UserError: on an empty prompt, on a prompt that does not fit into the context with its new tokens, or on
        sampling settings out of range.
    """
    _check(decoder, prompts, max_new_tokens, temperature, top_k, top_p)
    answers: list[list[int]] = [[] for _ in prompts]
    if not prompts or max_new_tokens < 1:
        return answers
    project = decoder.logits if project is None else project
    was_training = decoder.training
    decoder.eval()
    try:
        with torch.inference_mode():
            lengths = [len(prompt) for prompt in prompts]
            tokens = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
            for row, prompt in enumerate(prompts):
                tokens[row, : len(prompt)] = torch.tensor(prompt)
            cache = decoder.new_cache(len(prompts), max(lengths) + max_new_tokens - 1)
            active = list(range(len(prompts)))
            streams = [np.random.default_rng([seed, row]) for row in active]
            while True:
                added = None if offsets is None else offsets[active, None]
                hidden = decoder(tokens.to(decoder.device), cache=cache, offsets=added)
                cache.advance(lengths)
                last = torch.tensor(lengths, device=hidden.device) - 1
                logits = project(
                    hidden[torch.arange(len(active), device=hidden.device), last]
                ).float()
                logits[:, list(banned)] = -torch.inf
                if temperature == 0:
                    chosen = logits.argmax(-1).tolist()
                else:
                    uniform = [streams[row].random() for row in active]
                    chosen = _sample(probabilities(logits, temperature, top_k, top_p), uniform)
                going = []
                for position, (row, token) in enumerate(zip(active, chosen, strict=True)):
                    if token in stop:
                        continue
                    answers[row].append(token)
                    if len(answers[row]) < max_new_tokens:
                        going.append(position)
                if not going:
                    return answers
                if len(going) < len(active):
                    cache.keep(going)
                    active = [active[position] for position in going]
                tokens = torch.tensor([[chosen[position]] for position in going])
                lengths = [1] * len(going)
    finally:
        decoder.train(was_training)


def probabilities(
    logits: Tensor, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """(B, V) logits -> (B, V) probabilities to sample from; ``top_p`` looks at what ``top_k`` left."""
    ordered, token = logits.sort(dim=-1, descending=True, stable=True)
    ordered = (ordered - ordered[:, :1]) / temperature  # no overflow, however low the temperature
    if top_k is not None:
        ordered[:, top_k:] = -torch.inf
    likely = ordered.softmax(-1)
    if top_p is not None:
        before = likely.cumsum(-1) - likely
        likely = likely.masked_fill(before >= top_p, 0.0)
        likely /= likely.sum(-1, keepdim=True)
    return torch.zeros_like(likely).scatter(-1, token, likely)


def _sample(likely: Tensor, uniform: Sequence[float]) -> list[int]:
    """One token a row by inverting the cumulative distribution at ``uniform`` (0 <= u < 1)."""
    # On the CPU in double precision, so that a row draws the same token alone and in a batch, on any device.
    cumulative = likely.cpu().double().cumsum(-1)
    threshold = torch.tensor(uniform, dtype=torch.float64)[:, None] * cumulative[:, -1:]
    chosen: list[int] = torch.searchsorted(cumulative, threshold, right=True)[:, 0].tolist()
    return chosen


def _check(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    if not 0 <= temperature < float("inf"):
        raise UserError(f"temperature must be 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k must be 1 or more, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p must be above 0 and at most 1, got {top_p}")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(
                "the prompt is empty; at least one token is needed", where=f"prompt {row}"
            )
        if len(prompt) + max_new_tokens > decoder.context:
            raise UserError(
                f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones do not fit into the context "
                f"of {decoder.context}",
                where=f"prompt {row}",
            )
