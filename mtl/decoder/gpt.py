"""The shared decoder: GPT-2 and GPT-1 as one configurable module, in one file.

- GPT-2 (``norm="pre"``): a layer norm before each branch and a final one after the last block; the output
  projections of the residual branches start 1/sqrt(2 * layers) smaller ("Language Models are Unsupervised
  Multitask Learners", section 2.3).
- GPT-1 (``norm="post"``): a layer norm after each residual sum, no final one, no scaling ("Improving Language
  Understanding by Generative Pre-Training", sections 3.1 and 4.1).
- Both: learned positions, tanh-GELU, token embedding tied to the output, N(0, 0.02) initial weights.

Legend: B rows, T tokens, S tokens seen, D width, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder.attention import attend
from mtl.decoder.cache import Cache, KeyValueCache
from mtl.decoder.gathering import rows_at

INITIAL_STANDARD_DEVIATION = 0.02
NORM_EPSILON = 1e-5


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: DecoderConfig, layer: int):
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.layer = layer
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        only: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), or (P, D) of the tokens ``only``. ``mask`` None is plain causal attention; one token
        alone sees all that is cached."""
        rows, tokens, width = x.shape
        heads = self.query_key_value(x).view(rows, tokens, 3, self.heads, width // self.heads)
        # (B, heads, T, D/heads) each; apart at first, so that their gradients lie as the projection's does.
        query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        attended = attend(
            query,
            key,
            value,
            mask,
            causal=mask is None and (cache is None or tokens > 1),
            dropout=self.dropout if self.training else 0.0,
        )
        return self.output(chosen(attended.transpose(1, 2).reshape(rows, tokens, width), only))


class FeedForward(nn.Module):
    """Two layers, four times as wide in between."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.expand = nn.Linear(config.width, 4 * config.width)
        self.output = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.output(F.gelu(self.expand(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and feed-forward, each a residual branch with its layer norm before (GPT-2) or after (GPT-1)."""

    def __init__(self, config: DecoderConfig, layer: int):
        super().__init__()
        self.norm = config.norm
        self.dropout = config.dropout
        self.attention_norm = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: KeyValueCache | None,
        only: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), or (P, D) of the tokens ``only``."""
        if self.norm == "pre":
            read = self.attention(self.attention_norm(x), mask, cache, only)
            x = chosen(x, only) + self._drop(read)
            return x + self._drop(self.feed_forward(self.feed_forward_norm(x)))
        read = self.attention(x, mask, cache, only)
        x = self.attention_norm(chosen(x, only) + self._drop(read))
        return self.feed_forward_norm(x + self._drop(self.feed_forward(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x


class Decoder(nn.Module):
    """A GPT: token ids in, hidden states and next-token logits out. It knows nothing of tasks.

    The initial weights are a function of ``seed`` and each parameter's name alone: two decoders that differ only in
    the tokens after ``base_vocabulary`` share every other weight bit for bit, and construction leaves the global
    random state untouched. Under ``torch.device("meta")`` nothing is allocated or initialised.

    :param config: Shape of the decoder (its ``pretrained`` is not read here: see ``mtl.decoder.huggingface``).
    :param vocabulary_size: Rows V of the token embedding.
    :param base_vocabulary: Rows that a later, larger vocabulary would share; the rows after are special
        tokens, each drawn on its own. None: all rows.
    :param seed: Fixes the initial weights.
    :raises UserError: where the width is not a multiple of the heads.
    """

    def __init__(
        self,
        config: DecoderConfig,
        vocabulary_size: int,
        *,
        base_vocabulary: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        base = vocabulary_size if base_vocabulary is None else base_vocabulary
        if base > vocabulary_size:
            raise ValueError(
                f"`base_vocabulary` must be at most `vocabulary_size`, got {base} and {vocabulary_size}"
            )
        self.config = config
        device = torch.empty(0).device
        # torch's layers draw initial weights from the global generator; on the meta device they draw nothing.
        with torch.device("meta"):
            self.token_embedding = nn.Embedding(vocabulary_size, config.width)
            self._add_trunk(config)
        if device.type != "meta":
            self.to_empty(device=device)
            self._initialise(seed, base)

    def _add_trunk(self, config: DecoderConfig) -> None:
        if config.width % config.heads:
            raise UserError(
                f"width must be a multiple of heads, got {config.width} and {config.heads}",
                where=f"decoder {config.name}",
            )
        self.position_embedding = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.final_norm = (
            nn.LayerNorm(config.width, eps=NORM_EPSILON) if config.norm == "pre" else None
        )

    @property
    def width(self) -> int:
        """Width D of the hidden states."""
        return self.config.width

    @property
    def context(self) -> int:
        """Longest sequence in tokens."""
        return self.config.context

    @property
    def vocabulary_size(self) -> int:
        """Rows V of the token embedding."""
        return self.token_embedding.num_embeddings

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.token_embedding.weight.device

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        offsets: Tensor | None = None,
        only: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the last block, after the final layer norm where there is one.

        :param tokens: (B, T) int64.
        :param positions: (B, T) int64, 0 <= position < context. None: 0 to T-1, or on from the cache's lengths.
        :param mask: (B, 1, T, T) bool, True where the row's token may see the column's; every token must see at
            least itself. None: every token sees itself and all before it.
        :param cache: Tokens read before, which each new token sees too; not together with ``mask``.
        :param offsets: (B or 1, T or 1, D), added to the embeddings of the tokens.
        :param only: (P,) int64: of the B*T tokens laid flat, those whose hidden states are wanted. The last block then
            spares itself most of its work for the others.
        :returns: (B, T, D), or (P, D) where ``only`` is given.
        :raises ValueError: where T exceeds the context and no positions are given, or on both mask and cache.
        """
        if cache is not None:
            if mask is not None:
                raise ValueError("`mask` and `cache` cannot be given together")
            mask = cache.mask(tokens.shape[1], tokens.device)
            if positions is None:
                positions = cache.positions(tokens.shape[1], tokens.device)
        x = self.embed(tokens, positions, offsets)
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            x = block(x, mask, cache, only if number == last else None)
        return self.finish(x)

    def embed(
        self, tokens: Tensor, positions: Tensor | None, offsets: Tensor | None = None
    ) -> Tensor:
        """(B, T) tokens and their positions (None: 0 to T-1) -> (B, T, D): what the first block reads."""
        if positions is None:
            self._check_length(tokens)
            position = self.position_embedding.weight[: tokens.shape[1]]
        else:
            position = self.position_embedding(positions)
        x = self.token_embedding(tokens) + position
        return self._drop(x if offsets is None else x + offsets)

    def finish(self, x: Tensor) -> Tensor:
        """(..., D) of the last block -> hidden states, normed where the decoder has a final layer norm."""
        return x if self.final_norm is None else self.final_norm(x)

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """An empty cache for B = ``rows`` rows of at most ``capacity`` tokens each, their padding included."""
        return KeyValueCache(rows, capacity)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V): next-token logits through the tied embedding."""
        return F.linear(hidden, self.token_embedding.weight)

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

        Forward, a token costs ``2 * 12 * layers * D**2`` in the blocks' matrices and
        ``4 * layers * D * mean_context`` in attention, less ``2 * 9 * D**2`` where its last state is not read: the last
        block then spares itself the attention's output and the feed-forward layer. A labelled token costs
        ``2 * V * D`` for its logits. The backward pass costs twice the forward pass.

        :param tokens: Tokens that are not padding.
        :param mean_context: Mean number of tokens a token sees, itself included: (T + 1) / 2 for a causal row of T.
        :param labelled: Tokens whose logits are computed.
        :param read: Tokens whose last states are computed, see ``only`` in :meth:`forward`. None: all.
        :param backward: Count the backward pass too.
        """
        layers, width = self.config.layers, self.width
        blocks = tokens * (24 * layers * width**2 + 4 * layers * width * mean_context)
        spared = 0 if read is None else (tokens - read) * 18 * width**2
        head = labelled * 2 * self.vocabulary_size * width
        return float((blocks - spared + head) * (3 if backward else 1))

    @torch.no_grad()
    def resize_vocabulary(self, size: int, seed: int) -> None:
        """Append rows for special tokens, as a new decoder with this seed would draw them.

        :raises ValueError: where ``size`` is smaller than the vocabulary.
        """
        old = self.token_embedding.weight
        first = old.shape[0]
        if size < first:
            raise ValueError(f"`size` must be at least the vocabulary's {first}, got {size}")
        weight = old.new_empty(size, self.width)
        weight[:first] = old
        if not weight.is_meta:
            _draw_special_rows(weight, first, seed)
        self.token_embedding.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
        self.token_embedding.num_embeddings = size

    def _check_length(self, tokens: Tensor) -> None:
        if tokens.shape[1] > self.context:
            raise ValueError(
                f"`tokens` must be at most `context` long, got {tokens.shape[1]} and {self.context}"
            )

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout) if self.training and self.config.dropout else x

    @torch.no_grad()
    def _initialise(self, seed: int, base_vocabulary: int) -> None:
        for name, parameter in self.named_parameters():
            if name == "token_embedding.weight":
                parameter[:base_vocabulary] = draw_normal((base_vocabulary, self.width), seed, name)
                _draw_special_rows(parameter, base_vocabulary, seed)
            else:
                self._draw(name, parameter, seed)

    def _draw(self, name: str, parameter: Tensor, seed: int) -> None:
        """| parameter                        | initial value                      |
        |----------------------------------|------------------------------------|
        | layer norm weight                | 1                                  |
        | every bias                       | 0                                  |
        | output of a residual branch, pre | N(0, 0.02 / sqrt(2 * layers))      |
        | every other matrix               | N(0, 0.02)                         |
        """
        if parameter.dim() == 2:
            scale = 1 / math.sqrt(2 * self.config.layers) if self.config.norm == "pre" else 1.0
            drawn = draw_normal(tuple(parameter.shape), seed, name)
            parameter.copy_(drawn * scale if name.endswith("output.weight") else drawn)
        else:
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)


def chosen(x: Tensor, only: Tensor | None) -> Tensor:
    """(B, T, D) -> (P, D) of the tokens with these flat indices; None: as it is."""
    return x if only is None else rows_at(x.flatten(0, -2), only)


def _draw_special_rows(embedding: Tensor, first: int, seed: int) -> None:
    for row in range(first, embedding.shape[0]):
        embedding[row] = draw_normal((embedding.shape[1],), seed, f"token_embedding.weight[{row}]")


def draw_normal(shape: tuple[int, ...], seed: int, name: str) -> Tensor:
    """N(0, 0.02), drawn on the CPU so that every device starts from the same weights."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.empty(shape, device="cpu").normal_(
        0.0, INITIAL_STANDARD_DEVIATION, generator=generator
    )
