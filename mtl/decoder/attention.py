"""Scaled dot-product attention, by torch's fused kernels or by three products of matrices where those train faster.

Legend: B rows, H heads, T tokens, S tokens seen, W width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = 512
"""Tokens of a row up to which weights are kept for the backward pass: B*H*T*T numbers of a block."""


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool, dropout: float
) -> Tensor:
    """What each token reads of those it sees.

    In bfloat16 on a CPU the fused kernel's backward pass takes 2 to 10 times as long as products of matrices do, the
    more the shorter the rows are (docs/log.md, 2026-11-27). Where gradients are taken there, scores and weights are
    matrices of bfloat16, as in the eager attention of transformers; everywhere else they never leave the kernel.

    :param query: (B, H, T, W).
    :param key: (B, H, S, W), as ``value``.
    :param mask: (B or 1, 1, T, S) bool, True where the row's token may see the column's. None: all are seen.
    :param causal: Every token sees itself and all before it; not together with ``mask``.
    :param dropout: Share of the weights that is dropped.
    :returns: (B, H, T, W).
    """
    fused = (
        query.device.type != "cpu"
        or query.dtype != torch.bfloat16
        or not (torch.is_grad_enabled() and query.requires_grad)
        or key.shape[-2] > LONGEST
        or dropout > 0
    )
    if fused:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, dropout_p=dropout
        )
    with torch.autocast("cpu", enabled=False):  # which would take the softmax to float32 and back
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if mask is not None:
            scores += torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
        return scores.softmax(-1) @ value
