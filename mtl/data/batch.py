"""A batch: several examples packed into rows of tokens, with everything a strategy needs to score them.

Legend: B examples, M branches (M >= B: an example without branches counts as one), R rows, T tokens in a row,
P labelled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from mtl.data.encoding import Encoded


@dataclass(frozen=True)
class Batch:
    """Examples packed into rows.

    An example's result does not depend on its neighbours: positions restart at each example, and ``mask``
    lets a token see only its own prefix and its own branch. All tensors of indices point into the R*T tokens
    laid flat.
    """

    tokens: Tensor
    """(R, T) int64, padded with 0."""
    positions: Tensor
    """(R, T) int64, position inside the example; a branch goes on from its prefix."""
    mask: Tensor | None
    """(R, 1, T, T) bool, True where the row's token may see the column's; None where plain causal attention
    says the same (one unbranched example at the start of each row)."""
    label_sources: Tensor
    """(P,) int64: flat index of the token whose hidden state predicts the labelled token."""
    label_tokens: Tensor
    """(P,) int64: the labelled token."""
    label_branches: Tensor
    """(P,) int64: the branch it belongs to, 0 <= m < M. A labelled token of the prefix of an example that has
    branches belongs to the first of them."""
    branch_ends: Tensor
    """(M,) int64: flat index of the last token of each branch (of the example, where it has none)."""
    branch_examples: Tensor
    """(M,) int64: the example each branch belongs to, 0 <= b < B, ascending."""
    task: Tensor
    """(B,) int64: index of the example's task in the run's list of tasks."""
    target: Tensor
    """(B,) float32: class index, score or choice index; nan for an open task."""
    terms: Tensor
    """(B,) int64: terms of each example's loss."""
    weight: Tensor
    """(B,) float32: weight of each example's mean loss in the step's loss (see ``mtl.learning.reduction``). A
    step that is split over devices or accumulated pieces carries the weights of the whole step."""
    rows: tuple[int, ...]
    """(B,) position of each example in its task's split."""
    encoded: tuple[Encoded, ...]
    """(B,) the encodings, for read-outs that decode from the prefix."""
    real_tokens: int
    """Tokens that are not padding."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with every tensor on ``device``."""
        moved = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch with every tensor in page-locked memory."""
        pinned = {
            f.name: value.pin_memory()
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **pinned)


def collate(
    encoded: Sequence[Encoded],
    *,
    tasks: Sequence[int],
    rows: Sequence[int],
    weights: np.ndarray | None = None,
    row_tokens: int = 0,
) -> Batch:
    """Pack examples into rows of at least ``row_tokens`` tokens (first fit, longest first).

    TODO (data helper): implement.
    """
    raise NotImplementedError
