"""Scores of one open answer against its references: the rows behind exact match, token F1, ROUGE and BLEU."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.tasks.task import Answer, Example

Rows = NDArray[np.float64]

STEMS = 2**16
"""Words whose stem is remembered."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Text as SQuAD 1.1 compares it: lower case, without ASCII punctuation, articles and runs of blanks.

    It is the published English rule and is used for every language, so that scores stay comparable.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """1.0 where answer and reference are the same after :func:`normalise`, else 0.0."""
    return float(normalise(answer) == normalise(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the normalised words, as bags; in 0..1.

    Where nothing is left of either side after :func:`normalise`, it is their equality (SQuAD 2.0).
    """
    answered, wanted = normalise(answer).split(), normalise(reference).split()
    if not answered or not wanted:
        return float(answered == wanted)
    common = sum((Counter(answered) & Counter(wanted)).values())
    return 2 * common / (len(answered) + len(wanted))


def best_of_references(
    score: Callable[[str, str], float],
) -> Callable[[Sequence[Answer], Sequence[Example]], Rows]:
    """Rows (N, 1) of ``score``, each the best over the references of its example."""

    def rows(answers: Sequence[Answer], examples: Sequence[Example]) -> Rows:
        best = [max(score(text, one) for one in many) for text, many in _pairs(answers, examples)]
        return np.array(best, dtype=np.float64)[:, None]

    return rows


def rouge(variant: str) -> Callable[[Sequence[Answer], Sequence[Example]], Rows]:
    """Rows (N, 1) of a ROUGE F-measure (Lin 2004) by the rouge-score package, best over references.

    Words are stemmed (Porter). The package keeps only ASCII letters and digits as words, so a text in
    another script scores 0.

    :param variant: ``rouge1``, ``rouge2`` or ``rougeL`` (longest common subsequence of the whole text).
    """

    def rows(answers: Sequence[Answer], examples: Sequence[Example]) -> Rows:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([variant], tokenizer=_stemming_tokenizer())
        best = [
            scorer.score_multi(many, text)[variant].fmeasure
            for text, many in _pairs(answers, examples)
        ]
        return np.array(best, dtype=np.float64)[:, None]

    return rows


@cache
def _stemming_tokenizer() -> Any:
    """The package's own with ``use_stemmer``, which remembers stems: they are most of the time of ROUGE."""
    from nltk.stem.porter import PorterStemmer
    from rouge_score.tokenize import tokenize
    from rouge_score.tokenizers import Tokenizer

    class Stemmer:
        stem = staticmethod(lru_cache(STEMS)(PorterStemmer().stem))

    class Stemming(Tokenizer):
        def tokenize(self, text: str) -> list[str]:
            words: list[str] = tokenize(text, Stemmer)
            return words

    return Stemming()


BLEU_ORDER = 4


def bleu_statistics(answers: Sequence[Answer], examples: Sequence[Example]) -> Rows:
    """Sufficient statistics (N, 10) of corpus BLEU: matches and totals of 1- to 4-grams, then both lengths.

    Tokens are sacrebleu's default (``13a``); matches are clipped over all references and the reference
    length is the closest one.
    """
    from sacrebleu.metrics import BLEU

    # The effective order changes the score of a sentence, never its counts, and spares a warning on
    # standard error for each row.
    scorer = BLEU(max_ngram_order=BLEU_ORDER, effective_order=True)
    rows = []
    for text, references in _pairs(answers, examples):
        scored = scorer.sentence_score(text, references)
        rows.append([*scored.counts, *scored.totals, scored.sys_len, scored.ref_len])
    return np.array(rows, dtype=np.float64)


def bleu_of_totals(totals: Rows) -> Rows:
    """Corpus BLEU (R,) in 0..1 from summed statistics (R, 10), smoothed as sacrebleu does (``exp``)."""
    from sacrebleu.metrics import BLEU

    scores = []
    for row in np.rint(totals).astype(np.int64).tolist():
        scored = BLEU.compute_bleu(
            correct=row[:BLEU_ORDER],
            total=row[BLEU_ORDER : 2 * BLEU_ORDER],
            sys_len=row[-2],
            ref_len=row[-1],
            smooth_method="exp",
            max_ngram_order=BLEU_ORDER,
        )
        scores.append(scored.score / 100)
    # exp(mean(log 100)) is 100.00000000000004, and a share must not exceed 1.
    return np.minimum(np.array(scores, dtype=np.float64), 1.0)


def _pairs(
    answers: Sequence[Answer], examples: Sequence[Example]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for answer, example in zip(answers, examples, strict=True):
        if not isinstance(answer.value, str):
            raise ValueError(f"row {example.row}: the answer {answer.value!r} is not a text")
        if not example.references:
            raise ValueError(f"row {example.row}: no reference to score the answer against")
        yield answer.value, example.references
