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
    """
    if flat is None:
        encoded = tuple(encoded)
        flat = Flat.of(encoded)
    laid, draws = _laid(flat, draws)
    lengths = laid.lengths
    if not lengths.all():
        raise ValueError("Every example should have at least one token. Found an empty one.")
    row, column = (pack_tightly if tight else pack)(
        lengths, max(int(row_tokens), int(lengths.max()))
    )
    width = int((column + lengths).max())
    shape = (int(row.max()) + 1, width)
    layout = _Layout(laid, row * width + column)

    tokens = np.zeros(shape, dtype=np.int64)
    tokens.flat[layout.places] = layout.tokens
    positions = np.zeros(shape, dtype=np.int64)
    positions.flat[layout.places] = layout.positions
    marks = layout.marks(flat.labelled, draws)
    plain = len(laid) == shape[0] and layout.unbranched
    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(positions),
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
    )


def idle_batch() -> Batch:
    """One token that counts for nothing: what a device computes in a step that has no example for it.

    It has no label, weight 0, task 0 and row -1; its target 0 is a class, a score and a choice of any task.
    """
    nothing = Encoded(
        tokens=np.zeros(1, dtype=np.int32), labelled=np.zeros(1, dtype=np.bool_), target=0.0
    )
    return replace(
        collate([nothing], tasks=[0], rows=[-1], weights=np.zeros(1, dtype=np.float32)),
        real_tokens=0,
    )


def _weights(weights: np.ndarray | None, examples: int) -> np.ndarray:
    if weights is None:
        return np.full(examples, 1.0 / examples, dtype=np.float32)
    return np.array(weights, dtype=np.float32)


def _laid(flat: Flat, draws: np.ndarray | None) -> tuple[Flat, np.ndarray]:
    """The encodings whose tokens are laid, and which of them each example reads."""
    if draws is None:
        return flat, np.arange(len(flat))
    laid = flat.take(np.unique(draws, return_index=True)[1])
    again = laid.take(draws)
    same = np.array_equal(again.lengths, flat.lengths)
    same = same and np.array_equal(again.branch_counts, flat.branch_counts)
    if not (
        same
        and np.array_equal(again.tokens, flat.tokens)
        and np.array_equal(again.branches, flat.branches)
    ):
        raise ValueError(
            "Examples of one draw should have the same tokens. Found some that have not."
        )
    return laid, draws


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
        lengths, counts = flat.lengths, flat.branch_counts
        segment_examples = np.repeat(np.arange(len(flat)), counts + 1)
        firsts = np.cumsum(counts + 1) - counts - 1  # (B,) the prefix segment of each example
        is_prefix = np.zeros(len(segment_examples), dtype=np.bool_)
        is_prefix[firsts] = True
        prefixes = lengths.copy()
        segments = np.empty(len(segment_examples), dtype=np.int64)
        if counts.any():
            branch_lengths = flat.branches
            owners = segment_examples[~is_prefix]
            np.subtract.at(prefixes, owners, branch_lengths)
            if (branch_lengths < 1).any() or (prefixes[counts > 0] < 1).any():
                raise ValueError(
                    "A prefix and each of its branches should have at least one token."
                )
            segments[~is_prefix] = branch_lengths
        segments[firsts] = prefixes

        begins = np.cumsum(segments) - segments  # (S,) where each segment begins among the N tokens
        origins = np.cumsum(lengths) - lengths  # (B,) where each example begins
        places = starts - origins  # (B,) from token number to flat index
        self.lengths = lengths
        self.origins = origins
        self.unbranched = not counts.any()
        self.segment = np.repeat(np.arange(len(segments)), segments)  # (N,)
        self.example = segment_examples[self.segment]
        self.in_prefix = is_prefix[self.segment]
        order = np.arange(len(self.segment))
        self.places = order + places[self.example]
        self.tokens = flat.tokens.astype(np.int64)
        within = order - begins[self.segment]
        self.positions = within + np.where(self.in_prefix, 0, prefixes[self.example])
        # The token before: the previous one, but for the first of a branch the last of the prefix.
        before = np.where(
            (within == 0) & ~self.in_prefix,
            origins[self.example] + prefixes[self.example] - 1,
            order - 1,
        )
        self.sources = before + places[self.example]
        ends = ~is_prefix
        ends[firsts] = counts == 0
        self.branch_ends = (begins + segments - 1 + places[segment_examples])[ends]
        self.branch_counts = np.maximum(counts, 1)  # (B,)
        numbers = np.cumsum(ends) - 1
        numbers[firsts[counts > 0]] += 1  # the prefix counts to the first branch
        self.branches = numbers[self.segment]

    def marks(self, labelled: np.ndarray, draws: np.ndarray) -> _Marks:
        """What B examples take that read the laid encodings ``draws`` (B,), with labels of their own (N,)."""
        numbers = np.arange(len(draws))
        lengths = self.lengths[draws]
        tokens = ranges(self.origins[draws], lengths)[labelled]
        if (self.positions[tokens] == 0).any():
            raise ValueError(
                "The first token of an example cannot be labelled: nothing predicts it."
            )
        owners = np.repeat(numbers, lengths)[labelled]
        counts = self.branch_counts[draws]
        firsts = (np.cumsum(self.branch_counts) - self.branch_counts)[draws]
        moved = np.cumsum(counts) - counts - firsts
        return _Marks(
            labelled=tokens,
            label_branches=self.branches[tokens] + moved[owners],
            branches=ranges(firsts, counts),
            branch_examples=np.repeat(numbers, counts),
            terms=np.maximum(np.bincount(owners, minlength=len(draws)), 1),
        )

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        """(R, 1, T, T): earlier tokens of the same prefix or branch, and the prefix of the own example."""
        segment = np.full(shape, -1, dtype=np.int32)
        segment.flat[self.places] = self.segment
        # To compare with one number, a prefix token is known by its example, any other by nothing.
        example = np.full(shape, -1, dtype=np.int32)
        example.flat[self.places] = self.example
        prefix_of = np.full(shape, -2, dtype=np.int32)
        prefix_of.flat[self.places] = np.where(self.in_prefix, self.example, -2)
        seen = segment[:, :, None] == segment[:, None, :]
        if not self.unbranched:
            seen |= example[:, :, None] == prefix_of[:, None, :]
        seen &= np.tri(shape[1], dtype=np.bool_)
        return seen[:, None]
