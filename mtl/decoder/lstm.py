"""The decoder with an LSTM for a trunk: an ablation of "Improving Language Understanding by Generative Pre-Training".

- Its section 5 says one layer of 2048 units and no more. This is the usual LSTM language model: token embedding, layers
  of H units, a linear map back to the embedding's width where H differs, output tied to the embedding.
- Dropout lies between layers and never on the recurrence ("Recurrent Neural Network Regularization", section 3.2).
- A token goes on from the state of the token before it in its own sequence, wherever in the row that one lies.

Legend: B rows, T tokens, N = B * T, S sequences of a run, D width, H units, V vocabulary.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from mtl.config.schema import DecoderConfig
from mtl.decoder.cache import Cache, StateCache
from mtl.decoder.gathering import rows_at
from mtl.decoder.gpt import INITIAL_STANDARD_DEVIATION, Decoder, chosen, draw_normal


class LstmDecoder(Decoder):
    """An LSTM with the interface of :class:`mtl.decoder.gpt.Decoder`, whose ``heads`` and ``norm`` it does not read.

    :param config: Shape, with ``units`` H (null: the width) of each of the ``layers``.
    """

    def _add_trunk(self, config: DecoderConfig) -> None:
        units = config.units or config.width
        sizes = [config.width] + [units] * config.layers
        self.blocks = nn.ModuleList(
            nn.LSTM(read, units, batch_first=True) for read in sizes[: config.layers]
        )
        self.projection = nn.Linear(units, config.width) if units != config.width else None

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        offsets: Tensor | None = None,
        only: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the last layer, projected to the width.

        :param tokens: (B, T) int64.
        :param positions: (B, T) int64. With a mask, a token at position p > 0 goes on from the token at p - 1 that it
            sees, and one at 0 begins anew. None: 0 to T-1.
        :param mask: (B, 1, T, T) bool, as for a transformer. None: each row is one sequence, whatever the positions.
        :param cache: Tokens read before, from which each row goes on; not together with ``mask``.
        :param offsets: (B or 1, T or 1, D), added to the embeddings of the tokens.
        :param only: (P,) int64: of the B*T tokens laid flat, those whose hidden states are wanted.
        :returns: (B, T, D), or (P, D) where ``only`` is given.
        :raises ValueError: where T exceeds the context and no positions are given, on both mask and cache, or where a
            token does not see exactly one at the position before its own.
        """
        x = self.embed(tokens, positions, offsets)
        if cache is not None:
            if mask is not None:
                raise ValueError("`mask` and `cache` cannot be given together")
            return self.finish(chosen(self._go_on(x, cast("StateCache", cache)), only))
        if mask is None:
            for block in self.blocks:
                x = self._drop(block(x)[0])
            return self.finish(chosen(x, only))
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        order, runs = _plan(positions, mask)
        x = rows_at(x.flatten(0, 1), order)
        for block in self.blocks:
            x = self._drop(_run(cast("nn.LSTM", block), x, runs))
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        if only is not None:
            return self.finish(rows_at(x, places[only]))
        return rows_at(self.finish(x), places).unflatten(0, tokens.shape)

    def embed(
        self, tokens: Tensor, positions: Tensor | None, offsets: Tensor | None = None
    ) -> Tensor:
        """(B, T) tokens -> (B, T, D): what the first layer reads. Positions are not embedded.

        Embeddings are multiplied by 50, which gives them variance 1 at the start: no layer norm lifts them from the
        0.02 that the tied output needs, and from inputs so small an LSTM hardly learns.
        """
        if positions is None:
            self._check_length(tokens)
        # Embeddings may be bfloat16 (mtl.decoder.layout); states are float32.
        x = self.token_embedding(tokens).float()
        x = x if offsets is None else x + offsets
        return self._drop(x / INITIAL_STANDARD_DEVIATION)

    def finish(self, x: Tensor) -> Tensor:
        """(..., H) of the last layer -> (..., D)."""
        return x if self.projection is None else self.projection(x)

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """An empty cache of states."""
        return StateCache(rows, capacity)

    def flops(
        self,
        tokens: int,
        mean_context: float,
        labelled: int,
        *,
        read: int | None = None,
        backward: bool = True,
    ) -> float:
        """Floating-point operations of a pass, counting matrix products only (a multiply-add is two).

        Forward, a token costs ``2 * 4 * H * (read + H)`` in each layer, which reads D numbers in the first and H in
        the others, however long its context; one whose last state is read costs ``2 * H * D`` in the projection where
        there is one, a labelled one ``2 * V * D`` for its logits. The backward pass costs twice the forward pass.

        :param tokens: Tokens that are not padding.
        :param mean_context: Not read.
        :param labelled: Tokens whose logits are computed.
        :param read: Tokens whose last states are computed. None: all.
        :param backward: Count the backward pass too.
        """
        layers = tokens * sum(p.numel() for p in self.blocks.parameters() if p.dim() == 2)
        projected = tokens if read is None else read
        projection = 0 if self.projection is None else projected * self.projection.weight.numel()
        head = labelled * self.vocabulary_size * self.width
        return float(2 * (layers + projection + head) * (3 if backward else 1))

    def _go_on(self, x: Tensor, cache: StateCache) -> Tensor:
        """(B, T, D) -> (B, T, H) behind the cached state; kept after each token, as padding is known only later."""
        cache.longest_with(x.shape[1])
        for layer, block in enumerate(self.blocks):
            weights = cast("nn.LSTM", block).all_weights[0]
            zeros = x.new_zeros(x.shape[0], weights[1].shape[1])
            hidden, cell = cache.state(layer) or (zeros, zeros)
            states = [(hidden, cell)]
            for t in range(x.shape[1]):
                states.append(torch.lstm_cell(x[:, t], states[-1], *weights))
            hidden, cell = (torch.stack(kind, dim=1) for kind in zip(*states, strict=True))
            cache.write(layer, hidden, cell)
            x = self._drop(hidden[:, 1:])
        return x

    def _draw(self, name: str, parameter: Tensor, seed: int) -> None:
        """| parameter                       | initial value                                             |
        |---------------------------------|-----------------------------------------------------------|
        | matrix of a layer or projection | N(0, 1/3H): the variance of torch's own U(+-1 / sqrt(H))  |
        | bias of the forget gate         | 1: a state lasts until it learns to forget                |
        | every other bias                | 0                                                         |
        """
        units = self.config.units or self.width
        if parameter.dim() == 2:
            scale = 1 / (math.sqrt(3 * units) * INITIAL_STANDARD_DEVIATION)
            parameter.copy_(draw_normal(tuple(parameter.shape), seed, name) * scale)
        else:
            parameter.zero_()
            if name.endswith("bias_ih_l0"):
                parameter[units : 2 * units] = (
                    1.0  # torch's order of gates: input, forget, cell, output
                )


