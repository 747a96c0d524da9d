"""Interpolated Kneser-Ney n-gram model over token ids, as arrays.

    p(w | u v) = max(c(u v w) - D(c(u v w)), 0) / c(u v .) + gamma(u v) p'(w | v)

- c of the highest order counts occurrences; below it c(v w) counts the distinct tokens that v w follows, and the last
  order is interpolated with the uniform distribution over the vocabulary.
- D(1), D(2) and D(3), the last for all counts above 2, are estimated for each order from how many n-grams are seen once
  to four times (modified Kneser-Ney: Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language
  Modeling", section 3, equations 26 and 27).
- gamma(u v) is the share of c(u v .) that was discounted, so that the probabilities sum to 1; where u v was never seen
  p(w | u v) is p'(w | v).

Legend: N n-grams, U distinct ones, C distinct contexts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

DISTINCT_COUNTS = 3
"""Counts with a discount of their own: 1, 2, and all above."""


@dataclass(frozen=True)
class Order:
    """What one order of the model adds."""

    ngrams: Ids
    """(U,) keys, ascending."""
    shares: Floats
    """(U,) discounted count over the context's count."""
    contexts: Ids
    """(C,) keys, ascending."""
    backoff: Floats
    """(C,) weight of the order below."""

    def extend(self, lower: Floats, ngrams: Ids, contexts: Ids) -> Floats:
        """(N,) probabilities of this order from those of the order below."""
        return _found(self.ngrams, self.shares, ngrams, 0.0) + lower * _found(
            self.contexts, self.backoff, contexts, 1.0
        )


class KneserNey:
    """An n-gram model of documents that are sequences of token ids, each between two boundary tokens.

    :param documents: Token ids of each document, without boundaries.
    :param vocabulary: Size V of the vocabulary; every id, the boundary's too, is below it.
    :param boundary: The token that closes a document, and is seen before its first one.
    :param order: Length n of the n-grams.
    :param discounts: (order, 3) discounts of counts 1, 2 and above for each order, the unigrams first; None estimates
        them.
    :raises ValueError: There are no documents, or keys of this order do not fit into 63 bits.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int] | Ids],
        vocabulary: int,
        *,
        boundary: int,
        order: int = 3,
        discounts: Floats | None = None,
    ):
        if not len(documents):
            raise ValueError("an n-gram model of no documents")
        if vocabulary**order >= 1 << 63:
            raise ValueError(f"{order}-grams over {vocabulary} tokens have no 63-bit keys")
        self.vocabulary, self.boundary, self.order = vocabulary, boundary, order
        whole = np.concatenate([self._windows(document) for document in documents])
        keys, counts = np.unique(self._keys(whole), return_counts=True)
        self.discounts = np.zeros((order, DISTINCT_COUNTS))
        """(order, 3) discounts in use, the unigrams first."""
        orders: list[Order] = []
        for length in range(order, 0, -1):
            given = None if discounts is None else discounts[length - 1]
            self.discounts[length - 1] = estimated_discounts(counts) if given is None else given
            orders.append(_order(keys, counts, vocabulary, self.discounts[length - 1]))
            # Each distinct n-gram is one distinct token before the n-gram that lacks its first.
            keys, counts = np.unique(keys % vocabulary ** (length - 1), return_counts=True)
        self._orders = orders[::-1]

    def nats(self, document: Sequence[int] | Ids) -> Floats:
        """(T + 1,) negative log-likelihood of each token of a document, its closing boundary included."""
        return np.asarray(-np.log(self.probabilities(self._windows(document))))

    def probabilities(self, windows: Ids) -> Floats:
        """(N,) probability of the last token of each n-gram after those before it.

        :param windows: (N, n) token ids.
        """
        keys = self._keys(windows)
        found = np.full(len(windows), 1.0 / self.vocabulary)
        for length, order in enumerate(self._orders, start=1):
            own = keys % self.vocabulary**length
            found = order.extend(found, own, own // self.vocabulary)
        return found

    def _windows(self, document: Sequence[int] | Ids) -> Ids:
        """(T + 1, n) every token of a document and its closing boundary, with the n - 1 before it."""
        before = np.full(self.order - 1, self.boundary)
        padded = np.concatenate([before, document, [self.boundary]]).astype(np.int64)
        return np.lib.stride_tricks.sliding_window_view(padded, self.order)

    def _keys(self, windows: Ids) -> Ids:
        """(N,) each n-gram as a number in base V, its last token the last digit."""
        keys = np.zeros(len(windows), dtype=np.int64)
        for column in windows.T:
            keys = keys * self.vocabulary + column
        return keys


def estimated_discounts(counts: Ids) -> Floats:
    """(3,) discounts of counts 1, 2 and above.

    With n_k the n-grams seen k times and Y = n_1 / (n_1 + 2 n_2), the discount of k is k - (k + 1) Y n_(k+1) / n_k, and
    for counts above 2 that of 3. Where the counts are too few to estimate it (an n_k is 0, or the result is not above
    0) it is Y; where n_1 is 0 that is 0.5.
    """
    seen = np.bincount(np.minimum(counts, DISTINCT_COUNTS + 2), minlength=DISTINCT_COUNTS + 3)
    once, twice = float(seen[1]), float(seen[2])
    absolute = once / (once + 2 * twice) if once else 0.5
    found = np.empty(DISTINCT_COUNTS)
    for count in range(1, DISTINCT_COUNTS + 1):
        own, above = float(seen[count]), float(seen[count + 1])
        estimated = count - (count + 1) * absolute * above / own if own and once else absolute
        found[count - 1] = estimated if estimated > 0 else absolute
    return found


def _order(keys: Ids, counts: Ids, vocabulary: int, discounts: Floats) -> Order:
    contexts, begins = np.unique(keys // vocabulary, return_index=True)
    totals = np.add.reduceat(counts, begins).astype(np.float64)
    removed = discounts[np.minimum(counts, DISTINCT_COUNTS) - 1]
    spread = np.diff(np.append(begins, len(keys)))
    return Order(
        ngrams=keys,
        shares=(counts - removed) / np.repeat(totals, spread),
        contexts=contexts,
        backoff=np.add.reduceat(removed, begins) / totals,
    )


def _found(known: Ids, values: Floats, wanted: Ids, missing: float) -> Floats:
    """(N,) the value of each wanted key; ``missing`` where it is not known."""
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[place] == wanted, values[place], missing)
