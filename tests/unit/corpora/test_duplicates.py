"""Near-duplicates: candidates as datasketch finds them, recall as its formula says, precision by comparison itself."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from mtl.corpora.duplicates import (
    Signer,
    buckets,
    exact_duplicates,
    jaccard,
    near_duplicates,
)
from mtl.corpora.words import shingles
from mtl.storage.texts import digest

from .prose import document, edited

BANDS, ROWS, NGRAM, THRESHOLD = 14, 8, 5, 0.8


def signed(texts: list[str]) -> np.ndarray:
    sign = Signer(NGRAM, BANDS * ROWS)
    return np.stack([sign(text) for text in texts])


def found(texts: list[str], threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    shared = buckets([signed(texts)], BANDS, ROWS)
    return list(near_duplicates(shared, texts.__getitem__, ngram=NGRAM, threshold=threshold))


def similarity(one: str, other: str) -> float:
    return jaccard(shingles(one, NGRAM), shingles(other, NGRAM))


def test_shingles_ignore_case_punctuation_and_blanks() -> None:
    assert shingles("The cat, sat -- on\n\nTHE mat", 5) == {
        "the cat sat on the",
        "cat sat on the mat",
    }
    assert shingles("One two.", 5) == {"one two"}
    assert shingles("-- ...", 5) == set()
    assert jaccard(set(), set()) == 0


@pytest.mark.parametrize(("edits", "low"), [(1, 0.94), (2, 0.89), (3, 0.84), (4, 0.80)])
def test_edited_copies_above_the_threshold_are_found(edits: int, low: float) -> None:
    """As many as 1 - (1 - s^8)^14 says (no more are missed than in 999 of 1000 draws); each is its original's copy."""
    originals = [document(seed, 15) for seed in range(50)]
    copies = [edited(text, edits) for text in originals]
    values = [similarity(*pair) for pair in zip(originals, copies, strict=True)]
    assert min(values) >= low
    counted = [value for value in values if value >= THRESHOLD]
    missed = sum((1 - s**ROWS) ** BANDS for s in counted)
    pairs = found([*originals, *copies])
    assert all(copy == original + 50 for copy, original in pairs)  # precision 1
    assert len(counted) - len(pairs) <= poisson.ppf(0.999, missed)
    assert len(pairs) >= {1: 50, 2: 50, 3: 48, 4: 40}[edits]


@pytest.mark.parametrize("edits", [8, 12, 20])
def test_copies_below_the_threshold_stay(edits: int) -> None:
    originals = [document(seed, 15) for seed in range(50)]
    copies = [edited(text, edits) for text in originals]
    assert max(map(similarity, originals, copies)) < THRESHOLD
    assert found([*originals, *copies]) == []


def test_pairs_that_share_a_band_are_datasketchs() -> None:
    from datasketch import MinHash, MinHashLSH

    texts = [document(seed, 6) for seed in range(30)]
    texts += [edited(text, edits) for text in texts[:20] for edits in (1, 3, 5)]
    signatures = signed(texts)
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    hashes = [
        MinHash(hashvalues=row, seed=1, scheme="affine32", num_perm=BANDS * ROWS)
        for row in signatures
    ]
    for number, one in enumerate(hashes):
        index.insert(number, one)
    theirs = {
        frozenset((number, other))
        for number, one in enumerate(hashes)
        for other in index.query(one)
        if other != number
    }
    shared = buckets([signatures[:33], signatures[33:]], BANDS, ROWS)
    ours = {
        frozenset(pair) for pair in combinations(shared, 2) if set(shared[pair[0]]) & set(shared[pair[1]])
    }  # fmt: skip
    assert ours == theirs
    assert len(ours) > 60


def test_a_signature_estimates_the_similarity() -> None:
    pairs = [
        (document(seed, 15), edited(document(seed, 15), edits))
        for seed in range(20)
        for edits in (1, 4)
    ]
    errors = []
    for one, other in pairs:
        first, second = signed([one, other])
        errors.append((first == second).mean() - similarity(one, other))
    assert abs(np.mean(errors)) < 3 * np.sqrt(0.25 / (BANDS * ROWS * len(pairs)))
    assert np.abs(errors).max() < 4 * np.sqrt(0.25 / (BANDS * ROWS))


def test_the_first_stays_and_a_chain_does_not_collapse() -> None:
    first = document(1, 15)
    second = edited(first, 3)
    words = second.split(" ")
    for place in (5, 60, 120):
        words[place] = "other"
    third = " ".join(words)
    assert similarity(first, second) >= THRESHOLD
    assert similarity(second, third) >= THRESHOLD
    assert similarity(first, third) < THRESHOLD
    assert found([first, second, third]) == [(1, 0)]
    assert found([second, first, third]) == [(1, 0), (2, 0)]
    shared = buckets([signed([first, second, third])], BANDS, ROWS)
    rest = near_duplicates(
        shared, [first, second, third].__getitem__, ngram=5, threshold=0.8, leave_out=[0]
    )
    assert list(rest) == [(2, 1)]


@given(st.lists(st.sampled_from(["a", "b", "a ", "", "A"]), max_size=12))
def test_exact_duplicates_point_to_the_first(texts: list[str]) -> None:
    digests = np.array([digest(text.encode()) for text in texts], dtype="S16")
    assert exact_duplicates(digests).tolist() == [texts.index(text) for text in texts]


@given(st.binary(max_size=200))
def test_a_digest_survives_numpy(data: bytes) -> None:
    kept = np.array([digest(data)], dtype="S16")
    assert kept[0] == digest(data)
    assert len(kept[0]) == 16
