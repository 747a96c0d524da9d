"""Which row of a batch each example stands in, and where it begins there."""

from __future__ import annotations

import math

import numpy as np

FEWER_ROWS = 2
"""How many rows fewer than first fit takes are tried."""
WIDTHS = 8
"""Widths tried for each number of rows."""
WIDEST = 1.25
"""Most tokens of a row over those that first fit was given: attention costs the square of them."""


def pack(lengths: np.ndarray, row_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """First fit decreasing: row and first column of each example.

    :param lengths: (B,) tokens of each example, none above ``row_tokens``.
    :return: (B,) rows and (B,) columns, int64. Examples of the same length keep their order.
    """
    row = np.empty(len(lengths), dtype=np.int64)
    column = np.empty(len(lengths), dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    shortest = int(lengths.min(initial=row_tokens))
    free = [row_tokens]  # the last row is one in which nothing stands yet
    rows, columns = [], []
    r = first = before = 0
    for length in lengths[order].tolist():
        while free[first] < shortest:
            first += 1
        # A row that had no room for this very length a moment ago has none now.
        r = r if length == before else first
        while free[r] < length:
            r += 1
        rows.append(r)
        columns.append(row_tokens - free[r])
        if r == len(free) - 1:
            free.append(row_tokens)
        free[r] -= length
        before = length
    row[order], column[order] = rows, columns
    return row, column


def pack_tightly(lengths: np.ndarray, row_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`pack`, in fewer and somewhat longer rows where that leaves fewer places empty.

    The last row of first fit is half empty on average, which is much where rows are few.
    """
    best = pack(lengths, row_tokens)
    rows, places = _size(lengths, *best)
    for fewer in range(rows - 1, max(rows - 1 - FEWER_ROWS, 0), -1):
        least = max(row_tokens, math.ceil(int(lengths.sum()) / fewer))
        most = min((places - 1) // fewer, int(row_tokens * WIDEST))
        for width in np.unique(np.linspace(least, most, WIDTHS).astype(int)).tolist():
            if not least <= width <= most:
                continue
            tried = pack(lengths, width)
            found, taken = _size(lengths, *tried)
            if found <= fewer and taken < places:
                best, places = tried, taken
                break
    return best


def _size(lengths: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[int, int]:
    """Rows, and places in them."""
    rows = int(row.max()) + 1
    return rows, rows * int((column + lengths).max())
