"""What every way of decoding has in common: how the next token is chosen, and when a row ends.

Legend: B rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtl.decoder.sampling import draw, probabilities


@dataclass(frozen=True)
class Choice:
    """How the next token of a row is chosen from its hidden state."""

    project: Callable[[Tensor], Tensor]
    """(B, D) hidden states -> (B, V) logits."""
    never: Tensor
    """Tokens that are never chosen, on the decoder's device."""
    draws: Sequence[np.random.Generator]
    """For each row what it draws from."""
    temperature: float
    top_k: int | None
    top_p: float | None

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken: that needs nothing but the logits."""
        return self.temperature == 0

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, D) hidden states -> (B, V) float32, -inf where a token is never chosen."""
        logits = self.project(hidden).float()
        if len(self.never):
            logits.index_fill_(1, self.never, -torch.inf)
        return logits

    def tokens(self, logits: Tensor, rows: Sequence[int]) -> list[int]:
        """(B,) chosen tokens.

        :param rows: (B,) whose logits these are; each row draws once.
        """
        if self.greedy:
            chosen: list[int] = logits.argmax(-1).tolist()
            return chosen
        uniform = [self.draws[row].random() for row in rows]
        likely = probabilities(logits, self.temperature, self.top_k, self.top_p)
        return draw(likely, uniform)


class Continuations:
    """The new tokens of B rows.

    :param longest: New tokens of a row at most.
    :param stop: Tokens that end a row and do not belong to it.
    :param ended: Asked after each new token with the row and its new tokens; True ends the row and keeps the token.
    """

    def __init__(
        self,
        rows: int,
        longest: int,
        stop: Collection[int],
        ended: Callable[[int, list[int]], bool] | None,
    ):
        self.tokens: list[list[int]] = [[] for _ in range(rows)]
        self._longest, self._stop, self._ended = longest, stop, ended

    def take(self, row: int, token: int) -> bool:
        """The next token of a row; whether the row goes on."""
        if token in self._stop:
            return False
        own = self.tokens[row]
        own.append(token)
        return len(own) < self._longest and not (self._ended is not None and self._ended(row, own))

    def left(self, row: int) -> int:
        """How many more tokens a row may have."""
        return self._longest - len(self.tokens[row])
