"""A task asked here and by lm-evaluation-harness: the same answers, hence the same scores, on the same folder."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mtl import evaluate
from mtl.config.schema import DecoderConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import save_pretrained

# The harness and the libraries it brings warn of themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = (
    *("the", "old", "man", "saw", "a", "small", "boat", "near", "harbour", "and"),
    *("dog", "barked", "at", "night", "it", "rained", "road", "wet"),
)
TASK = """
kind: multiple_choice
source: {folder: choices, train: null, report: test}
segments: ["{{ passage }}", "{{ question }}"]
prompt: ["{{ passage }}", "\\nQuestion: {{ question }}", "\\nAnswer:"]
target: "{{ right }}"
choices: options
description: "Choices that were made up"
"""


def sentence(chance: random.Random, low: int, high: int) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randrange(low, high)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random GPT-2 with its tokenizer, rows, and a task file that asks them."""
    place = tmp_path_factory.mktemp("harness")
    chance = random.Random(0)
    vocabulary = Vocabulary.train([sentence(chance, 20, 40) for _ in range(30)], 300)
    shape = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=256)
    decoder = Decoder(shape, vocabulary.size, seed=3)
    for parameter in decoder.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(6)
    save_pretrained(decoder, place / "model")
    vocabulary.save(place / "model")
    rows = [
        {
            "passage": sentence(chance, 10, 40),
            "question": sentence(chance, 3, 8),
            "options": [sentence(chance, 1, 6) for _ in range(4)],
            "right": index % 4,
        }
        for index in range(40)
    ]
    data = place / "choices"
    data.mkdir()
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = place / "mine" / "task"
    tasks.mkdir(parents=True)
    (tasks / "made_up.yaml").write_text(TASK)
    return place


def test_accuracy_and_its_normalised_form_are_the_harnesses(folder: Path) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    ours = evaluate.run(
        [
            f"hf={folder / 'model'}",
            "tasks=[made_up]",
            f"data.root={folder}",
            "start_token=false",
            "resamples=10",
        ],
        config_dir=str(folder / "mine"),
    )["made_up"]["metrics"]
    task = {
        "task": "made_up",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "choices" / "test.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{passage}}\nQuestion: {{question}}\nAnswer:",
        "doc_to_choice": "options",
        "doc_to_target": "right",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_norm")
        ],
    }
    model = HFLM(pretrained=str(folder / "model"), device="cpu", batch_size=8, dtype="float32")
    found = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, limit=None)
    theirs = found["results"]["made_up"]
    assert ours["accuracy"]["value"] == pytest.approx(theirs["acc,none"], abs=1e-9)
    assert ours["accuracy_by_character"]["value"] == pytest.approx(
        theirs["acc_norm,none"], abs=1e-9
    )
    assert ours["accuracy"]["value"] != ours["accuracy_by_character"]["value"]
