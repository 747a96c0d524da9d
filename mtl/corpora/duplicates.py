"""Documents that repeat an earlier one, byte for byte or nearly.

Near-duplicates (Broder 1997; Gopher and GPT-3 remove them so): MinHash signatures of the sets of word shingles, by
datasketch; pairs that agree in a band of their signatures are candidates; a candidate is a duplicate where the Jaccard
similarity of the two sets themselves is high enough. So MinHash decides only what is looked at, and no document is
removed by a chance collision.

Candidates are grouped band by band in sorted arrays. datasketch's own index gives the same pairs (tested) but keeps
them in Python sets, which took 4.9 kB a document.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mtl.corpora.words import shingles

SEED = 1
"""Of the hash functions: signatures of different runs can be compared."""
UPDATE = 1 << 14
"""Shingles hashed at once: bounds memory for a whole book."""
REMEMBERED = 64
"""Sets of shingles kept while pairs are compared."""


def exact_duplicates(digests: np.ndarray) -> np.ndarray:
    """(N,) int64: position of the first equal document, which is its own where there is none before."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


class Signer:
    """MinHash signatures of documents.

    :param ngram: Words of a shingle.
    :param values: MinHash values of a signature.
    """

    def __init__(self, ngram: int, values: int):
        from datasketch import MinHash

        self._ngram = ngram
        self._empty: Any = MinHash(num_perm=values, seed=SEED, scheme="affine32")

    def __call__(self, text: str) -> np.ndarray:
        """(values,) uint32; the same for the same set of shingles."""
        signature = self._empty.copy()
        found = [shingle.encode("utf-8") for shingle in shingles(text, self._ngram)]
        for begin in range(0, len(found), UPDATE):
            signature.update_batch(found[begin : begin + UPDATE])
        return np.asarray(signature.hashvalues, dtype=np.uint32)


def buckets(
    signatures: Sequence[np.ndarray], bands: int, rows: int
) -> Mapping[int, Sequence[tuple[int, int]]]:
    """For each document that agrees with another in a band: the bands and values it shares.

    :param signatures: (n, bands * rows) arrays whose documents follow each other.
    """
    shared: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for band in range(bands):
        columns = slice(band * rows, (band + 1) * rows)
        parts = [np.ascontiguousarray(part[:, columns]) for part in signatures]
        keys = np.concatenate(parts).view(np.dtype((np.void, 4 * rows))).ravel()
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        for document in np.flatnonzero(counts[inverse] > 1).tolist():
            shared[document].append((band, int(inverse[document])))
    return shared


def near_duplicates(
    shared: Mapping[int, Sequence[tuple[int, int]]],
    text: Callable[[int], str],
    *,
    ngram: int,
    threshold: float,
    leave_out: Iterable[int] = (),
) -> Iterator[tuple[int, int]]:
    """Each document that is nearly equal to an earlier one that stays, and that one; in ascending order.

    What was removed removes nothing itself: a chain of ever less similar documents does not collapse into its first.

    :param shared: What :func:`buckets` found.
    :param leave_out: Documents that are removed already.
    """
    gone = set(leave_out)
    members: dict[tuple[int, int], list[int]] = defaultdict(list)

    @lru_cache(maxsize=REMEMBERED)
    def of(document: int) -> set[str]:
        return shingles(text(document), ngram)

    for document in sorted(shared):
        if document in gone:
            continue
        places = shared[document]
        candidates = sorted({other for place in places for other in members[place]})
        original = next(
            (other for other in candidates if jaccard(of(other), of(document)) >= threshold), None
        )
        if original is not None:
            yield document, original
            continue
        for place in places:
            members[place].append(document)


def jaccard(one: set[str], other: set[str]) -> float:
    """Size of the intersection over size of the union; 0 for two empty sets."""
    common = len(one & other)
    return common / max(len(one) + len(other) - common, 1)
