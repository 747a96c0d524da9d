"""What a decoder keeps of the tokens already read, so that each new token costs one position instead of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Cache:
    """What is kept of the tokens read so far, for B rows of unequal length.

    Row b holds ``lengths[b]`` tokens. One step is: the decoder's forward pass, which reads T tokens behind each row's
    length, then :meth:`advance` by how many of the T were real. So prompts are padded on the right, and a token
    stands at the same position whatever its neighbours' lengths are.

    :param rows: Number of rows B.
    :param capacity: Most tokens a row may hold, its padding included.
    """

    def __init__(self, rows: int, capacity: int):
        self.capacity = capacity
        self.lengths = [0] * rows

    def longest_with(self, tokens: int) -> int:
        """Tokens of the longest row once ``tokens`` more are read.

        :raises ValueError: where that exceeds the capacity.
        """
        longest = max(self.lengths) + tokens
        if longest > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens a row, got {longest}")
        return longest

    def advance(self, counts: Sequence[int]) -> None:
        """Count the first ``counts[b]`` tokens of row b's last forward pass as read; the rest was padding."""
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        self.lengths = [self.lengths[row] for row in rows]


class KeyValueCache(Cache):
    """Keys and values of every layer of a transformer.

    What lies behind a row's length is left over from padding, is never attended to and is overwritten by the next
    tokens.
    """

    def __init__(self, rows: int, capacity: int):
        super().__init__(rows, capacity)
        # Allocated at the first write: under autocast only the keys themselves know their precision.
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        # Kept between the layers of a forward pass, so that the lengths travel to the device once.
        self._positions: Tensor | None = None

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """(B, T) int64: where the next ``tokens`` tokens of each row stand."""
        if self._positions is None or self._positions.shape[1] != tokens:
            lengths = torch.tensor(self.lengths, device=device)
            self._positions = lengths[:, None] + torch.arange(tokens, device=device)
        return self._positions

    def mask(self, tokens: int, device: torch.device) -> Tensor | None:
        """(B, 1, T, S) bool: what each of the next tokens may see, or None where plain causal attention says the same.

        S is the longest row's length with the new tokens.
        """
        longest = max(self.lengths)
        if longest == 0 or (tokens == 1 and min(self.lengths) == longest):
            return None
        slots = torch.arange(longest + tokens, device=device)
        return (slots <= self.positions(tokens, device)[:, :, None])[:, None]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, heads, T, D/heads) behind each row's length; return all S slots, (B, heads, S, D/heads)."""
        rows, heads, tokens, size = key.shape
        longest = self.longest_with(tokens)
        if layer not in self._layers:
            shape = (rows, heads, self.capacity, size)
            self._layers[layer] = (key.new_zeros(shape), value.new_zeros(shape))
        keys, values = self._layers[layer]
        first = self.lengths[0]
        if all(length == first for length in self.lengths):
            keys[:, :, first : first + tokens] = key
            values[:, :, first : first + tokens] = value
        else:
            row = torch.arange(rows, device=key.device)[:, None]
            slot = self.positions(tokens, key.device)
            # Two index tensors around a slice put the indexed dimensions first: (B, T, heads, D/heads).
            keys[row, :, slot] = key.transpose(1, 2)
            values[row, :, slot] = value.transpose(1, 2)
        return keys[:, :, :longest], values[:, :, :longest]

    def advance(self, counts: Sequence[int]) -> None:
        super().advance(counts)
        self._positions = None

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self._positions = None
        longest = max(self.lengths, default=0)
        for layer, tensors in self._layers.items():
            key, value = (self._gather(tensor, rows, longest) for tensor in tensors)
            self._layers[layer] = (key, value)

    def rewind(self, length: int) -> None:
        """Forget what stands behind the first ``length`` tokens of each row."""
        self.lengths = [min(length, own) for own in self.lengths]
        self._positions = None

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values so far, (B, heads, S, D/heads); S is the longest row's length."""
        longest = max(self.lengths)
        keys, values = self._layers[layer]
        return keys[:, :, :longest], values[:, :, :longest]

    @staticmethod
    def _gather(tensor: Tensor, rows: Sequence[int], longest: int) -> Tensor:
        kept = torch.tensor(rows, device=tensor.device, dtype=torch.long)
        moved = tensor[kept, :, :longest]
        # Written back into the same storage: dropping rows never asks for a second cache.
        tensor[: len(rows), :, :longest] = moved
        return tensor[: len(rows)]


