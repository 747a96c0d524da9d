"""Every zero-shot protocol as its task file says it, on the rows it is for."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from mtl.config.compose import compose
from mtl.config.schema import DataConfig, DecoderConfig
from mtl.config.verb_schema import EvaluateConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.scoring.asking import Asking, ask
from mtl.scoring.metrics import check_metrics
from mtl.scoring.score import score_task
from mtl.tasks.loading import load_task
from mtl.tasks.task import Split, Task

ROWS = 6
REAL = (
    *("lambada", "lambada_last_token", "lambada_without_stop_words"),
    *("wsc273", "wsc273_partial"),
    *("definite_pronoun_resolution_full", "definite_pronoun_resolution_gpt1"),
    *("cola_gpt1", "sst2_gpt1", "mctest_gpt1", "dream_gpt1"),
    *("mctest", "dream", "copa", "xquad_en_coqa", "xquad_en_closed_book"),
    *("cnn_dailymail_gpt2", "cnn_dailymail_gpt2_no_hint"),
    *("dialogsum_gpt2", "dialogsum_gpt2_no_hint", "scitldr_gpt2", "scitldr_gpt2_no_hint"),
    *("multi30k_gpt2", "multi30k_en_fr_gpt2", "multi30k_fr_en_gpt2"),
)
OTHERS = ["cbt_common_nouns", "cbt_named_entities", "coqa", "natural_questions"]


@cache
def load(name: str, root: Path) -> Task:
    config = compose("evaluate", EvaluateConfig, ["hf=x", f"tasks=[{name}]"]).task[name]
    check_metrics(config)
    return load_task(config, DataConfig(root=str(root)), seed=0)


def first(task: Task, rows: int = ROWS) -> Split:
    return replace(task.report, examples=task.report.examples[:rows])


@pytest.fixture(scope="module")
def model() -> tuple[Decoder, Vocabulary]:
    vocabulary = Vocabulary.train(["a b c the of and . , ? !"] * 3, 280)
    shape = DecoderConfig(name="micro", layers=1, width=16, heads=2, context=512)
    return Decoder(shape, vocabulary.size).eval(), vocabulary


@pytest.mark.parametrize("name", REAL)
def test_a_protocol_scores_its_real_rows(name, data_root, model) -> None:
    task = load(name, data_root)
    split = first(task)
    asked = ask(*model, task, split, Asking(), decode=True)
    score = score_task(task, split, asked.answers, resamples=10)
    assert score.rows == ROWS
    assert set(task.config.metrics) <= set(score.metrics)
    shown = [note for note in asked.notes if note.startswith("few-shot")]
    assert len(shown) == bool(task.config.protocol.context_examples)


def test_partial_and_full_scoring_of_a_winograd_schema(data_root) -> None:
    full, partial = (load(name, data_root).report.examples for name in ("wsc273", "wsc273_partial"))
    for whole, part in zip(full, partial, strict=True):
        assert part.prompt == whole.prompt
        assert part.target == whole.target
        assert part.answers[0] == part.answers[1]
        assert part.given[0] != part.given[1]
        for given, rest, sentence in zip(part.given, part.answers, whole.answers, strict=True):
            assert given + rest == sentence.replace(" .", ".")
    assert partial[2].prompt == ("The trophy doesn't fit into the brown suitcase because",)
    assert (partial[2].given, partial[2].answers[0]) == (
        (" the suitcase", " the trophy"),
        " is too large.",
    )


def test_a_referent_in_place_of_its_pronoun(data_root) -> None:
    by_rule = load("definite_pronoun_resolution_gpt1", data_root)
    full = load("definite_pronoun_resolution_full", data_root)
    example, whole = by_rule.report.examples[0], full.report.examples[0]
    assert example.prompt == ("The sniper shot the terrorist because",)
    assert example.given == (" the sniper", " the terrorist")
    assert set(example.answers) == {" was a bad guy."}
    assert whole.answers == (" the sniper was a bad guy.", " the terrorist was a bad guy.")
    assert by_rule.config.protocol.rank_by == "token"
    for task in (by_rule, full):
        assert task.train is not None
        for one in (*task.report.examples, *task.train.examples):
            assert len(one.answers) == 2
            assert one.target in (0, 1)


def test_the_hint_is_all_that_two_protocols_of_summarisation_differ_in(data_root) -> None:
    for name in ("cnn_dailymail", "dialogsum", "scitldr"):
        with_hint, without = (load(f"{name}_gpt2{end}", data_root) for end in ("", "_no_hint"))
        protocol = with_hint.config.protocol
        assert protocol == without.config.protocol
        assert (protocol.decoding.top_k, protocol.decoding.sentences) == (2, 3)
        assert with_hint.config.max_answer_tokens == 100
        for one, other in zip(with_hint.report.examples, without.report.examples, strict=True):
            assert "".join(one.prompt) == "".join(other.prompt) + "\nTL;DR:"


def test_the_three_variants_of_lambada(data_root, model) -> None:
    whole, last, filtered = (
        ask(*model, task, first(task, 40), Asking()).answers
        for task in (load(name, data_root) for name in REAL[:3])
    )
    pairs = list(zip(whole, last, filtered, strict=True))
    assert all(b.target_nats <= a.target_nats + 1e-5 for a, b, _ in pairs)
    assert any(b.target_nats < a.target_nats - 1 for a, b, _ in pairs)
    assert all(c.target_nats == pytest.approx(a.target_nats, abs=1e-5) for a, _, c in pairs)


def test_example_pairs_of_a_translation_stand_before_the_row(data_root) -> None:
    task = load("multi30k_gpt2", data_root)
    example = task.report.examples[0]
    assert example.prompt[0].endswith(" =")
    assert task.config.protocol.context_examples == 4
    assert task.config.protocol.separator == "\n"


def test_protocols_whose_data_is_on_the_hub_alone(tmp_path, model) -> None:
    """Rows with the hub's columns, made up."""
    cloze = {
        "sentences": ["A fox lived in a wood .", "`` I am hungry , '' said the fox ."],
        "question": "So the XXXXX went out to look for food .",
        "answer": "fox",
        "options": ["wood", "fox", "food", "day", "bird", "king", "tree", "road", "sea", "hat"],
    }
    talk = {
        "story": "Ann has a cat. It is grey.",
        "questions": ["Who has a cat?", "What colour is it?"],
        "answers": {"input_text": ["Ann", "grey"]},
    }
    facts = [{"question": f"who is number {n}", "answer": [f"Bob {n}", "Rob"]} for n in range(12)]
    write(tmp_path / "cbt_common_nouns", validation=[cloze])
    write(tmp_path / "cbt_named_entities", validation=[cloze])
    write(tmp_path / "coqa", train=[talk] * 3, validation=[talk])
    write(tmp_path / "natural_questions", train=facts, validation=facts[:2])
    tasks = {name: load(name, tmp_path) for name in OTHERS}
    for task in tasks.values():
        asked = ask(*model, task, task.report, Asking())
        assert len(asked.answers) == len(task.report.examples)
    nouns = tasks["cbt_common_nouns"].report.examples[0]
    assert nouns.target == 1
    assert len(nouns.answers) == 10
    assert nouns.answers[1] == " fox went out to look for food."
    assert nouns.prompt[-1] == " So the"
    assert "".join(tasks["coqa"].report.examples[0].prompt) == (
        "Ann has a cat. It is grey.\n\nQ: Who has a cat?\nA: Ann\nQ: What colour is it?\nA:"
    )


def write(folder: Path, **splits: list[dict]) -> None:
    folder.mkdir()
    for split, rows in splits.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
