"""The classical baseline that keeps a decoder honest: word counts and a linear model, on the same rows.

Features (all tasks): TF-IDF with sublinear counts over words and pairs of neighbouring words, lower case,
punctuation kept as words. Every segment of a row has a vocabulary of its own, so a word on the left is not the
same feature as on the right; a choice counts as one more segment. Every two segments add five overlap
features: the share of each one's distinct words that the other has, the share common to both, the
cosine of their counts, and the difference of their lengths.

Models: logistic regression for classes; the same on (row, choice) pairs, right or wrong, for multiple choice;
ridge regression for scores. The strength of the regularisation is the best of four on the selection split.
No random numbers are used anywhere.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mtl.scoring.metrics import METRICS
from mtl.scoring.score import TaskScore, score_task
from mtl.tasks.task import Answer, Example, Task

WORD = r"\w+|[^\w\s]"
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Values tried of logistic regression's C, and of 1 / alpha of the ridge."""


def bag_of_words(task: Task, *, resamples: int = 1000) -> TaskScore | None:
    """Train the baseline on the task's training rows and score it on the rows that are reported.

    :returns: None for open tasks, and for a task that is only evaluated.
    """
    if task.is_open or task.train is None:
        return None
    train = task.train.examples
    features = _Features(_texts(task, train))
    seen = features(_texts(task, train))
    report = features(_texts(task, task.report.examples))
    if task.selection is None:
        models = [_model(task, 1.0, seen, train)]
        best = models[0]
    else:
        primary = METRICS[task.config.metrics[0]]
        chosen = features(_texts(task, task.selection.examples))
        models = [_model(task, strength, seen, train) for strength in STRENGTHS]
        values = [
            primary.value(
                _answers(task, model, chosen, task.selection.examples), task.selection.examples
            )
            for model in models
        ]
        best = models[values.index(max(values))]
    answers = _answers(task, best, report, task.report.examples)
    return score_task(task, task.report, answers, resamples=resamples)


def _texts(task: Task, examples: Sequence[Example]) -> list[tuple[str, ...]]:
    """The segments of each row, or of each (row, choice) pair."""
    if task.kind != "multiple_choice":
        return [example.segments for example in examples]
    return [(*example.segments, choice) for example in examples for choice in example.choices]


class _Features:
    """Segments of M rows to a sparse matrix (M, features), with the vocabulary of the training rows."""

    def __init__(self, rows: Sequence[tuple[str, ...]]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.sides = [
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD).fit(side)
            for side in zip(*rows, strict=True)
        ]

    def __call__(self, rows: Sequence[tuple[str, ...]]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        blocks = [
            vectoriser.transform(side)
            for vectoriser, side in zip(self.sides, zip(*rows, strict=True), strict=True)
        ]
        if len(self.sides) > 1:
            blocks.append(csr_matrix([_overlaps(row) for row in rows]))
        return hstack(blocks, format="csr")


def _overlaps(row: tuple[str, ...]) -> list[float]:
    bags = [Counter(re.findall(WORD, text.lower())) for text in row]
    return [number for left, right in combinations(bags, 2) for number in _overlap(left, right)]


def _overlap(left: Counter[str], right: Counter[str]) -> list[float]:
    common = len(left.keys() & right.keys())
    product = sum(count * right[word] for word, count in left.items())
    norms = math.sqrt(sum(n * n for n in left.values()) * sum(n * n for n in right.values()))
    return [
        common / max(1, len(left)),
        common / max(1, len(right)),
        common / max(1, len(left.keys() | right.keys())),
        product / norms if norms else 0.0,
        math.log((1 + left.total()) / (1 + right.total())),
    ]


def _model(task: Task, strength: float, features: Any, examples: Sequence[Example]) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression, Ridge

    targets = [example.target for example in examples]
    if task.kind == "regression":
        # The sparse solver is conjugate gradients with a fixed start.
        return Ridge(alpha=1 / strength, solver="sparse_cg", tol=1e-6).fit(features, targets)
    if task.kind == "multiple_choice":
        targets = [
            int(position == example.target)
            for example in examples
            for position in range(len(example.choices))
        ]
    if len(set(targets)) == 1:
        return DummyClassifier().fit(features, targets)
    return LogisticRegression(C=strength, max_iter=5000).fit(features, targets)


def _answers(task: Task, model: Any, features: Any, examples: Sequence[Example]) -> list[Answer]:
    if task.kind == "regression":
        return [Answer(value=float(score)) for score in model.predict(features)]
    likely = model.predict_proba(features)
    if task.kind == "multiple_choice":
        right = likely[:, list(model.classes_).index(1)] if 1 in model.classes_ else likely[:, 0]
        ends = np.cumsum([len(example.choices) for example in examples])[:-1]
        return [Answer(value=int(np.argmax(scores))) for scores in np.split(right, ends)]
    return [Answer(value=int(model.classes_[index])) for index in likely.argmax(axis=1)]
