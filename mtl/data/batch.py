"""A batch: several examples packed into rows of tokens, with everything a strategy needs to score them.

Legend: B examples, M branches (M >= B: an example without branches counts as one), R rows, T tokens in a row,
P labelled tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl.data.encoding import Encoded
from mtl.data.flat import Flat, ranges
from mtl.data.grid import Grid
from mtl.data.packing import pack, pack_tightly


@dataclass(frozen=True)
class Batch:
    """Examples packed into rows.

    Examples of one row, each for another task, may point at the same tokens. An example's result does not depend on
    its neighbours: positions restart at each example, and ``mask`` lets a token see only its own prefix and its own
    branch. All tensors of indices point into the R*T tokens laid flat.
    """

    tokens: Tensor
    """(R, T) int64, padded with 0."""
    positions: Tensor
    """(R, T) int64, position inside the example; a branch goes on from its prefix."""
    mask: Tensor | None
    """(R, 1, T, T) bool, True where the row's token may see the column's; None where plain causal attention
    says the same (one unbranched example at the start of each row). Padding sees padding only."""
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
    encoded: Sequence[Encoded]
    """(B,) the encodings, for read-outs that decode from the prefix."""
    real_tokens: int
    """Tokens that are not padding."""
    on_grid: bool = False
    """Whether its shape is one of few (:mod:`mtl.data.grid`), and numbers of tokens that are read are to be, too."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with every tensor on ``device``."""
        if self.tokens.device == torch.device(device):
            return self  # even a move that moves nothing gives up the interpreter to the loader's thread, eleven times
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU reads by itself: to copy it there, nobody has to wait."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {
            f.name: change(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **changed)


def collate(
    encoded: Sequence[Encoded],
    *,
    flat: Flat | None = None,
    tasks: Sequence[int] | np.ndarray,
    rows: Sequence[int] | np.ndarray,
    weights: np.ndarray | None = None,
    row_tokens: int = 0,
    tight: bool = False,
    draws: np.ndarray | None = None,
    grid: Grid | None = None,
) -> Batch:
    """Pack examples into rows (:mod:`mtl.data.packing`), the same way every time.

    :param encoded: (B,) encodings, none empty; they keep this order in the batch.
    :param flat: The same laid one after the other, where that is at hand; ``encoded`` is then only kept.
    :param tasks: (B,) index of each example's task.
    :param rows: (B,) position of each example in its task's split.
    :param weights: (B,) weight of each example's loss; null is 1/B each.
    :param row_tokens: Rows hold this many tokens, or as many as the longest example where that is more.
    :param tight: Rows may be somewhat longer than that, where fewer places stay empty then.
    :param draws: (B,) int64, ascending from 0 without gaps: examples with the same number have the same tokens, which
        are laid once. Null lays each example.
    :param grid: Of whose shapes the batch is; ``row_tokens`` and ``tight`` then count for nothing.
    """
    if flat is None:
        encoded = tuple(encoded)
        flat = Flat.of(encoded)
    laid = _laid(flat, draws)
    lengths = laid.lengths
    if not lengths.all():
        raise ValueError("Every example should have at least one token. Found an empty one.")
    if grid is None:
        least = max(int(row_tokens), int(lengths.max()))
        row, column = (pack_tightly if tight else pack)(lengths, least)
        width = int((column + lengths).max())
    else:
        width = grid.width
        row, column = pack(lengths, width)
    filled = int(row.max()) + 1
    shape = (filled if grid is None else grid.rows(filled), width)
    layout = _Layout(laid, row * width + column)

    tokens, positions = np.zeros((2, shape[0] * width), dtype=np.int64)
    tokens[layout.places], positions[layout.places] = layout.tokens, layout.positions
    marks = layout.marks(flat.labelled, draws)
    plain = len(laid) == filled and layout.unbranched
    return Batch(
        tokens=torch.from_numpy(tokens.reshape(shape)),
        positions=torch.from_numpy(positions.reshape(shape)),
        mask=None if plain else torch.from_numpy(layout.mask(shape)),
        label_sources=torch.from_numpy(layout.sources[marks.labelled]),
        label_tokens=torch.from_numpy(layout.tokens[marks.labelled]),
        label_branches=torch.from_numpy(marks.label_branches),
        branch_ends=torch.from_numpy(layout.branch_ends[marks.branches]),
        branch_examples=torch.from_numpy(marks.branch_examples),
        task=torch.from_numpy(np.array(tasks, dtype=np.int64)),
        target=torch.from_numpy(flat.target),
        terms=torch.from_numpy(marks.terms),
        weight=torch.from_numpy(_weights(weights, len(flat))),
        rows=tuple(np.asarray(rows).tolist()),
        encoded=encoded,
        real_tokens=int(lengths.sum()),
        on_grid=grid is not None,
    )


