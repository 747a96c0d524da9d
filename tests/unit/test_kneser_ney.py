"""The n-gram baseline: a distribution, that of the textbook, and that of nltk where the definitions coincide."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.errors import UserError

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
VOCABULARY, BOUNDARY = 5, 4
TOKENS = st.lists(st.integers(0, BOUNDARY - 1), max_size=30)
TOY = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a cat and a dog",
    "on the mat the cat sat",
]


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up there
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)  # as for a script that is run
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kneser_ney() -> ModuleType:
    return loaded("_kneser_ney")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return loaded("kneser_ney")


@settings(max_examples=60)
@given(st.lists(TOKENS, min_size=1, max_size=6), st.integers(1, 4))
def test_probabilities_sum_to_one_in_every_context(
    kneser_ney: ModuleType, documents: list[list[int]], order: int
) -> None:
    model = kneser_ney.KneserNey(documents, VOCABULARY, boundary=BOUNDARY, order=order)
    windows = np.array(list(itertools.product(range(VOCABULARY), repeat=order)))
    found = model.probabilities(windows).reshape(-1, VOCABULARY)
    assert (found > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)


def test_against_nltk(kneser_ney: ModuleType) -> None:
    """One discount for all counts and none for unigrams is what nltk computes, on the same n-grams."""
    lm = pytest.importorskip("nltk.lm")
    words = sorted({word for text in TOY for word in text.split()})
    ids = {word: index for index, word in enumerate([*words, "</s>"])}
    boundary = len(words)
    documents = [[ids[word] for word in text.split()] for text in TOY]
    padded = [[boundary, boundary, *document, boundary] for document in documents]
    # An n-gram below the highest order counts only where something stands before it.
    counted = [
        [tuple(map(str, sequence[place - length + 1 : place + 1])) for length in (1, 2, 3)]
        for sequence in padded
        for place in range(2, len(sequence))
    ]
    theirs = lm.KneserNeyInterpolated(3, discount=0.6)
    theirs.fit(counted, vocabulary_text=[str(index) for index in ids.values()])
    discounts = np.array([[0.0] * 3, [0.6] * 3, [0.6] * 3])
    ours = kneser_ney.KneserNey(documents, len(ids), boundary=boundary, discounts=discounts)
    contexts = {tuple(s[i - 2 : i]) for s in padded for i in range(2, len(s))}
    for context in contexts:
        windows = np.array([[*context, word] for word in range(len(ids))])
        expected = [theirs.score(str(word), tuple(map(str, context))) for word in range(len(ids))]
        np.testing.assert_allclose(ours.probabilities(windows), expected, atol=1e-12)


def test_discounts_of_known_counts(kneser_ney: ModuleType) -> None:
    """10 n-grams seen once, 5 twice, 3 three times, 2 four times: Y = 1/2."""
    counts = np.array([1] * 10 + [2] * 5 + [3] * 3 + [4] * 2 + [9])
    expected = [1 - 2 * 0.5 * 5 / 10, 2 - 3 * 0.5 * 3 / 5, 3 - 4 * 0.5 * 2 / 3]
    np.testing.assert_allclose(kneser_ney.estimated_discounts(counts), expected)
    assert kneser_ney.estimated_discounts(np.array([5, 7])).tolist() == [0.5, 0.5, 0.5]


def test_bigram_by_hand(kneser_ney: ModuleType) -> None:
    """Document 0 1 0 2, boundary 3: after 0 come 1 and 2, and 0 is preceded by the boundary and by 1."""
    discounts = np.array([[0.25] * 3, [0.5] * 3])
    model = kneser_ney.KneserNey([[0, 1, 0, 2]], 4, boundary=3, order=2, discounts=discounts)
    # 5 distinct bigrams: 3 0, 0 1, 1 0, 0 2, 2 3; four kinds of token are discounted by a quarter, given to all alike.
    unigram = [(n - 0.25) / 5 + (4 * 0.25 / 5) / 4 for n in (2, 1, 1, 1)]
    after_zero = [
        (c - 0.5 if c else 0) / 2 + (2 * 0.5 / 2) * p
        for c, p in zip((0, 1, 1, 0), unigram, strict=True)
    ]
    windows = np.array([[0, word] for word in range(4)])
    np.testing.assert_allclose(model.probabilities(windows), after_zero)
    nats = model.nats([0, 1])
    assert len(nats) == 3
    assert nats[1] == pytest.approx(-math.log(after_zero[1]))


def test_refuses_what_it_cannot_count(kneser_ney: ModuleType) -> None:
    with pytest.raises(ValueError, match="no documents"):
        kneser_ney.KneserNey([], 4, boundary=3)
    with pytest.raises(ValueError, match="63-bit"):
        kneser_ney.KneserNey([[1]], 1 << 22, boundary=3)


def test_prints_both_models_on_the_same_bytes(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "ptb"
    folder.mkdir(parents=True)
    lines = [f" the {'old ' * (i % 5)}dog sat on the mat \n" for i in range(320)]
    (folder / "train.txt").write_text("".join(lines))
    (folder / "validation.txt").write_text("".join(lines[:130]))
    options = [
        f"root={tmp_path / 'data'}",
        f"runs={tmp_path / 'runs'}",
        "tokens=3000",
        "with=decoder.context=48",
    ]
    benchmark.main(["texts=ptb", *options, "orders=2,3", "resamples=20", "also=ptb"])
    title, heading, *rows = capsys.readouterr().out.splitlines()[-9:]
    # The same text once more, scored anew.
    again = [row.removeprefix("ptb: ").split("  ", 1)[1].split()[:5] for row in rows[4:]]
    assert again == [rows[i].split("  ", 1)[1].split()[:5] for i in (0, 2, 3)]
    rows = rows[:4]
    assert title.startswith("ptb: 4 documents of 0.01 MB")
    assert title.endswith(f"3 held-out documents of {sum(map(len, lines[:130])):,} bytes")
    assert heading.split()[:3] == ["bits", "per", "byte"]
    assert [row.split(",")[0] for row in rows] == ["decoder", "decoder", "Kneser-Ney", "Kneser-Ney"]
    config = (tmp_path / "runs/ptb/config.yaml").read_text()
    assert "context: 48" in config
    assert "tokens: 3000" in config
    # Five lines that repeat are learnt by counting; a decoder of two steps knows nothing.
    decoder, trigrams = (float(rows[i][38:].split()[0]) for i in (0, 3))
    assert trigrams < 0.5 < decoder
    assert float(rows[3].split("  ")[-1].split()[0]) == pytest.approx(trigrams - decoder, abs=2e-3)


def test_names_the_nearest_text(benchmark: ModuleType) -> None:
    with pytest.raises(UserError, match="did you mean: gutenberg"):
        benchmark.main(["texts=gutenburg"])
