"""One example as token ids: a prefix, and branches that continue it.

A branch is a candidate continuation of the shared prefix: one answer of the answer space, or one choice of
a multiple-choice row. Branches never see each other, so scoring K answers costs one prefix and K short tails.
An example without candidates is a prefix alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Purpose = Literal["train", "answer"]
"""What an encoding is for: ``train`` carries the right answer, ``answer`` must not."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one example. N is the number of tokens, prefix and branches together."""

    tokens: np.ndarray
    """(N,) int32: the prefix, then the branches one after the other."""
    labelled: np.ndarray
    """(N,) bool: tokens whose prediction from what stands before them enters the loss or the score.
    The first token of a branch is predicted from the last token of the prefix."""
    branches: tuple[int, ...] = ()
    """Length of each branch in tokens; empty for a prefix alone."""
    target: float = float("nan")
    """Class index, score or index of the right choice; nan for an open task."""
    cut: int = 0
    """Tokens left out because the example was longer than the context."""

    @property
    def prefix(self) -> int:
        """Length of the prefix in tokens."""
        return len(self.tokens) - sum(self.branches)

    @property
    def terms(self) -> int:
        """Terms of the example's loss: its labelled tokens, or 1 for a head's single loss."""
        return int(self.labelled.sum()) or 1
