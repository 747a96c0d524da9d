"""The metrics' values, each by a maintained library, and the rows they are computed from.

Classification goes through scikit-learn, correlations through scipy, BLEU through sacrebleu: all in double precision.
The libraries are imported when a value is asked for, so that checking a config stays quick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.scoring import statistics, text
from mtl.tasks.task import Answer, Example

Array = NDArray[np.float64]


def classes(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows (N, 2): index answered, index wanted."""
    rows = np.array(
        [(answer.value, example.target) for answer, example in zip(answers, examples, strict=True)],
        dtype=np.float64,
    )
    wrong = np.flatnonzero((rows[:, 0] != np.rint(rows[:, 0])) | ~(rows[:, 0] >= 0))
    if wrong.size:
        first = wrong[0]
        raise ValueError(f"row {examples[first].row}: {answers[first].value!r} is not an index")
    return rows


def scores(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows (N, 2): score answered, score wanted."""
    rows = np.array(
        [(answer.value, example.target) for answer, example in zip(answers, examples, strict=True)],
        dtype=np.float64,
    )
    _check_finite(rows, examples)
    return rows


def nats_and_bytes(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows (N, 2): total nats of a document, and the UTF-8 bytes of it as it stands in its source."""
    return _nats_and(
        [len(_in_source(example).encode("utf-8")) for example in examples], answers, examples
    )


def nats_and_words(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows (N, 2): total nats of a document, and the words of it between white space as it stands in its source."""
    return _nats_and([len(_in_source(example).split()) for example in examples], answers, examples)


def nats_and_tokens(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows (N, 2): total nats of a document, and the tokens that were predicted of it, its end token among them."""
    for answer, example in zip(answers, examples, strict=True):
        if not answer.tokens:
            raise ValueError(f"row {example.row}: nobody counted the tokens of the document")
    return _nats_and([answer.tokens[0] for answer in answers], answers, examples)


def loss_nats_per_token(answers: Sequence[Answer]) -> float:
    """Mean loss of running text: nats of all documents over all tokens that were predicted.

    :param answers: Of documents, at least one, each with its number of tokens.
    """
    return math.fsum(float(a.value) for a in answers) / sum(a.tokens[0] for a in answers)


def _in_source(example: Example) -> str:
    """A document before its tokenisation was undone: what units are counted in."""
    return example.original or example.references[0]


def _nats_and(
    units: Sequence[int], answers: Sequence[Answer], examples: Sequence[Example]
) -> Array:
    rows = np.array(
        [(answer.value, count) for answer, count in zip(answers, units, strict=True)],
        dtype=np.float64,
    )
    _check_finite(rows, examples)
    empty = np.flatnonzero(rows[:, 1] == 0)
    if empty.size:
        raise ValueError(f"row {examples[empty[0]].row}: the document is empty")
    return rows


def target_greedy(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows (N, 1): whether each token of the wanted answer is the likeliest one."""
    rows = [(_asked(answer.target_greedy, e),) for answer, e in zip(answers, examples, strict=True)]
    return np.array(rows, dtype=np.float64)


def target_nats(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows (N, 2): negative log-likelihood of the wanted answer in nats, and 1: an answer is one unit."""
    rows = [
        (_asked(answer.target_nats, e), 1.0) for answer, e in zip(answers, examples, strict=True)
    ]
    found = np.array(rows, dtype=np.float64)
    _check_finite(found, examples)
    return found


def _asked(value: float | bool | None, example: Example) -> float:
    if value is None:
        raise ValueError(f"row {example.row}: the likelihood of the answer was not asked for")
    return float(value)


def _check_finite(rows: Array, examples: Sequence[Example]) -> None:
    wrong = np.flatnonzero(~np.isfinite(rows[:, 0]))
    if wrong.size:
        score = rows[wrong[0], 0]
        raise ValueError(f"row {examples[wrong[0]].row}: the score {score} is not finite")


def mean(rows: Array) -> float:
    """Mean of one number per row; rows (N, 1)."""
    # fsum is exact, so the order of the rows cannot show in the last digit.
    return math.fsum(rows[:, 0]) / len(rows)


def accuracy(rows: Array) -> float:
    """Share of rows whose answer is the target; rows (N, 2) of answer and target."""
    return float(np.mean(rows[:, 0] == rows[:, 1]))


def matthews(rows: Array) -> float:
    """Matthews correlation; rows (N, 2). 0 where a side is constant."""
    from sklearn.metrics import matthews_corrcoef

    if _constant(rows):
        return 0.0
    return float(matthews_corrcoef(rows[:, 1].astype(int), rows[:, 0].astype(int)))


def f1(rows: Array) -> float:
    """F1 of class 1; rows (N, 2). 0 where class 1 is neither answered nor wanted."""
    from sklearn.metrics import f1_score

    wanted, answered = rows[:, 1] == 1, rows[:, 0] == 1
    return float(f1_score(wanted, answered, pos_label=True, zero_division=0.0))


def macro_f1(rows: Array) -> float:
    """Mean F1 over the classes that are answered or wanted at least once; rows (N, 2)."""
    from sklearn.metrics import f1_score

    wanted, answered = rows[:, 1].astype(int), rows[:, 0].astype(int)
    return float(f1_score(wanted, answered, average="macro", zero_division=0.0))


def pearson(rows: Array) -> float:
    """Pearson correlation; rows (N, 2). 0 where a side is constant."""
    from scipy.stats import pearsonr

    if _constant(rows):
        return 0.0
    return float(pearsonr(_scaled(rows[:, 0]), _scaled(rows[:, 1])).statistic)


def spearman(rows: Array) -> float:
    """Spearman correlation, ties by their mean rank; rows (N, 2). 0 where a side is constant."""
    from scipy.stats import spearmanr

    return 0.0 if _constant(rows) else float(spearmanr(rows[:, 0], rows[:, 1]).statistic)


def _constant(rows: Array) -> bool:
    spread = rows.max(axis=0) - rows.min(axis=0)
    return bool((spread <= statistics.NEGLIGIBLE * np.abs(rows).max(axis=0)).any())


def _scaled(values: Array) -> Array:
    """Shift and stretch that leave a correlation alone; small spreads do not warn then."""
    centred = values - values.mean()
    return np.asarray(centred / np.abs(centred).max())


def bleu(rows: Array) -> float:
    """Corpus BLEU in 0..1; rows (N, 10) of sufficient statistics."""
    return float(text.bleu_of_totals(rows.sum(axis=0, keepdims=True))[0])


def bits_per_byte(rows: Array) -> float:
    """Bits per UTF-8 byte of the whole text; rows (N, 2) of nats and bytes."""
    return math.fsum(rows[:, 0]) / math.log(2) / math.fsum(rows[:, 1])


def perplexity(rows: Array) -> float:
    """exp of the nats per unit of the whole text; rows (N, 2) of nats and units."""
    return math.exp(min(math.fsum(rows[:, 0]) / math.fsum(rows[:, 1]), statistics.LARGEST_EXPONENT))