class Behind(KeyValueCache):
    """Rows that go on from one and the same row of another cache, for a single forward pass: nothing is kept.

    Needs its positions given to the forward pass.

    :param prefix: One row, which every token of all B rows sees whole. It is only read.
    :param mask: (B, 1, T, T) bool, True where the row's token may see the column's, as for a pass without a cache.
    """

    def __init__(self, prefix: KeyValueCache, mask: Tensor):
        (length,) = prefix.lengths
        super().__init__(len(mask), length + mask.shape[-1])
        self._prefix = prefix
        self._mask = torch.cat([mask.new_ones(*mask.shape[:3], length), mask], dim=-1)

    def mask(self, tokens: int, device: torch.device) -> Tensor:
        """(B, 1, T, S + T) bool, S tokens of the prefix first."""
        return self._mask

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The prefix's keys and values with these behind, (B, heads, S + T, D/heads)."""
        before = self._prefix.read(layer)
        after = (key, value)
        keys, values = (
            torch.cat([old.expand(len(new), -1, -1, -1), new], dim=2)
            for old, new in zip(before, after, strict=True)
        )
        return keys, values


class FixedCache(KeyValueCache):
    """The rows of a cache whose lengths are a tensor: reading one more token of each is the same work in every step.

    Written into the storage of the cache it was made of, which knows nothing of it.

    :param cache: Something was read into it.
    """

    def __init__(self, cache: KeyValueCache, device: torch.device):
        super().__init__(len(cache.lengths), cache.capacity)
        self._layers = cache._layers
        self.filled = torch.tensor(cache.lengths, device=device)
        """(B,) int64: tokens of each row; who reads one more adds 1 in place."""
        self._row = torch.arange(len(cache.lengths), device=device)[:, None]
        self._slots = torch.arange(cache.capacity, device=device)

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """(B, 1) int64: where the next token of each row stands."""
        return self.filled[:, None]

    def mask(self, tokens: int, device: torch.device) -> Tensor:
        """(B, 1, 1, capacity) bool: the tokens of the own row, and the new one."""
        return (self._slots <= self.filled[:, None])[:, None, None]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, heads, 1, D/heads) behind each row's tokens; return all slots, (B, heads, capacity, D/heads)."""
        keys, values = self._layers[layer]
        slot = self.filled[:, None]
        keys[self._row, :, slot] = key.transpose(1, 2)
        values[self._row, :, slot] = value.transpose(1, 2)
        return keys, values


class StateCache(Cache):
    """State of every layer of an LSTM after a row's last token. Legend: H units."""

    def __init__(self, rows: int, capacity: int):
        super().__init__(rows, capacity)
        # (B, T + 1, H) each, of a layer: the state before the last forward pass, and after each of its tokens.
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def state(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """(B, H) hidden and cell state of a layer before the next token; None before the first."""
        if layer not in self._layers:
            return None
        hidden, cell = self._layers[layer]
        return hidden[:, -1], cell[:, -1]

    def write(self, layer: int, hidden: Tensor, cell: Tensor) -> None:
        """Take the (B, T + 1, H) states before a forward pass and after each of its T tokens."""
        self._layers[layer] = (hidden, cell)

    def advance(self, counts: Sequence[int]) -> None:
        super().advance(counts)
        for layer, (hidden, cell) in self._layers.items():
            row = torch.arange(len(counts), device=hidden.device)
            count = torch.tensor(counts, device=hidden.device)
            self._layers[layer] = (hidden[row, count, None], cell[row, count, None])

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        for layer, (hidden, cell) in self._layers.items():
            kept = torch.tensor(rows, device=hidden.device, dtype=torch.long)
            self._layers[layer] = (hidden[kept], cell[kept])
