"""What the microworld's tasks yield to without understanding: chance, majority, a bag of words, copying.

A ceiling is exact where no input has two targets: there is no label noise anywhere in the microworld.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from mtl.tasks.microworld.draw import Row
from mtl.tasks.microworld.generation import TASKS, drawn_rows

CLOSED = {
    "sentiment": ("sentence",),
    "acceptability": ("sentence",),
    "entailment": ("premise", "hypothesis"),
    "similarity": ("sentence1", "sentence2"),
    "pronoun": ("sentence", "option1", "option2"),
}
"""Tasks with a given answer space, and the columns that a model reads."""


def bag_of_words(
    task: str, *, seed: int = 0, columns: tuple[str, ...] | None = None, ngrams: int = 1
) -> float:
    """Test score of a linear model on the words of each column, trained on all training rows.

    :param columns: What it may read; by default everything a model reads.
    :param ngrams: Longest run of words that counts as a feature.
    :returns: Accuracy, Matthews correlation (acceptability) or Pearson correlation (similarity).
    """
    from scipy.sparse import hstack
    from scipy.stats import pearsonr
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import matthews_corrcoef

    read = columns or CLOSED[task]
    target = TASKS[task].TARGET
    train, test = drawn_rows(task, "train", seed), drawn_rows(task, "test", seed)
    seen, new = [], []
    for column in read:
        vectorizer = CountVectorizer(
            binary=True, token_pattern=r"\w+", ngram_range=(1, ngrams), lowercase=True
        )
        seen.append(vectorizer.fit_transform([row[column] for row in train]))
        new.append(vectorizer.transform([row[column] for row in test]))
    model: Any = Ridge(alpha=1.0) if task == "similarity" else LogisticRegression(max_iter=300)
    model.fit(hstack(seen).tocsr(), [row[target] for row in train])
    predicted = model.predict(hstack(new).tocsr())
    truth = [row[target] for row in test]
    if task == "similarity":
        return float(pearsonr(predicted, truth)[0])
    if task == "acceptability":
        return float(matthews_corrcoef(truth, predicted))
    return float(sum(map(int, predicted == truth)) / len(truth))


def overlap(*, seed: int = 0) -> float:
    """Pearson correlation of the similarity score with the share of words two sentences have in common."""
    from scipy.stats import pearsonr

    shares, scores = [], []
    for row in drawn_rows("similarity", "test", seed):
        first, second = (set(_words(row[f"sentence{side}"])) for side in (1, 2))
        shares.append(len(first & second) / len(first | second))
        scores.append(row["score"])
    return float(pearsonr(shares, scores)[0])


def guessed_answers(*, seed: int = 0) -> float:
    """Exact match of the most frequent training answer to each kind of question."""
    common: dict[str, Counter[str]] = {}
    for row in drawn_rows("question_answering", "train", seed):
        common.setdefault(row["question"].split()[0], Counter())[row["answer"]] += 1
    test = drawn_rows("question_answering", "test", seed)
    right = [
        row["answer"] == common[row["question"].split()[0]].most_common(1)[0][0] for row in test
    ]
    return sum(right) / len(right)


def lead(*, sentence: int, seed: int = 0) -> float:
    """Mean ROUGE-L of one sentence of the passage (0 is the first) as its summary."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    scores = []
    for row in drawn_rows("summarisation", "test", seed):
        sentences = row["text"].split(". ")
        scores.append(scorer.score(row["summary"], sentences[sentence])["rougeL"].fmeasure)
    return sum(scores) / len(scores)


def contradictions(task: str, *, seed: int = 0) -> int:
    """Inputs that stand in the rows of any split with two different targets."""
    target = TASKS[task].TARGET
    hidden = {target, "phenomenon", "schema", "question_kind"}
    answers: dict[tuple[str, ...], set[str]] = {}
    for split in ("train", "validation", "test"):
        for row in drawn_rows(task, split, seed):
            key = tuple(str(value) for column, value in row.items() if column not in hidden)
            answers.setdefault(key, set()).add(str(row[target]))
    return sum(len(found) > 1 for found in answers.values())


def majority(task: str, *, seed: int = 0) -> float:
    """Share of the most frequent training target among the test rows."""
    target = TASKS[task].TARGET
    common = Counter(row[target] for row in drawn_rows(task, "train", seed)).most_common(1)[0][0]
    test = drawn_rows(task, "test", seed)
    return sum(row[target] == common for row in test) / len(test)


def mean_words(task: str, *, seed: int = 0) -> float:
    """Mean words of a training row as text, its answer included."""
    shown: list[Row] = list(drawn_rows(task, "train", seed))
    return sum(len("".join(TASKS[task].demonstrate(row)).split()) for row in shown) / len(shown)


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()
