"""Cross-entropy over a vocabulary, with two matrices of tokens by vocabulary in memory at most.

torch's own operators hold three or more: log-probabilities, their gradient and that of the logits, under autocast
float32 copies too. Here a few rows at a time are computed, which stay in the cache, and the probabilities may take the
place of the logits. Where even so they would take too much of the memory, tokens are projected a piece at a time, and
once more in the backward pass.

Legend: P tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Project = Callable[[Tensor], Tensor]
"""Hidden states (P, D) -> logits (P, V), each row from its own state."""

CACHED = 1 << 18
"""Numbers that are computed at a time: 1 MiB of float32."""
MOST_NATS = 60.0
"""Of a token whose probability float32 holds with all of its digits; those below 1e-38 lose them."""
GPU_SHARE = 1 / 4
"""Of a GPU's memory, the most that logits and what is computed of them take before they come in pieces: the rest is
for activations, which grow with a step too."""
GPU_LOGIT_BYTES = 12
"""Of each logit in the backward pass of torch's operators: its log-probability and two gradients, in float32."""
CPU_LOGITS = 1 << 28
"""The most of a CPU: 2 GiB with their gradients in float32, 1 GiB in bfloat16."""
PIECES = 4
"""Into which the most would be cut. A piece as large as the most would save little where there are few: an allocator
finds no place for it among what lies there by then."""


def projected_nats(states: Tensor, tokens: Tensor, project: Project, *, vocabulary: int) -> Tensor:
    """(P,) float32 negative log-likelihood in nats of each token under the logits that its state is projected to.

    Where P * V logits are more than :func:`most_logits`, they are computed in equal pieces of tokens, and each piece
    again in every backward pass: a third more operations of the projection, and one piece in memory. The two ways
    differ by rounding; which it is depends on P, V and the kind of device, never on the memory that is free.

    :param states: (P, D).
    :param tokens: (P,) int64.
    :param vocabulary: V, the columns of what ``project`` returns.
    """
    logits, most = len(states) * vocabulary, most_logits(states.device)
    if logits <= most:
        return token_nats(project(states), tokens, overwrite=True)
    rows = -(-len(states) // -(-logits * PIECES // most))
    nats = [
        checkpoint(_piece_nats, *piece, project, use_reentrant=False)
        for piece in zip(states.split(rows), tokens.split(rows), strict=True)
    ]
    return torch.cat(nats)


def most_logits(device: torch.device) -> int:
    """Logits that are computed at once on a device.

    Of a GPU they follow from its kind. On a CPU they are the same whatever the machine has: its memory is shared by
    the workers of a study and limited by containers, and a run repeated elsewhere should be the same run.
    """
    if device.type != "cuda":
        return CPU_LOGITS
    return int(_gpu_bytes(device) * GPU_SHARE) // GPU_LOGIT_BYTES


@cache
def _gpu_bytes(device: torch.device) -> int:
    """Total memory rounded down to a power of 2: of GPUs of one kind, drivers keep more or less for themselves."""
    total: int = torch.cuda.get_device_properties(device).total_memory
    return 1 << (total.bit_length() - 1)


def _piece_nats(states: Tensor, tokens: Tensor, project: Project) -> Tensor:
    """(P,) of a piece. Autocast would round the weight once for all pieces, and so add up their gradients in bfloat16;
    without its cache each piece's is added in float32."""
    kind = states.device.type
    with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False):
        return token_nats(project(states), tokens, overwrite=True)


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
