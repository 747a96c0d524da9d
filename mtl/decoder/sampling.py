"""From the logits of the next token to the token that is taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.config.errors import UserError

NUCLEUS = 1024
"""Tokens that are looked at first for ``top_p``: sorting a vocabulary costs as much as a step of a small decoder."""


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Refuse settings out of range.

    :raises UserError: a temperature below 0 or infinite, a ``top_k`` below 1, a ``top_p`` outside (0, 1].
    """
    if not 0 <= temperature < float("inf"):
        raise UserError(f"temperature must be 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k must be 1 or more, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p must be above 0 and at most 1, got {top_p}")


def probabilities(
    logits: Tensor, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """(B, V) logits -> (B, V) probabilities to sample from; ``top_p`` looks at what ``top_k`` left.

    Of equally likely tokens the one with the lower id is kept first.
    """
    # No overflow, however low the temperature.
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        ordered = logits.topk(top_k).values
        count = torch.tensor(top_k, device=logits.device)
        scaled = scaled.masked_fill(~_highest(logits, ordered, count), -torch.inf)
    likely = scaled.softmax(-1)
    if top_p is None or top_p == 1:
        return likely
    ordered, mass = _ordered(logits, likely, min(NUCLEUS, logits.shape[-1]))
    if bool((mass.sum(-1) < top_p).any()):
        ordered, mass = _ordered(logits, likely, logits.shape[-1])
    count = ((mass.cumsum(-1) - mass) < top_p).sum(-1, keepdim=True)
    likely = likely.masked_fill(~_highest(logits, ordered, count), 0.0)
    return likely / likely.sum(-1, keepdim=True)


def draw(likely: Tensor, uniform: Sequence[float]) -> list[int]:
    """One token for each row of (B, V) probabilities, where its cumulative sum reaches ``uniform`` (0 <= u < 1)."""
    # On the CPU in double precision, so that a row draws the same token alone and in a batch, on any device.
    cumulative = likely.cpu().double().cumsum(-1)
    threshold = torch.tensor(uniform, dtype=torch.float64)[:, None] * cumulative[:, -1:]
    chosen: list[int] = torch.searchsorted(cumulative, threshold, right=True)[:, 0].tolist()
    return chosen


def _ordered(logits: Tensor, likely: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(B, count) highest logits in descending order, and the probability of each."""
    ordered, token = logits.topk(count)
    return ordered, likely.gather(-1, token)


def _highest(logits: Tensor, ordered: Tensor, count: Tensor) -> Tensor:
    """(B, V) bool: the ``count`` highest logits of each row, whose values in descending order are ``ordered``."""
    last = ordered.gather(-1, (count - 1).expand(len(logits), 1))
    above, equal = logits > last, logits == last
    # How topk orders equal values is not promised.
    room = count - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= room))
