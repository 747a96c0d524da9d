"""N-grams of words, and indices that say whether an n-gram stands in a text.

GPT-2, section 4: strings are normalised to lower-cased alphanumeric words with a single space between them, and the
8-grams of a training set are kept in a Bloom filter, which never misses one and holds a false positive with a
probability that is chosen. The exact set is the oracle that the filter is measured against.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Protocol

from mtl.tasks.task import Example

_WORD = re.compile(r"[^\W_]+")
_LN2 = math.log(2)


def words(text: str) -> list[str]:
    """Lower-cased words of letters and digits, as Unicode knows them; whatever else stands there parts words."""
    return _WORD.findall(text.lower())


def normalise(text: str) -> str:
    """The words of a text with a single space between them."""
    return " ".join(words(text))


def ngrams(text: str, n: int) -> Iterator[str]:
    """Every n words in a row, in the order of the text, as often as they stand there."""
    found = words(text)
    for start in range(len(found) - n + 1):
        yield " ".join(found[start : start + n])


def count_ngrams(text: str, n: int) -> int:
    """How many :func:`ngrams` gives, without making them."""
    return max(0, sum(1 for _ in _WORD.finditer(text.lower())) - n + 1)


def row_texts(example: Example) -> list[str]:
    """The texts of a row whose n-grams count; no n-gram reaches from one text into another.

    A document is one text. Any other row has its segments, its candidates (multiple choice) and its acceptable answers
    (generation), each as a text of its own, with what is given before it. The right one of these is read on from the
    last segment where the prompt ends with that segment, as in a passage whose last word is asked for. No word that
    the task file wrote itself counts, neither of a prompt nor of a label: it stands in every row, and would make the
    task overlap with itself.
    """
    if not example.segments:
        return list(example.references[:1])
    answers = [*(example.references or example.choices)]
    for index, given in enumerate(example.given):
        answers[index] = f"{given} {answers[index]}"
    right = 0 if example.references else example.target
    texts = list(example.segments)
    if isinstance(right, int) and right < len(answers) and _ends_with(example.prompt, texts[-1]):
        texts[-1] = f"{texts[-1]} {answers.pop(right)}"
    return [*texts, *answers]


def _ends_with(prompt: tuple[str, ...], segment: str) -> bool:
    wanted = words(segment)
    return bool(wanted) and words("".join(prompt))[-len(wanted) :] == wanted


class NgramIndex(Protocol):
    """A set of n-grams that can be asked, and added to."""

    def add(self, ngram: str) -> None:
        """Take an n-gram in."""

    def __contains__(self, ngram: str) -> bool:
        """Whether it was taken in; a filter may say so of one that was not, never the other way round."""


class ExactIndex:
    """Every n-gram itself: no mistake, and about a hundred bytes for each."""

    def __init__(self, ngrams: Iterable[str] = ()):
        self._ngrams = set(ngrams)

    def __len__(self) -> int:
        return len(self._ngrams)

    def add(self, ngram: str) -> None:
        """Take an n-gram in."""
        self._ngrams.add(ngram)

    def __contains__(self, ngram: str) -> bool:
        return ngram in self._ngrams


class BloomIndex:
    """A Bloom filter (Bloom 1970): a few bytes for each n-gram, whatever its length.

    Its bits are fixed by a cryptographic hash of the n-gram, so that the same text gives the same filter in every
    process. The library takes floor(log2(1 / p)) hashes, a little fewer than the best number; the bits that are given
    make up for it, so that with ``elements`` n-grams the expected rate is at most ``false_positive_rate``.

    :param elements: Different n-grams that will be added, or more than these.
    :param false_positive_rate: Probability that an n-gram which is not there is said to be there, once ``elements``
        are; more than 0 and below 1. With fewer it is lower.
    """

    def __init__(self, elements: int, false_positive_rate: float):
        from rbloom import Bloom

        self.elements = max(elements, 1)
        # Above a half the library would take no hash at all; a hair below a power of two, rounding leaves it no choice.
        rate = min(false_positive_rate, 0.5) * (1 - 1e-9)
        optimal = -math.log(rate) / _LN2**2
        self.hashes = int(optimal * _LN2)
        """Bits that an n-gram sets."""
        needed = -self.hashes / math.log1p(-(rate ** (1 / self.hashes)))
        # One more, because the library rounds the bits down.
        size = math.ceil(self.elements * max(1.0, needed / optimal)) + 1
        self._filter = Bloom(size, rate, _hash)

    @property
    def bits(self) -> int:
        """Size of the filter."""
        return self._filter.size_in_bits

    @property
    def expected_false_positive_rate(self) -> float:
        """With ``elements`` n-grams in it: (1 - exp(-hashes * elements / bits)) ** hashes."""
        return (1 - math.exp(-self.hashes * self.elements / self.bits)) ** self.hashes

    def add(self, ngram: str) -> None:
        """Take an n-gram in."""
        self._filter.add(ngram)

    def __contains__(self, ngram: str) -> bool:
        return ngram in self._filter


def _hash(ngram: str) -> int:
    """128 bits as the library wants them, signed."""
    digest = blake2b(ngram.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest, "little", signed=True)
