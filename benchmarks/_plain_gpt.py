"""A plain PyTorch GPT-2, written for these benchmarks in the way of nanoGPT: what a person writes who needs no toolkit.

Not nanoGPT's code. Like it: one projection for queries, keys and values, split and transposed; PyTorch's own causal
attention; exact GELU instead of tanh (torch computes it faster on a CPU); logits and cross-entropy at all positions;
AdamW with decay on matrices alone, which is not the fused one on a CPU.

Legend: B rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """Numbers a GPT-2 is made of."""

    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int
    gelu: str = "none"
    """torch's name for the approximation: ``tanh`` computes what GPT-2 does."""


class CausalSelfAttention(nn.Module):
    """Every token sees itself and those before it."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.heads
        self.c_attn = nn.Linear(shape.width, 3 * shape.width)
        self.c_proj = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        rows, tokens, width = x.shape
        parts = self.c_attn(x).split(width, dim=2)
        query, key, value = (
            part.view(rows, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in parts
        )
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(rows, tokens, width))


class FeedForward(nn.Module):
    """Two layers, four times as wide in between."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.c_fc = nn.Linear(shape.width, 4 * shape.width)
        self.c_proj = nn.Linear(4 * shape.width, shape.width)
        self.gelu = nn.GELU(approximate=shape.gelu)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    """Attention and feed-forward, a layer norm before each."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.width)
        self.attn = CausalSelfAttention(shape)
        self.ln_2 = nn.LayerNorm(shape.width)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class PlainGPT(nn.Module):
    """Token ids and the tokens that follow them in, mean loss out. Parameters bear the names of a GPT-2 folder."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.wte = nn.Embedding(shape.vocabulary, shape.width)
        self.wpe = nn.Embedding(shape.context, shape.width)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.ln_f = nn.LayerNorm(shape.width)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """(B, T) tokens and targets, -1 for none -> () mean cross-entropy in nats."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=-1)

    @torch.no_grad()
    def take(self, weights: dict[str, Tensor]) -> None:
        """The weights of a GPT-2 folder, which keeps its matrices (in, out)."""
        for name, parameter in self.named_parameters():
            weight = weights[f"transformer.{name}"]
            turned = ".c_" in name and name.endswith("weight")
            parameter.copy_(weight.t() if turned else weight)
