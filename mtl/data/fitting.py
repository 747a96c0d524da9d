"""The one rule by which an input that is longer than the context is cut.

While the pieces are too long together, the longest piece loses its last token; of pieces of the same length
the earlier one loses first. So a long premise gives way before a short hypothesis does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def fit(pieces: Sequence[Sequence[int]], room: int) -> tuple[list[list[int]], int]:
    """Cut ``pieces`` to at most ``room`` tokens together.

    :return: The pieces, and the number of tokens that were cut (it belongs into ``Encoded.cut``).
    """
    if room < 0:
        raise ValueError(f"`room` should be 0 or more tokens. Found {room}.")
    total = sum(len(piece) for piece in pieces)
    if total <= room:
        return [list(piece) for piece in pieces], 0
    lengths = np.array([len(piece) for piece in pieces])
    level = _level(lengths, room)
    kept = np.minimum(lengths, level)
    # Of the pieces at the level, the earlier ones lose one more token than the later ones.
    (cut,) = np.nonzero(lengths > level)
    spare = room - int(kept.sum())
    kept[cut[len(cut) - spare :]] += 1
    return [list(piece[:n]) for piece, n in zip(pieces, kept.tolist(), strict=True)], total - room


def _level(lengths: np.ndarray, room: int) -> int:
    """The largest level at which pieces cut to at most that many tokens fit into ``room``."""
    below, above = 0, int(lengths.max())  # fits at ``below``, does not fit at ``above``
    while above - below > 1:
        middle = (below + above) // 2
        if int(np.minimum(lengths, middle).sum()) <= room:
            below = middle
        else:
            above = middle
    return below
