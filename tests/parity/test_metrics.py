"""Every metric against an implementation we do not use, and every interval against a slow loop of the library."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU
from torchmetrics.functional import classification, regression
from torchmetrics.functional.text import rouge_score, squad

from mtl.scoring.intervals import draws
from mtl.scoring.metrics import METRICS
from mtl.tasks.task import Answer, Example

WORDS = [
    "a",
    "an",
    "the",
    "cat",
    "cats",
    "sat",
    "on",
    "mat,",
    "mats!",
    "running",
    "runner",
    "ran;",
    "red-hot",
    "Dog",
    "dog's",
    "7",
    "7.5",
    "of",
    "and",
]


def closed(answered, wanted) -> tuple[list[Answer], list[Example]]:
    return [Answer(value=value) for value in answered], [
        Example(row=f"validation:{i}", segments=(), prompt=(), target=value)
        for i, value in enumerate(wanted)
    ]


def opened(texts, references) -> tuple[list[Answer], list[Example]]:
    return [Answer(value=text) for text in texts], [
        Example(row=f"validation:{i}", segments=(), prompt=(), target=None, references=tuple(many))
        for i, many in enumerate(references)
    ]


def random_texts(random: np.random.Generator, rows: int) -> tuple[list[str], list[list[str]]]:
    texts = [" ".join(random.choice(WORDS, random.integers(0, 9))) for _ in range(rows)]
    references = []
    for text in texts:
        words = text.split() or ["cat"]
        kept = [word for word in words if random.random() < 0.8] or ["mat"]
        noise = " ".join(random.choice(WORDS, random.integers(1, 7)))
        references.append([" ".join(kept), noise][: random.integers(1, 3)])
    return texts, references


def random_case(name: str, random: np.random.Generator, rows: int):
    kind = METRICS[name].kinds[0]
    if kind == "classification":
        classes = 2 if name == "f1" else int(random.integers(2, 6))
        wanted = random.integers(classes, size=rows)
        answered = np.where(random.random(rows) < 0.5, wanted, random.integers(classes, size=rows))
        return closed(answered.tolist(), wanted.tolist())
    if kind == "regression":
        wanted = np.round(random.normal(3, 1, rows), 1)
        return closed((wanted + np.round(random.normal(0, 1, rows), 1)).tolist(), wanted.tolist())
    if kind == "generation":
        answers, examples = opened(*random_texts(random, rows))
        likely = zip(random.gamma(2, 2, rows), random.random(rows) < 0.3, strict=True)
        told = [
            replace(answer, target_nats=float(nats), target_greedy=bool(greedy))
            for answer, (nats, greedy) in zip(answers, likely, strict=True)
        ]
        return told, examples
    texts, references = random_texts(random, rows)
    answers = [
        Answer(value=float(nats), tokens=(int(count),))
        for nats, count in zip(random.gamma(3, 20, rows), random.integers(1, 40, rows), strict=True)
    ]
    return answers, opened(texts, references)[1]


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_running_text_equal_those_of_the_harness(seed):
    theirs = pytest.importorskip("lm_eval.api.metrics")
    answers, examples = random_case("bits_per_byte", np.random.default_rng(seed), 30)
    units = {
        "bits_per_byte": [len(example.references[0].encode()) for example in examples],
        "perplexity_per_word": [len(example.references[0].split()) for example in examples],
        "perplexity_per_token": [answer.tokens[0] for answer in answers],
    }
    for name, counts in units.items():
        # Pairs of a document's log-likelihood and its units.
        items = [(-answer.value, count) for answer, count in zip(answers, counts, strict=True)]
        reference = theirs.bits_per_byte if name == "bits_per_byte" else theirs.weighted_perplexity
        assert METRICS[name].value(answers, examples) == pytest.approx(reference(items), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classification_equals_torchmetrics(seed, classes):
    random = np.random.default_rng([seed, classes])
    wanted = random.integers(classes, size=173)
    answered = np.where(random.random(173) < 0.4, wanted, random.integers(classes - 1, size=173))
    case = closed(answered.tolist(), wanted.tolist())
    left, right = torch.tensor(answered), torch.tensor(wanted)
    several = {"num_classes": classes}
    theirs = {
        "accuracy": classification.multiclass_accuracy(left, right, average="micro", **several),
        "matthews": classification.multiclass_matthews_corrcoef(left, right, **several),
        "macro_f1": classification.multiclass_f1_score(left, right, average="macro", **several),
    }
    if classes == 2:
        theirs["f1"] = classification.binary_f1_score(left, right)
    for name, value in theirs.items():
        assert METRICS[name].value(*case) == pytest.approx(float(value), abs=1e-6), name


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_correlations_equal_torchmetrics(seed, decimals):
    random = np.random.default_rng([seed, decimals])
    wanted = np.round(random.uniform(0, 5, 140), decimals)
    answered = np.round(wanted + random.normal(0, 2, 140), decimals)
    case = closed(answered.tolist(), wanted.tolist())
    left, right = torch.tensor(answered), torch.tensor(wanted)
    for name, reference in (
        ("pearson", regression.pearson_corrcoef),
        ("spearman", regression.spearman_corrcoef),
    ):
        assert METRICS[name].value(*case) == pytest.approx(float(reference(left, right)), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_exact_match_and_token_f1_equal_torchmetrics_squad(seed):
    texts, references = random_texts(np.random.default_rng(seed), 60)
    # SQuAD 1.1, which torchmetrics follows, gives 0 where nothing is left of either side; 2.0 gives 1.
    texts = [f"{text} cat" for text in texts]
    case = opened(texts, references)
    theirs = squad(
        [{"prediction_text": text, "id": str(i)} for i, text in enumerate(texts)],
        [
            {"answers": {"answer_start": [0] * len(many), "text": many}, "id": str(i)}
            for i, many in enumerate(references)
        ],
    )
    exact = METRICS["exact_match"].value(*case)
    assert exact == pytest.approx(float(theirs["exact_match"]) / 100, abs=1e-6)
    assert METRICS["token_f1"].value(*case) == pytest.approx(float(theirs["f1"]) / 100, abs=1e-6)
    assert 0 < exact < 1


@pytest.mark.parametrize("seed", range(4))
def test_rouge_equals_torchmetrics(seed):
    texts, references = random_texts(np.random.default_rng(seed), 40)
    single = [many[0] for many in references]
    case = opened(texts, [[one] for one in single])
    keys = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    theirs = rouge_score(texts, single, use_stemmer=True, rouge_keys=tuple(keys.values()))
    for name, key in keys.items():
        ours = METRICS[name].value(*case)
        assert ours == pytest.approx(float(theirs[f"{key}_fmeasure"]), abs=1e-6), name
        assert 0 < ours < 1


@pytest.mark.parametrize("seed", range(4))
def test_bleu_equals_sacrebleu_on_the_corpus(seed):
    texts, references = random_texts(np.random.default_rng(seed), 50)
    columns = [[many[i] if i < len(many) else None for many in references] for i in range(2)]
    theirs = BLEU().corpus_score(texts, columns).score / 100
    assert METRICS["bleu"].value(*opened(texts, references)) == pytest.approx(theirs, abs=1e-12)
    assert 0 < theirs < 1


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("rows", [2, 3, 40])
def test_all_resamples_at_once_equal_the_library_on_each(name, rows):
    random = np.random.default_rng([rows, len(name)])
    answers, examples = random_case(name, random, rows)
    metric = METRICS[name]
    weights = draws(rows, 40, random)
    together = metric.resampled(metric.rows(answers, examples), weights)
    for drawn, value in zip(weights, together, strict=True):
        index = np.repeat(np.arange(rows), drawn.astype(int))
        one = metric.value([answers[i] for i in index], [examples[i] for i in index])
        assert value == pytest.approx(one, abs=1e-9, rel=1e-12)
    assert math.isfinite(together.sum())


def test_squad_normalisation_cases_of_the_published_script():
    case = opened(
        ["The  Eiffel-Tower!", "an apple a day", "the", "Denver Broncos won"],
        [["eiffeltower"], ["Apple day."], ["a"], ["Carolina", "the broncos"]],
    )
    assert METRICS["exact_match"].value(*case) == 3 / 4
    assert METRICS["token_f1"].value(*case) == pytest.approx((3 + 2 * 1 / (3 + 1)) / 4)
