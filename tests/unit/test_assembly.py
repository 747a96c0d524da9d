"""The parts of a run from its config: which rows, which vocabulary, which cache."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

from mtl import assembly
from mtl.config.compose import compose
from mtl.config.errors import CombinedUserError, UserError
from mtl.config.schema import FitConfig
from mtl.data.store import EncodedSplit
from mtl.starting import Start, base_decoder, starting_point


@pytest.fixture(autouse=True)
def _data(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(moods.build(tmp_path))


def configured(*overrides):
    chosen = [*moods.SMALL, "tasks=[moods,pairs]", "budget.steps=1", *overrides]
    return compose("fit", FitConfig, chosen, config_dir="mine")


def loaded(config):
    return assembly.load_data(config, assembly.make_strategy(config))


def build(config, strategy, tasks, base):
    vocabulary = base.with_special(strategy.special_tokens(tasks))
    starting_point(config, loaded(config)).build(strategy, tasks, vocabulary)
    return vocabulary


def built(*overrides):
    config = configured(*overrides)
    strategy = assembly.make_strategy(config)
    data = assembly.load_data(config, strategy)
    base = assembly.make_vocabulary(config, data)
    return (
        config,
        strategy,
        data,
        base,
        build(config, strategy, data.trained, base),
    )


def test_settings_reach_the_strategy():
    config = configured("strategy=mixed_batch", "strategy.reduction=task_token_mean")
    assert assembly.make_strategy(config).reduction == "task_token_mean"


def test_what_trains_is_what_the_strategy_reads():
    supervised, textual = (
        loaded(configured()),
        loaded(configured("strategy=zero_shot", "corpus=tasks")),
    )
    assert supervised.trained == supervised.tasks
    assert [task.name for task in textual.tasks] == ["moods", "pairs"]
    (corpus,) = textual.trained
    assert corpus.kind == "language_modelling"
    documents = {example.references[0] for example in corpus.train.examples}
    assert documents == {
        "\n".join(example.segments) for task in textual.tasks for example in task.train.examples
    }


def test_every_strategy_on_the_same_tasks_has_the_same_base_vocabulary():
    choices = ("strategy=task_signal", "strategy=mt_dnn", "strategy=zero_shot")
    vocabularies = []
    for choice in choices:
        config = configured(choice, "corpus=tasks")
        vocabularies.append(assembly.make_vocabulary(config, loaded(config)))
    assert len({vocabulary.fingerprint for vocabulary in vocabularies}) == 1


def test_the_vocabulary_is_not_trained_on_rows_that_select_or_are_reported():
    first = assembly.make_vocabulary(config := configured(), loaded(config))
    rows = [{"text": "entirely other words here", "label": "bad"}] * 24
    moods.write("data/moods/validation.jsonl", moods.lines(rows))
    assert assembly.make_vocabulary(config, loaded(config)).fingerprint == first.fingerprint


def test_mistakes_of_all_tasks_are_said_at_once():
    moods.write("data/moods/train.jsonl", "{\n")
    moods.write("data/pairs/train.jsonl", "")
    with pytest.raises(CombinedUserError) as caught:
        loaded(configured())
    assert [error.problem for error in caught.value.errors] == [
        "1 bad row of 1",
        "split 'train' of task 'pairs' is empty",
    ]


def test_one_reason_for_all_tasks_is_said_once():
    with pytest.raises(UserError) as caught:
        loaded(configured("data.root=nowhere"))
    assert not isinstance(caught.value, CombinedUserError)


def test_overlap_is_removed_from_training_alone():
    before = loaded(configured())
    after = loaded(configured("data.exclude_overlap=true"))
    assert before.overlap == after.overlap
    for old, new in zip(before.tasks, after.tasks, strict=True):
        gone = {
            row for pair in before.overlap if pair.train_task == old.name for row in pair.train_rows
        }
        kept = [row for at, row in enumerate(old.train.examples) if at not in gone]
        assert gone
        assert list(new.train.examples) == kept
        assert (new.report, new.selection) == (old.report, old.selection)


def test_a_limit_keeps_rows_from_everywhere_and_says_so():
    split = loaded(configured()).tasks[0].report
    limited = assembly.limited(split, 5)
    assert list(limited.examples) == [split.examples[i] for i in (2, 7, 12, 16, 21)]
    assert limited.note == "5 of 24 rows scored, spread evenly"
    assert limited.fingerprint != split.fingerprint
    assert assembly.limited(split, 24) is split
    assert assembly.limited(split, None) is split


def test_an_encoded_split_is_built_once(monkeypatch):
    config, strategy, data, _, _ = built()
    task = data.trained[0]
    first = assembly.encode_split(strategy, task, task.train, "train", config.data)

    def encode(*arguments):
        raise AssertionError("encoded again")

    monkeypatch.setattr(strategy, "encode", encode)
    again = assembly.encode_split(strategy, task, task.train, "train", config.data)
    assert [row.tokens.tolist() for row in again] == [row.tokens.tolist() for row in first]


@pytest.mark.parametrize("change", ["purpose", "task", "rows", "vocabulary", "context", "strategy"])
def test_what_changes_an_encoding_is_never_answered_from_the_cache(change, monkeypatch):
    keys = []
    build = EncodedSplit.build

    def remembered(*arguments, key, **more):
        keys.append(key)
        return build(*arguments, key=key, **more)

    monkeypatch.setattr(EncodedSplit, "build", remembered)
    for changed in (False, True):
        extra = {
            "vocabulary": ["tokenizer.vocabulary=320"],
            "context": ["decoder.context=32"],
            "strategy": ["strategy=mt_dnn"],
            "task": ["task.moods.answers=[' no',' yes']"],
        }.get(change, [])
        config, strategy, data, _, _ = built(*(extra if changed else []))
        task = data.trained[0]
        split = task.selection if changed and change == "rows" else task.train
        purpose = "answer" if changed and change == "purpose" else "train"
        assembly.encode_split(strategy, task, split, purpose, config.data)
    assert keys[0] != keys[1]


def test_a_pretrained_decoder_keeps_its_weights_for_the_tokens_it_knows():
    from mtl.decoder.gpt import Decoder
    from mtl.decoder.huggingface import save_pretrained

    config, _, _, base, vocabulary = built()
    trained = Decoder(config.decoder, base.base_size, seed=3)
    save_pretrained(trained, "kept")
    other = replace(config.decoder, pretrained="kept")
    start = Start(base, base_decoder(other, base, seed=5), seed=5)
    decoder = start.decoder_for(vocabulary)
    assert decoder.token_embedding.weight.shape[0] == vocabulary.size
    torch.testing.assert_close(
        decoder.token_embedding.weight[: base.base_size],
        trained.token_embedding.weight,
        rtol=0,
        atol=0,
    )


def test_weights_of_another_shape_are_refused():
    _, strategy, _, _, _ = built()
    torch.save({"state_dict": {"strategy.other": torch.zeros(1)}}, "bad.ckpt")
    with pytest.raises(UserError, match="the checkpoint does not fit the run's config") as caught:
        assembly.load_weights(strategy, Path("bad.ckpt"))
    assert caught.value.where == "bad.ckpt"
    with pytest.raises(UserError, match="there is no checkpoint none"):
        assembly.load_weights(strategy, Path("none.ckpt"))