def idle_batch(grid: Grid | None = None) -> Batch:
    """One token that counts for nothing: what a device computes in a step that has no example for it.

    It has no label, weight 0, task 0 and row -1; its target 0 is a class, a score and a choice of any task.
    """
    nothing = Encoded(
        tokens=np.zeros(1, dtype=np.int32), labelled=np.zeros(1, dtype=np.bool_), target=0.0
    )
    return replace(
        collate([nothing], tasks=[0], rows=[-1], weights=np.zeros(1, dtype=np.float32), grid=grid),
        real_tokens=0,
    )


def _weights(weights: np.ndarray | None, examples: int) -> np.ndarray:
    if weights is None:
        return np.full(examples, 1.0 / examples, dtype=np.float32)
    return np.array(weights, dtype=np.float32)


def _laid(flat: Flat, draws: np.ndarray | None) -> Flat:
    """The encodings whose tokens are laid."""
    if draws is None:
        return flat
    laid = flat.take(np.unique(draws, return_index=True)[1])
    again = laid.take(draws)
    if not all(
        np.array_equal(getattr(again, name), getattr(flat, name))
        for name in ("lengths", "branch_counts", "tokens", "branches")
    ):
        raise ValueError(
            "Examples of one draw should have the same tokens. Found some that have not."
        )
    return laid


