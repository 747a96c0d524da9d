"""How much of a test set stands in a text that is trained on: the table of n-grams of GPT-2 (section 4, Table 6)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from mtl.tasks.ngrams import BloomIndex, ExactIndex, count_ngrams, ngrams, row_texts
from mtl.tasks.task import Example

ORACLE_NGRAMS = 5_000_000
"""Different n-grams of test sets up to which the exact answer is found beside the filter's (about 0.6 GB)."""


@dataclass(frozen=True)
class RowFound:
    """The n-grams of one row."""

    row: str
    """Identity of the row inside its dataset."""
    ngrams: int
    """How many it has, each as often as it stands there."""
    found: int
    """How many of them stand in the text."""

    @property
    def share(self) -> float:
        """Found of all; 0 for a row too short to have any."""
        return self.found / self.ngrams if self.ngrams else 0.0


@dataclass(frozen=True)
class Searched:
    """A text that n-grams are looked for in."""

    n: int
    index: BloomIndex
    ngrams: int
    """N-grams of the text, each as often as it stands there: an upper bound of how many different ones there are."""
    exact: ExactIndex | None
    """Those n-grams of the test sets that really stand in the text; None where nobody looked."""

    def false_positives(self, asked: Collection[str]) -> tuple[int, int]:
        """How many n-grams the filter wrongly has, and how many it could have: those asked that are not in the text.

        :param asked: Different n-grams, all of which were known when the text was read.
        :raises ValueError: Nobody looked.
        """
        if self.exact is None:
            raise ValueError("no exact set was kept beside the filter")
        wrong = sum(ngram in self.index for ngram in asked if ngram not in self.exact)
        return wrong, len(asked) - len(self.exact)


def asked_ngrams(
    splits: Iterable[Sequence[Example]], n: int, *, at_most: int = ORACLE_NGRAMS
) -> frozenset[str] | None:
    """The different n-grams of some test sets; None where there are more than ``at_most``."""
    asked: set[str] = set()
    for examples in splits:
        for example in examples:
            for text in row_texts(example):
                asked.update(ngrams(text, n))
            if len(asked) > at_most:
                return None
    return frozenset(asked)


def search(
    examples: Sequence[Example],
    n: int,
    *,
    false_positive_rate: float,
    asked: frozenset[str] | None,
    advance: Callable[[int], None] = lambda read: None,
) -> Searched:
    """Read a text twice: to count its n-grams, which sizes the filter, and to put them into it.

    Beside the documents themselves only the filter is held, and of ``asked`` what was found.

    :param asked: N-grams to look for exactly; None for the filter alone.
    :param advance: Called with the number of rows that were read, each twice in all.
    """
    total = 0
    for position, example in enumerate(examples, start=1):
        total += sum(count_ngrams(text, n) for text in row_texts(example))
        advance(position)
    index = BloomIndex(total, false_positive_rate)
    exact = None if asked is None else ExactIndex()
    for position, example in enumerate(examples, start=len(examples) + 1):
        for text in row_texts(example):
            for ngram in ngrams(text, n):
                index.add(ngram)
                if exact is not None and asked is not None and ngram in asked:
                    exact.add(ngram)
        advance(position)
    return Searched(n, index, total, exact)


def find(examples: Sequence[Example], searched: Searched) -> list[RowFound]:
    """The n-grams of each row that the filter of a text has, in the order of the rows."""
    found = []
    for example in examples:
        own = [ngram for text in row_texts(example) for ngram in ngrams(text, searched.n)]
        hits = sum(ngram in searched.index for ngram in own)
        found.append(RowFound(example.row, len(own), hits))
    return found
