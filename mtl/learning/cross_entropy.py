"""Cross-entropy over a vocabulary, with two matrices of tokens by vocabulary in memory at most.

torch's own operators hold three or more: log-probabilities, their gradient and that of the logits, under autocast
float32 copies too. Here the logits are kept, and a few rows at a time are computed from them, which stay in the cache.

Legend: P tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CACHED = 1 << 18
"""Numbers that are computed at a time: 1 MiB of float32."""


def token_nats(logits: Tensor, tokens: Tensor) -> Tensor:
    """(P,) float32 negative log-likelihood in nats of each token under its logits (P, V).

    The logits may be in lower precision; the sum over the vocabulary is taken in float32.
    """
    if logits.device.type != "cpu":
        return F.cross_entropy(logits.float(), tokens, reduction="none")
    nats: Tensor = _TokenNats.apply(logits, tokens)  # type: ignore[no-untyped-call]
    return nats


class _TokenNats(torch.autograd.Function):
    """The gradient of -log p(token) is p - [token]."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor) -> Tensor:
        nats = logits.new_empty(len(tokens), dtype=torch.float32)
        for row, label, own in _parts(logits, tokens, nats):
            log_probabilities = row.log_softmax(1, dtype=torch.float32)
            torch.neg(log_probabilities.gather(1, label), out=own)
        ctx.save_for_backward(logits, tokens, nats)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        logits, tokens, nats = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for row, label, own, weight, out in _parts(logits, tokens, nats, scale, gradient):
            normaliser = row.gather(1, label) + own
            exact = out if out.dtype == torch.float32 else torch.empty_like(out, dtype=own.dtype)
            torch.sub(row, normaliser, out=exact).exp_().mul_(weight)
            exact.scatter_add_(1, label, -weight)
            if exact is not out:
                out.copy_(exact)
        return gradient, None


def _parts(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """A few rows of each at a time; of one number a row, as a column."""
    rows = max(1, CACHED // logits.shape[1])
    columns = [other if other.dim() == 2 else other[:, None] for other in others]
    return zip(*(whole.split(rows) for whole in (logits, *columns)), strict=True)
