"""What a score means: what random answers get, and what always giving the most frequent answer gets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mtl.scoring.metrics import METRICS
from mtl.tasks.task import Answer, Example, Split, Task

BITS_OF_A_BYTE = 8.0


def chance(task: Task, metric: str, split: Split | None = None) -> float:
    """Expected score of answers drawn uniformly from the answer space.

    accuracy: the mean of 1/K over rows, K the size of a row's answer space. F1: its exact expectation over
    random answers (see :func:`expected_f1`). Correlations: 0. Metrics of generated text: 0. Bits per
    byte: 8, a uniform guess over bytes.

    :param split: Whose rows; None for the rows that are reported.
    :raises ValueError: A perplexity: what a uniform guess gets depends on the vocabulary, or on the words.
    """
    examples = (split or task.report).examples
    if metric == "accuracy":
        return math.fsum(1 / answer_space(task, example) for example in examples) / len(examples)
    if metric == "f1":
        return expected_f1(sum(example.target == 1 for example in examples), len(examples), 0.5)
    if metric == "macro_f1":
        counts = Counter(example.target for example in examples)
        shares = [
            expected_f1(counts[index], len(examples), 1 / task.classes)
            for index in range(task.classes)
        ]
        return math.fsum(shares) / task.classes
    if not METRICS[metric].has_chance:
        raise ValueError(f"{metric} has no chance level")
    return BITS_OF_A_BYTE if metric == "bits_per_byte" else 0.0


def expected_f1(positives: int, rows: int, rate: float) -> float:
    """Expected F1 of a class with P of N rows, when every row is answered so with probability ``rate``.

    E[F1] = sum over t of Binomial(t; N, rate) * 2 (t P / N) / (P + t)

    - t is how many rows are answered so; given t, the expected hits are t P / N (hypergeometric mean).
    - A class without rows counts as 0. ``macro_f1`` leaves it out where it is never answered either,
      which for random answers has probability (1 - rate)**N and is neglected.
    """
    from scipy.stats import binom

    if positives == 0:
        return 0.0
    answered = np.arange(1, rows + 1)
    share = 2 * answered * positives / rows / (positives + answered)
    return float(binom.pmf(answered, rows, rate) @ share)


def majority(task: Task, metric: str, split: Split | None = None) -> float | None:
    """Score of always giving the training split's most frequent answer (for a score: its mean).

    None where nothing was trained on, for language modelling, where no single answer exists, and for what looks at
    likelihoods, which a constant has not. Ties
    fall to the lower class, or to the text that comes first in the alphabet.

    :param split: Whose rows; None for the rows that are reported.
    """
    if task.train is None or task.kind == "language_modelling" or METRICS[metric].of_target:
        return None
    examples = (split or task.report).examples
    constant = Answer(value=_most_frequent(task, task.train.examples))
    return METRICS[metric].value([constant] * len(examples), examples)


def answer_space(task: Task, example: Example) -> int:
    """How many answers a row of a closed task has."""
    return len(example.choices) or len(example.answers) or task.classes


def _most_frequent(task: Task, examples: Sequence[Example]) -> int | float | str:
    if task.kind == "generation":
        texts = Counter(example.references[0] for example in examples)
        return min(texts, key=lambda text: (-texts[text], text))
    targets = [example.target for example in examples if example.target is not None]
    if task.kind == "regression":
        return math.fsum(targets) / len(targets)
    counts = Counter(int(target) for target in targets)
    return min(counts, key=lambda index: (-counts[index], index))