def _segments(
    flat: Flat, is_prefix: np.ndarray, segment_examples: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) tokens of the prefix of each example, and (S,) tokens of each segment."""
    prefixes = flat.lengths.copy()
    np.subtract.at(prefixes, segment_examples[~is_prefix], flat.branches)
    if (flat.branches < 1).any() or (prefixes[flat.branch_counts > 0] < 1).any():
        raise ValueError("A prefix and each of its branches should have at least one token.")
    segments = np.empty(len(segment_examples), dtype=np.int64)
    segments[is_prefix], segments[~is_prefix] = prefixes, flat.branches
    return prefixes, segments


@dataclass(frozen=True)
class _Marks:
    """What B examples take from a layout: its tokens by number, its branches by number."""

    labelled: np.ndarray
    """(P,) token of each label."""
    label_branches: np.ndarray
    """(P,) which of the M branches it belongs to."""
    branches: np.ndarray
    """(M,) branches of the layout."""
    branch_examples: np.ndarray
    """(M,) example of each."""
    terms: np.ndarray
    """(B,) labelled tokens, or 1."""


class _Layout:
    """The tokens of all laid encodings (called examples here) one after the other, and where each goes.

    Legend: N tokens, S segments (an example's prefix and each of its branches are a segment).
    """

    def __init__(self, flat: Flat, starts: np.ndarray):
        lengths, counts, origins = flat.lengths, flat.branch_counts, flat.starts
        self.lengths, self.origins = lengths, origins
        self.branch_counts = np.maximum(counts, 1)  # (B,)
        self.unbranched = not len(flat.branches)
        shifts = starts - origins  # (B,) from token number to flat index
        order = np.arange(len(flat.tokens))
        self.tokens = flat.tokens.astype(np.int64, copy=False)
        if self.unbranched:
            self.example = np.arange(len(flat)).repeat(lengths)  # (N,)
            self.segment = self.branches = self.example
            self.places = order + shifts[self.example]
            self.positions = order - origins[self.example]
            self.sources = self.places - 1  # (N,) place of the token before
            self.branch_ends = starts + lengths - 1
            return
        segment_examples = np.arange(len(flat)).repeat(counts + 1)
        firsts = np.cumsum(counts + 1) - counts - 1  # (B,) the prefix segment of each example
        is_prefix = np.zeros(len(segment_examples), dtype=np.bool_)
        is_prefix[firsts] = True
        prefixes, segments = _segments(flat, is_prefix, segment_examples)
        begins = np.cumsum(segments) - segments  # (S,) where each segment begins
        depths = np.where(is_prefix, 0, prefixes[segment_examples])  # (S,) its first position
        self.segment = np.arange(len(segments)).repeat(segments)
        self.example = segment_examples[self.segment]
        self.in_prefix = is_prefix[self.segment]
        self.places = order + shifts[self.example]
        self.positions = order + (depths - begins)[self.segment]
        self.sources = self.places - 1
        # The first token of a branch follows the last of the prefix.
        owners = segment_examples[~is_prefix]
        self.sources[begins[~is_prefix]] = (starts + prefixes - 1)[owners]
        ends = ~is_prefix
        ends[firsts] = counts == 0
        self.branch_ends = (begins + segments - 1 + shifts[segment_examples])[ends]
        numbers = np.cumsum(ends) - 1
        numbers[firsts[counts > 0]] += 1  # the prefix counts to the first branch
        self.branches = numbers[self.segment]

    def marks(self, labelled: np.ndarray, draws: np.ndarray | None) -> _Marks:
        """What B examples take that read the laid encodings ``draws`` (B,; None: each its own), with labels (N,)."""
        counts = self.branch_counts
        if draws is None:
            tokens = labelled.nonzero()[0]
            owners, of_labels = self.example[tokens], self.branches[tokens]
            branches = np.arange(len(self.branch_ends))
        else:
            firsts = (counts.cumsum() - counts)[draws]
            counts, lengths = counts[draws], self.lengths[draws]
            tokens = ranges(self.origins[draws], lengths)[labelled]
            owners = np.arange(len(draws)).repeat(lengths)[labelled]
            moved = counts.cumsum() - counts - firsts
            of_labels = self.branches[tokens] + moved[owners]
            branches = ranges(firsts, counts)
        if (self.positions[tokens] == 0).any():
            raise ValueError(
                "The first token of an example cannot be labelled: nothing predicts it."
            )
        return _Marks(
            labelled=tokens,
            label_branches=of_labels,
            branches=branches,
            branch_examples=np.arange(len(counts)).repeat(counts),
            terms=np.maximum(np.bincount(owners, minlength=len(counts)), 1),
        )

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        """(R, 1, T, T): earlier tokens of the same prefix or branch, and the prefix of the own example."""
        segment = self._spread(self.segment, -1, shape)
        seen = segment[:, :, None] == segment[:, None, :]
        if not self.unbranched:
            # To compare with one number, a prefix token is known by its example, any other by nothing.
            example = self._spread(self.example, -1, shape)
            prefix_of = self._spread(np.where(self.in_prefix, self.example, -2), -2, shape)
            seen |= example[:, :, None] == prefix_of[:, None, :]
        seen &= np.tri(shape[1], dtype=np.bool_)
        return seen[:, None]

    def _spread(self, values: np.ndarray, empty: int, shape: tuple[int, int]) -> np.ndarray:
        """(R, T) int32: the tokens' (N,) values where they stand, ``empty`` elsewhere."""
        grid = np.full(shape[0] * shape[1], empty, dtype=np.int32)
        grid[self.places] = values
        return grid.reshape(shape)
