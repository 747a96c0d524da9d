"""Towers: one decoder per task, all of one shape, held together by their parameters or by their activations.

Legend: K towers, L blocks, B rows, T tokens, D width, P numbers in one parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mtl.decoder.cache import KeyValueCache
from mtl.decoder.gpt import Block, Decoder


def corresponding(
    towers: Sequence[Decoder], layer_weights: Sequence[float] = ()
) -> Iterator[tuple[float, list[nn.Parameter]]]:
    """Each parameter in all K towers, with the weight of its block.

    :param layer_weights: (L,) one per block; empty: all 1. What lies outside the blocks weighs 1.
    """
    for same in zip(*(tower.named_parameters() for tower in towers), strict=True):
        scope, number, *_ = same[0][0].split(".")
        weight = layer_weights[int(number)] if scope == "blocks" and layer_weights else 1.0
        yield weight, [parameter for _, parameter in same]


@torch.no_grad()
def approach_mean(parameters: Sequence[Tensor], kept: float) -> None:
    """Leave each of K tensors of one shape ``kept`` (0 to 1) of its way from their mean; at 0 all equal it exactly."""
    first, *others = parameters
    mean = first.clone()
    for other in others:
        mean += other
    mean /= len(parameters)
    torch._foreach_lerp_(list(parameters), [mean] * len(parameters), 1 - kept)


@torch.no_grad()
def shrink_singular_values(stacks: Sequence[Sequence[Tensor]], thresholds: Sequence[float]) -> None:
    """Soft-threshold the singular values of each (K, P) stack: s becomes max(s - threshold, 0).

    The left singular vectors are the eigenvectors of the (K, K) Gram matrix, so that the cost is that of two products
    with a K x K matrix, however wide the towers are. Its eigenvalues are squares, which halves their digits: it is
    formed in float64.

    :param stacks: For each parameter its K tensors, of any shape.
    :param thresholds: One above 0 for each of them.
    """
    flat = [torch.stack([tensor.flatten() for tensor in stack]) for stack in stacks]
    grams = torch.stack([wide @ wide.T for wide in (matrix.double() for matrix in flat)])
    # All of them at once and on the CPU: a device would wait for each small decomposition.
    squares, vectors = torch.linalg.eigh(grams.cpu())
    values = squares.clamp(min=0).sqrt()
    below = torch.tensor(thresholds, dtype=torch.float64)[:, None]
    kept = torch.where(values > below, 1 - below / values, 0.0)
    factors = (vectors * kept[:, None]) @ vectors.mT
    for stack, matrix, factor in zip(stacks, flat, factors.to(flat[0]), strict=True):
        for tensor, row in zip(stack, factor @ matrix, strict=True):
            tensor.copy_(row.view_as(tensor))


def initial_stitches(layers: int, towers: int, strength: float) -> nn.Parameter:
    """(L * K * K,) alpha of every block: ``1 - strength`` for a tower's own activations, the rest for all others alike.

    A vector, because the optimizer's weight decay is for matrices and would pull alpha, sharing or not, to zero.
    """
    own = torch.eye(towers)
    alpha = own * (1 - strength) + (1 - own) * strength / (towers - 1)
    return nn.Parameter(alpha.flatten().repeat(layers))


def number_layers(towers: Sequence[Decoder]) -> None:
    """Number the blocks of all towers through, so that one cache holds the keys and values of all."""
    blocks = [block for tower in towers for block in tower.blocks]
    for number, block in enumerate(blocks):
        cast("Block", block).attention.layer = number


class StitchedBlock(nn.Module):
    """The same block of every tower, and the cross-stitch unit behind them."""

    def __init__(self, blocks: Sequence[nn.Module], alpha: Tensor):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.alpha = alpha

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        only: Tensor | None = None,
    ) -> Tensor:
        """(K, B, T, D) -> (K, B, T, D), or (K, P, D) of the tokens ``only``."""
        through = torch.stack(
            [block(own, mask, cache, only) for block, own in zip(self.blocks, x, strict=True)]
        )
        # The residual stream keeps its precision under autocast, as it does in a decoder that is alone.
        with torch.autocast(x.device.type, enabled=False):
            return torch.einsum("st,t...d->s...d", self.alpha, through.to(self.alpha))


class Stitched(Decoder):
    """The decoder of one task among towers in lockstep: all read its tokens, its own gives the hidden states.

    Its modules are the towers' own; nothing is copied. Made anew for each use, it belongs to no other module.

    :param towers: K decoders of one shape, their layers numbered through (see :func:`number_layers`).
    :param alpha: (L * K * K,) share of tower t in what tower s reads after block l, at ``[l, s, t]``.
    :param own: The tower that is read out.
    """

    def __init__(self, towers: Sequence[Decoder], alpha: Tensor, own: int):
        nn.Module.__init__(self)
        tower = towers[own]
        self.config = tower.config
        self.own = own
        self.towers = nn.ModuleList(towers)
        self.token_embedding = tower.token_embedding
        stitches = alpha.view(-1, len(towers), len(towers))
        blocks = zip(*(t.blocks for t in towers), strict=True)
        self.blocks = nn.ModuleList(
            StitchedBlock(same, stitch) for same, stitch in zip(blocks, stitches, strict=True)
        )
        self.training = tower.training

    def embed(
        self, tokens: Tensor, positions: Tensor | None, offsets: Tensor | None = None
    ) -> Tensor:
        """(B, T) tokens and positions -> (K, B, T, D)."""
        return torch.stack(
            [cast("Decoder", tower).embed(tokens, positions, offsets) for tower in self.towers]
        )

    def finish(self, x: Tensor) -> Tensor:
        """(K, ..., D) -> (..., D) of the task's own tower."""
        return cast("Decoder", self.towers[self.own]).finish(x[self.own])

    def flops(
        self,
        tokens: int,
        mean_context: float,
        labelled: int,
        *,
        read: int | None = None,
        backward: bool = True,
    ) -> float:
        """Every token passes through the blocks of all towers, and costs ``2 * K**2 * D`` in each cross-stitch unit,
        that behind the last block if it is read; a labelled token is read out once."""
        towers, layers = len(self.towers), self.config.layers
        tower = cast("Decoder", self.towers[self.own])
        blocks = towers * tower.flops(tokens, mean_context, 0, read=read, backward=backward)
        head = tower.flops(0, 0.0, labelled, backward=backward)
        stitched = tokens * layers if read is None else tokens * (layers - 1) + read
        stitches = 2 * stitched * towers**2 * self.width
        return blocks + head + float(stitches * (3 if backward else 1))
