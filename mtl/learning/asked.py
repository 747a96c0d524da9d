"""How a task is put to a decoder and read out, in terms that another program can follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mtl.learning.reading import Layout


@dataclass(frozen=True)
class Asked:
    """All that answering rows of one task takes beside its decoder.

    A row is the layout's opening, its pieces with the separator between them, and the closing. Where a head chooses
    among texts, each of them stands behind a delimiter and ends in an extract token; without a head the answer follows
    as text and ends in the end token.
    """

    layout: Layout
    pieces: Literal["segments", "prompt"] = "segments"
    """Which reading of a row the pieces are."""
    head: nn.Module | None = None
    """What reads the state of the last token; None: the answer is the decoder's own continuation."""
    head_name: str = ""
    """Tasks whose heads have the same name share one."""
    both_orders: bool = False
    """Whether the two pieces, first in the order of the alphabet, are read in both orders and their states added."""
    words: tuple[int, ...] = ()
    """A token for each answer of a closed task, in place of its text."""
    vector: Tensor | None = None
    """(D,) added to the embedding of every token of the row, the answer's included."""
