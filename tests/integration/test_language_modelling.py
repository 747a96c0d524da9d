"""Running text from files to the record: units, names, and the two losses in one unit."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from mtl import fit
from mtl.assembly import encode_split, restore
from mtl.config.schema import DataConfig
from mtl.learning.evaluation import answer_split
from mtl.record.run import Run
from mtl.scoring.values import loss_nats_per_token
from mtl.tasks.corpus import load_corpus

NAMES = [
    f"{name}_disjoint" for name in ("bits_per_byte", "perplexity_per_word", "perplexity_per_token")
]


def write_text(folder: Path) -> None:
    """Sentences as Penn Treebank writes them; documents are blocks of 64 lines, the last one is shorter."""
    words = ["the", "board", "did", "n't", "pay", "$", "N", "<unk>", "&", "co.", "'s", "dealers"]
    random.seed(4)
    folder.mkdir(parents=True)
    for split, count in (("train", 300), ("validation", 150)):
        lines = [
            f" {' '.join(random.choices(words, k=random.randint(2, 14)))} \n" for _ in range(count)
        ]
        (folder / f"{split}.txt").write_text("".join(lines))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One pass over the text at a step size that moves nothing, so that the loss of all steps is one model's."""
    root = tmp_path_factory.mktemp("language_modelling")
    write_text(root / "data" / "ptb")
    return fit.run(
        [
            "strategy=zero_shot",
            "corpus=ptb",
            "tasks=[ptb,ptb_detokenised]",
            "decoder=micro",
            "decoder.context=48",
            "tokenizer.vocabulary=300",
            "trainer=cpu",
            "budget.tokens=null",
            "budget.epochs=1",
            "batch.tokens=512",
            "optimizer.learning_rate=1e-30",
            "evaluation.times=1",
            "evaluation.resamples=50",
            "record.every=10000",
            "record.mlflow=false",
            f"data.root={root / 'data'}",
            f"run_dir={root / 'run'}",
        ]
    )


def test_scores_are_named_by_unit_and_windows_and_per_unit_of_the_source(run: Run) -> None:
    tasks = run.summary["tasks"]
    source = (run.path.parent / "data/ptb/validation.txt").read_text()
    for name in ("ptb", "ptb_detokenised"):
        task = tasks[name]
        assert list(task["metrics"]) == NAMES
        assert task["primary"] == "bits_per_byte_disjoint"
        assert (task["chance"], task["lower_is_better"]) == (8.0, NAMES)
        assert "documents in disjoint windows of at most 48 tokens" in task["notes"]
        nats = sum(run.predictions(name)["prediction"])
        bits, words, _ = (task["metrics"][metric]["value"] for metric in NAMES)
        # The source's own units, whatever was read.
        assert bits == pytest.approx(nats / math.log(2) / len(source.encode()))
        assert words == pytest.approx(math.exp(nats / len(source.split())))
    first, second = (run.predictions(name)["prediction"].tolist() for name in tasks)
    assert first != second
    text = str(run)
    assert f"{', '.join(NAMES)}: lower is better" in text


def test_training_and_held_out_loss_are_nats_per_token(run: Run) -> None:
    logged = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    (trained,) = [entry["ptb/loss"] for entry in logged if "ptb/loss" in entry]
    (selected,) = [entry for entry in logged if "ptb/selection_loss_nats_per_token" in entry]
    held_out = selected["ptb/selection_loss_nats_per_token"]
    per_token = selected["ptb/selection_perplexity_per_token_disjoint"]
    assert held_out == pytest.approx(math.log(per_token))

    config, model = restore(run.path, run.folder.last_checkpoint)
    data = DataConfig(root=config.data.root)
    corpus = load_corpus(config.corpus, (), data, seed=config.seed)
    assert corpus.train is not None
    store = encode_split(model, corpus, corpus.train, "train", data)
    answers = answer_split(model, corpus, store, batch_tokens=512)
    assert trained == pytest.approx(loss_nats_per_token(answers), abs=2e-6)
    # The end token is predicted too, and chunks are of unequal length: no other mean is this one.
    assert sum(answer.tokens[0] for answer in answers) == store.label_counts.sum()
    assert min(store.lengths) < max(store.lengths) == 48


def test_the_picture_shows_both_losses(run: Run, tmp_path: Path) -> None:
    from mtl.record.curves import draw_curves

    text = draw_curves(run.folder, path=tmp_path / "curves.svg").read_text()  # type: ignore[union-attr]
    for shown in ("training", "held out", "loss (nats per token)"):
        assert f"<!-- {shown} -->" in text