class _Run(NamedTuple):
    """Sequences that can run side by side, because what they go on from has run before."""

    sizes: Tensor
    """Tokens of each moment of all of them together, on the CPU; the longest sequence comes first."""
    parents: Tensor | None
    """(S,) the sequence of the run before that each goes on from; None: all begin anew."""


def _plan(positions: Tensor, mask: Tensor) -> tuple[Tensor, list[_Run]]:
    """(N,) flat indices of the tokens in the order in which they run, and the runs one after the other.

    A sequence is a stretch of a row in which each token goes on from the one to its left, and ends where several (the
    branches of an example) go on from its last token.
    """
    before = mask[:, 0] & (positions[:, None, :] == positions[:, :, None] - 1)  # (B, T, T)
    count, column = before.sum(-1).cpu().numpy(), before.byte().argmax(-1).cpu().numpy()
    if (count != (positions > 0).cpu().numpy()).any():
        raise ValueError(
            "Every token at a position above 0 should see exactly one token at the position before. "
            f"Found {count.max()} and {count.min()}."
        )
    rows, tokens = count.shape
    index = np.arange(rows * tokens)
    first_of_row = np.arange(rows)[:, None] * tokens
    parent = np.where(count > 0, column + first_of_row, -1).ravel()
    children = np.bincount(parent[parent >= 0], minlength=len(index))
    begins = (parent < 0) | (parent != index - 1) | (children[parent] > 1)
    sequence = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    lengths = np.diff(first, append=len(index))
    offset = index - first[sequence]
    above = np.where(parent[first] < 0, -1, sequence[parent[first]])

    order: list[np.ndarray] = []
    runs: list[_Run] = []
    chosen, place = np.flatnonzero(above < 0), np.empty(0, dtype=np.int64)
    while len(chosen):
        chosen = chosen[np.argsort(-lengths[chosen], kind="stable")]
        parents = torch.from_numpy(place[above[chosen]]) if runs else None
        place = np.full(len(first), -1)
        place[chosen] = np.arange(len(chosen))
        own = np.flatnonzero(place[sequence] >= 0)
        own = own[np.lexsort((place[sequence[own]], offset[own]))]
        order.append(own)
        sizes = torch.from_numpy(np.bincount(offset[own]))
        runs.append(_Run(sizes, None if parents is None else parents.to(positions.device)))
        chosen = np.flatnonzero(np.isin(above, chosen))
    return torch.from_numpy(np.concatenate(order)).to(positions.device), runs


def _run(layer: nn.LSTM, x: Tensor, runs: list[_Run]) -> Tensor:
    """(N, D) -> (N, H), both in the order of the runs."""
    read, state = [], None
    for piece, run in zip(x.split([int(run.sizes.sum()) for run in runs]), runs, strict=True):
        if run.parents is not None and state is not None:
            state = tuple(kind[:, run.parents] for kind in state)
        hidden, state = layer(PackedSequence(piece, run.sizes), state)
        read.append(hidden.data)
    return torch.cat(read)
