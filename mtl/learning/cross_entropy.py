"""Cross-entropy over a vocabulary, with two matrices of tokens by vocabulary in memory at most.

torch's own operators hold three or more: log-probabilities, their gradient and that of the logits, under autocast
float32 copies too. Here a few rows at a time are computed, which stay in the cache, and the probabilities may take the
place of the logits.

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
MOST_NATS = 60.0
"""Of a token whose probability float32 holds with all of its digits; those below 1e-38 lose them."""


def token_nats(logits: Tensor, tokens: Tensor, *, overwrite: bool = False) -> Tensor:
    """(P,) float32 negative log-likelihood in nats of each token under its logits (P, V).

    The logits may be in lower precision; the sum over the vocabulary is taken in float32. Where a gradient is wanted
    the last digits may be others than where none is.

    :param overwrite: Nobody reads the logits afterwards: what is kept for the gradient may take their place.
    """
    if logits.device.type != "cpu":
        return F.cross_entropy(logits.float(), tokens, reduction="none")
    nats: Tensor = _TokenNats.apply(logits, tokens, overwrite)  # type: ignore[no-untyped-call]
    return nats


class _TokenNats(torch.autograd.Function):
    """The gradient of -log p(token) is p - [token], so the probabilities are kept and each is exponentiated once."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, overwrite: bool) -> Tensor:
        nats = logits.new_empty(len(tokens), dtype=torch.float32)
        if not ctx.needs_input_grad[0]:
            for row, label, own in _parts(logits, tokens, nats):
                _exact(row, label, own)
            return nats
        probabilities = logits.detach() if overwrite else torch.empty_like(logits)
        for row, label, own, out in _parts(logits, tokens, nats, probabilities):
            exact = row.softmax(1, dtype=torch.float32)
            torch.neg(exact.gather(1, label).log_(), out=own)
            if (own > MOST_NATS).any():
                _exact(row, label, own)
            out.copy_(exact)
        ctx.save_for_backward(probabilities, tokens, nats)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        probabilities, tokens, nats = ctx.saved_tensors
        gradient = torch.empty_like(probabilities)
        for kept, label, own, weight, out in _parts(probabilities, tokens, nats, scale, gradient):
            torch.mul(kept, weight, out=out)
            out.scatter_(1, label, own.neg().expm1_().mul_(weight).to(out.dtype))
        return gradient, None, None


def _exact(row: Tensor, label: Tensor, out: Tensor) -> None:
    torch.neg(row.log_softmax(1, dtype=torch.float32).gather(1, label), out=out)


def _parts(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """A few rows of each at a time; of one number a row, as a column."""
    rows = max(1, CACHED // logits.shape[1])
    columns = [other if other.dim() == 2 else other[:, None] for other in others]
    return zip(*(whole.split(rows) for whole in (logits, *columns)), strict=True)
