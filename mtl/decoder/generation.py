"""Decoding: continue prompts token by token, greedily or by sampling."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from mtl.config.errors import UserError
from mtl.decoder.cache import KeyValueCache
from mtl.decoder.continuing import Choice, Continuations
from mtl.decoder.gpt import Decoder
from mtl.decoder.replaying import can_replay, go_on, slots
from mtl.decoder.sampling import check_sampling


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Collection[int] = (),
    ended: Callable[[int, list[int]], bool] | None = None,
    streams: Sequence[int] | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
    banned: Sequence[int] = (),
    offsets: Tensor | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """Continue each prompt until a stop token or ``max_new_tokens``; return the new tokens without the stop token.

    A row's result does not depend on the other rows: a row reads itself alone, and draws from a random stream of its
    own. (Sums of a matrix product may differ in their last bit between batches of other shapes; that decides only where
    two tokens are equally likely to seven digits.) Rows that have stopped leave the batch. On a CPU many new tokens
    come faster inside :func:`mtl.decoder.layout.laid_out_for_writing`.

    :param prompts: B prompts of at least one token each, of any lengths.
    :param stop: Tokens that end a row.
    :param ended: Asked after each new token with the row and its new tokens, which it must not change; True ends
        the row and keeps the token.
    :param streams: For each row the name of its random stream, 0 or more: a row draws from (seed, stream). None: its
        position, so that it depends on the rows before it.
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
    check_sampling(temperature, top_k, top_p)
    _check(decoder, prompts, max_new_tokens)
    answers = Continuations(len(prompts), max_new_tokens, stop, ended)
    if not prompts or max_new_tokens < 1:
        return answers.tokens
    active = list(range(len(prompts)))
    named = active if streams is None else streams
    choice = Choice(
        project=decoder.logits if project is None else project,
        never=torch.tensor(banned, dtype=torch.long, device=decoder.device),
        draws=[np.random.default_rng([seed, stream]) for stream in named],
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    was_training = decoder.training
    decoder.eval()
    try:
        with torch.inference_mode():
            lengths = [len(prompt) for prompt in prompts]
            tokens = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
            for row, prompt in enumerate(prompts):
                tokens[row, : len(prompt)] = torch.tensor(prompt)
            replays = can_replay(decoder, max_new_tokens)
            capacity = max(lengths) + max_new_tokens - 1
            cache = decoder.new_cache(len(prompts), slots(capacity) if replays else capacity)
            while True:
                added = None if offsets is None else offsets[active, None]
                only = _last(lengths, tokens.shape[1]).to(decoder.device)
                hidden = decoder(tokens.to(decoder.device), cache=cache, offsets=added, only=only)
                cache.advance(lengths)
                chosen = choice.tokens(choice.logits(hidden), active)
                pairs = zip(active, chosen, strict=True)
                going = [p for p, (row, token) in enumerate(pairs) if answers.take(row, token)]
                if not going:
                    return answers.tokens
                if len(going) < len(active):
                    cache.keep(going)
                    active = [active[position] for position in going]
                new = [chosen[position] for position in going]
                if replays and isinstance(cache, KeyValueCache):
                    go_on(decoder, cache, active, new, choice, answers, offsets)
                    return answers.tokens
                tokens, lengths = torch.tensor(new)[:, None], [1] * len(going)
    finally:
        decoder.train(was_training)


def _last(lengths: Sequence[int], row_tokens: int) -> Tensor:
    """(B,) where each row's last real token stands among B * T laid flat: no other is projected to the vocabulary."""
    return torch.arange(len(lengths)) * row_tokens + torch.tensor(lengths) - 1


def _check(decoder: Decoder, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
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
