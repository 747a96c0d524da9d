"""Rows of a matrix by their indices, with gradients that are the same bits every time."""

from __future__ import annotations

from torch import Tensor


def rows_at(x: Tensor, index: Tensor) -> Tensor:
    """(N, ...) -> (P, ...): the rows at (P,) indices, each as often as it is named.

    The gradients of a row that is named often are always added in the same order. On a CPU that is so of
    ``index_select``, while threads add those of ``x[index]`` as they come; on a GPU it is the other way round.
    """
    return x.index_select(0, index) if x.device.type == "cpu" else x[index]


def add_rows(x: Tensor, index: Tensor, rows: Tensor) -> None:
    """Add (P, ...) to the rows of (N, ...) at (P,) indices, in place, those of one row always in the same order."""
    if x.device.type == "cpu":
        x.index_add_(0, index, rows)
    else:
        x.index_put_((index,), rows, accumulate=True)
