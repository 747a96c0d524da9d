"""A grid of few shapes for batches: blocks that are compiled for one shape are compiled again for each new one.

Legend: R rows, T tokens of a row, P tokens whose last states are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.data.store import EncodedSplit

WIDTH_MULTIPLE = 128
"""Tokens. Rows of half of it hold one example of the longer ones each: tasks of short texts then had a fifth of their
positions empty (docs/log.md, 2026-11-27)."""
ROW_BITS = 5
"""Binary digits in which a number of rows is written. More are more shapes, fewer are more empty rows."""
LEAST_READ = 64


@dataclass(frozen=True)
class Grid:
    """Shapes that the batches of a training are padded to.

    Every row has the same width. Up to 32 rows are as many as there are, more are 34, 36, ..., 64, 68, 72, ...: less
    than a seventeenth of them is empty.
    """

    width: int
    """Tokens T of every row."""

    @classmethod
    def of(cls, stores: Sequence[EncodedSplit]) -> Grid:
        """As wide as the longest example, rounded up to a multiple of 128."""
        longest = max(int(store.lengths.max(initial=1)) for store in stores)
        return cls(-(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE)

    @staticmethod
    def rows(filled: int) -> int:
        """Rows R of a batch in which something stands in ``filled`` rows."""
        unit: int = 1 << max(0, (filled - 1).bit_length() - ROW_BITS)
        return -(-filled // unit) * unit


def read_on_grid(only: Tensor, tokens: int) -> Tensor:
    """(P,) indices of tokens -> the same with others behind, whose states nobody wants: to a power of two, 64 at least,
    or to all tokens where those are fewer.

    :param tokens: Of the batch, R*T.
    """
    wanted = min(max(LEAST_READ, 1 << (len(only) - 1).bit_length()), tokens)
    missing = max(0, wanted - len(only))
    # Each of another token: the gradients of one that is read a thousand times are added one after the other.
    return torch.cat([only, torch.arange(missing, device=only.device)])
