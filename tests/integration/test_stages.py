"""Runs of several trainings: a decoder for each task, a language-model stage first, a finished run to start from."""

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import fitting

from mtl import evaluate, fit
from mtl.config.errors import UserError
from mtl.learning.module import MultiTaskModule
from mtl.storage import cache
from mtl.storage.cache import cache_root
from mtl.tasks.microworld import kept_rows

NAMES = ["microworld_sentiment", "microworld_translation", "microworld_similarity"]
SMALL = [*fitting.SMALL, "record.every=2", "record.checkpoint_every=3"]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    drawn = cache_root()
    for name in NAMES:
        for split in ("train", "validation", "test"):
            kept_rows(name.removeprefix("microworld_"), split)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTL_CACHE", str(with_rows(tmp_path_factory.mktemp("cache"), drawn)))
        yield


def with_rows(folder, drawn):
    """A cache that knows the generated rows of another one, and nothing else."""
    folder.mkdir(exist_ok=True)
    for entry in drawn.glob("microworld-*"):
        (folder / entry.name).symlink_to(entry.absolute())
    return folder


@pytest.fixture
def trained_steps(monkeypatch):
    """Names of the tasks of every batch that is trained on from now on."""
    seen, training_step = [], MultiTaskModule.training_step

    def counted(self, batches, index):
        seen.append({self._names[k] for batch in batches for k in batch.task.tolist()})
        return training_step(self, batches, index)

    monkeypatch.setattr(MultiTaskModule, "training_step", counted)
    return seen


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A run that trains the tasks together."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    return fit.run(["strategy=hard_sharing", *SMALL, "budget.steps=12", f"run_dir={folder}"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run that trains each task alone, after a language-model stage."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    return fit.run([*ALONE, f"run_dir={folder}"])


ALONE = ["strategy=single_task", *SMALL, "budget.steps=18", "pretrain.tokens=3000"]


def weights(run, name="last"):
    return fitting.checkpoint(run.path, name)["state_dict"]


def test_one_task_alone_is_a_mixed_batch_of_one_task(tmp_path):
    """Bit for bit: weights, scores, answers."""
    one = [*SMALL, "tasks=[microworld_similarity]", "budget.steps=8", "decoder.dropout=0.1"]
    mixed = fit.run(["strategy=mixed_batch", *one, f"run_dir={tmp_path / 'mixed'}"])
    single = fit.run(["strategy=single_task", *one, f"run_dir={tmp_path / 'single'}"])
    for name in ("last", "best"):
        copies = {
            key.replace("copies.microworld_similarity.", ""): weight
            for key, weight in weights(single, name).items()
        }
        assert fitting.same(copies, dict(weights(mixed, name)))
    assert (single.path / "metrics.jsonl").read_text() == (mixed.path / "metrics.jsonl").read_text()
    assert single.summary["tasks"] == mixed.summary["tasks"]


def test_several_tasks_are_the_runs_over_each_of_them(tmp_path):
    together = fit.run(
        ["strategy=single_task", *SMALL, "budget.steps=6", f"run_dir={tmp_path / 'all'}"]
    )
    for name in NAMES:
        single = fit.run(
            [
                "strategy=single_task",
                *SMALL,
                f"tasks=[{name}]",
                "budget.steps=2",
                "tokenizer=folder",
                f"tokenizer.folder={together.path / 'tokenizer'}",
                f"run_dir={tmp_path / name}",
            ]
        )
        both = weights(single), weights(together)
        assert all(both[0][key].equal(both[1][key]) for key in both[0])
        assert single.summary["tasks"][name] == together.summary["tasks"][name]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("budget.tokens=9000", 3000),
        ("budget.tokens=3000 budget.each=whole", 3000),
        ("budget.steps=21", 7),
        ("budget.steps=7 budget.each=whole", 7),
    ],
)
def test_what_a_task_alone_gets_of_the_budget(given, expected, tmp_path):
    run = fit.run(["strategy=single_task", *SMALL, *given.split(), f"run_dir={tmp_path / 'run'}"])
    ledger = run.summary["ledger"]
    assert ledger["budget"] == ("whole" if "whole" in given else "divided")
    assert list(ledger["stages"]) == [f"train.{name}" for name in NAMES]
    unit = "tokens" if "tokens" in given else "steps"
    for stage in ledger["stages"].values():
        assert expected <= stage[unit] < expected + (512 if unit == "tokens" else 1)
    assert ledger[unit] == sum(stage[unit] for stage in ledger["stages"].values())
    assert ledger["tokens"] == sum(ledger["tokens_by_task"].values())
    assert ledger["parameters"]["shared"] == 0


@pytest.mark.parametrize("strategy", ["hard_sharing", "mt_dnn"])
def test_a_task_alone_gets_the_very_rows_it_got_in_another_run(strategy, tmp_path):
    other = fit.run(
        [f"strategy={strategy}", *SMALL, "budget.tokens=6000", f"run_dir={tmp_path / 'other'}"]
    )
    run = fit.run(
        [
            "strategy=single_task",
            *SMALL,
            f"budget.like={other.path}",
            f"run_dir={tmp_path / 'run'}",
        ]
    )
    there, here = other.summary["ledger"], run.summary["ledger"]
    for exact in ("tokens_by_task", "examples_by_task", "target_tokens_by_task"):
        assert here[exact] == there[exact]
    assert here["budget"] == f"like {other.path}"


def test_the_language_model_stage_is_done_once_for_all(tmp_path, trained_steps, monkeypatch):
    """Whoever trains it and whoever finds it ends the same; another length is another stage."""
    started = ["strategy=hard_sharing", *SMALL, "budget.steps=6", "pretrain.tokens=2500"]
    first = fit.run([*started, f"run_dir={tmp_path / 'first'}"])
    steps = first.summary["ledger"]["pretraining"]["steps"]
    assert trained_steps.count({"microworld"}) == steps > 2
    trained_steps.clear()
    with monkeypatch.context() as patch:
        # Who only reads it needs no lock, which would have to be written.
        patch.setattr(cache, "lock", lambda *_, **__: pytest.fail("a lock was taken"))
        again = fit.run([*started, f"run_dir={tmp_path / 'again'}"])
    other = fit.run([*started, "strategy=single_task", f"run_dir={tmp_path / 'other'}"])
    assert {"microworld"} not in trained_steps
    costs = [run.summary["ledger"]["pretraining"] for run in (first, again, other)]
    assert [cost["reused"] for cost in costs] == [False, True, True]
    assert {cost["seconds"] for cost in costs} == {costs[0]["seconds"]}
    fitting.assert_same_run(first.path, again.path)
    for run in (first, again, other):
        ledger = run.summary["ledger"]
        assert ledger["pretraining_tokens"] == ledger["pretraining"]["tokens"] >= 2500
        assert (run.path / "pretraining" / "metrics.jsonl").read_text() == (
            first.path / "pretraining" / "metrics.jsonl"
        ).read_text()
        assert "microworld" in run.summary["data"]
        assert "microworld" not in ledger["tokens_by_task"]
    without = fit.run(
        ["strategy=hard_sharing", *SMALL, "budget.steps=6", f"run_dir={tmp_path / 'none'}"]
    )
    key = "strategy.decoder.blocks.0.attention.output.weight"
    assert not weights(without)[key].equal(weights(first)[key])
    trained_steps.clear()
    fit.run([*started, "pretrain.tokens=1000", f"run_dir={tmp_path / 'shorter'}"])
    assert 0 < trained_steps.count({"microworld"}) < steps


def test_of_two_runs_at_once_one_trains_the_language_model_and_the_other_waits(tmp_path):
    started = ["strategy=hard_sharing", *SMALL, "budget.steps=2", "pretrain.tokens=2500"]
    started += ["corpus.documents=200", "seed=17"]
    folders = [tmp_path / "one", tmp_path / "other"]

    def train(folder):
        folder.mkdir()
        return fitting.fit_elsewhere([*started, "run_dir=run"], folder)[0]

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(train, folders)) == [0, 0]
    summaries = [json.loads((folder / "run" / "summary.json").read_text()) for folder in folders]
    assert sorted(s["ledger"]["pretraining"]["reused"] for s in summaries) == [False, True]


def test_killed_in_each_of_its_trainings_a_run_ends_the_same(tmp_path, alone):
    run, command = tmp_path / "run", [*ALONE, "data.cache=cache", "run_dir=run"]
    with_rows(tmp_path / "cache", cache_root())
    status, _, _ = fitting.fit_elsewhere(command, tmp_path, hook=("in_step", 4))
    assert status == -signal.SIGKILL
    assert (run / "pretraining" / "checkpoints" / "last.ckpt").is_file()
    assert not (run / "checkpoints").exists()
    # The second time in the first task, the third in the second, whose number of steps is the same.
    status, _, _ = fitting.fit_elsewhere(["resume=run"], tmp_path, hook=("in_training", 1, 5))
    assert status == -signal.SIGKILL
    assert (run / "pretraining" / "ledger.json").is_file()
    status, _, _ = fitting.fit_elsewhere(["resume=run"], tmp_path, hook=("in_training", 1, 4))
    assert status == -signal.SIGKILL
    status, _, err = fitting.fit_elsewhere(["resume=run"], tmp_path)
    assert (status, err) == (0, "")
    fitting.assert_same_run(alone.path, run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]


def test_a_run_of_copies_is_scored_and_answers(alone, capsys):
    scores = evaluate.run([f"run={alone.path}", "rows=12", "resamples=20"])
    for name in NAMES:
        assert scores[name]["metrics"] == alone.summary["tasks"][name]["metrics"]


def test_starting_from_a_run_takes_its_weights_over(shared, tmp_path):
    """Decoder, and heads of tasks that both know; what is new begins as it would."""
    run = fit.run(
        [
            "strategy=mixed_batch",
            *SMALL,
            "tasks=[microworld_sentiment,microworld_entailment]",
            "budget.steps=1",
            "optimizer.learning_rate=1e-30",
            "optimizer.weight_decay=0",
            f"init_from={shared.path}",
            f"run_dir={tmp_path / 'run'}",
        ]
    )
    before, after = weights(shared, "best"), weights(run)
    kept = [key for key in after if key in before]
    assert any(".heads.microworld_sentiment." in key for key in kept)
    assert any(".blocks.1." in key for key in kept)
    for key in kept:
        torch.testing.assert_close(after[key], before[key], rtol=0, atol=1e-25)
    ledger = shared.summary["ledger"]
    assert run.summary["ledger"]["pretraining_tokens"] == ledger["tokens"]


def test_only_the_first_layers_are_kept(shared, tmp_path):
    still = ["budget.steps=1", "optimizer.learning_rate=1e-30", "optimizer.weight_decay=0"]
    common = ["strategy=hard_sharing", *SMALL, *still]
    fresh = fit.run([*common, f"run_dir={tmp_path / 'fresh'}"])
    run = fit.run(
        [
            *common,
            f"init_from={shared.path}",
            "pretrain.layers=1",
            f"run_dir={tmp_path / 'run'}",
        ]
    )
    source = {0: weights(shared, "best"), 1: weights(fresh)}
    for layer, expected in source.items():
        for key, weight in weights(run).items():
            if f".blocks.{layer}." in key:
                torch.testing.assert_close(weight, expected[key], rtol=0, atol=1e-25)


@pytest.mark.parametrize(
    ("given", "problem", "where"),
    [
        (
            "init_from={alone}",
            "that run has a decoder for each task, so there is no one decoder to start from",
            "init_from={alone}",
        ),
        (
            "init_from={shared} decoder.width=64",
            "the decoder of that run has another shape than decoder=micro",
            "init_from={shared}",
        ),
        (
            "init_from={shared} pretrain.tokens=100",
            "a run has one starting point",
            "init_from={shared} pretrain.tokens=100",
        ),
        (
            "pretrain.layers=1",
            "the decoder is drawn anew, so there are no layers to keep",
            "pretrain.layers=1",
        ),
        (
            "strategy=zero_shot pretrain.tokens=100",
            "strategy 'zero_shot' is language modelling already",
            "pretrain.tokens=100",
        ),
        (
            "budget.like={shared} budget.steps=null",
            "strategy 'hard_sharing' trains tasks together; to repeat what each task of a run got is for "
            "strategies that train every task alone",
            "budget.like={shared}",
        ),
        (
            "strategy=single_task budget.like={alone} budget.steps=null",
            "that run did not train tasks together",
            "budget.like={alone}",
        ),
        (
            "strategy=single_task budget.like={shared} budget.steps=null tasks=[microworld_pronoun]",
            "that run was not trained on 'microworld_pronoun'",
            "budget.like={shared}",
        ),
    ],
)
def test_mistakes_are_said_before_anything_is_made(
    given, problem, where, shared, alone, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    places = {"shared": shared.path, "alone": alone.path}
    overrides = given.format(**places).split()
    with pytest.raises(UserError) as caught:
        fit.run(["strategy=hard_sharing", *SMALL, "budget.steps=1", *overrides, "run_dir=run"])
    assert caught.value.problem == problem
    assert caught.value.where == where.format(**places)
    assert list(tmp_path.iterdir()) == []


def test_two_devices_train_each_part_as_one_does(tmp_path):
    # Devices add in another order than one does, and Adam divides a gradient that is nothing but rounding by its own
    # size: a larger epsilon leaves it as small as it is.
    steady = [*ALONE, "optimizer.epsilon=1e-5"]
    alone = fit.run([*steady, f"run_dir={tmp_path / 'one'}"])
    pair = [*steady, "trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]
    ((first, second),) = fitting.fit_in_pairs([([*pair, "run_dir=run"], {})], tmp_path)
    assert (first, second) == (None, None)
    one = weights(alone)
    for key, weight in fitting.checkpoint(tmp_path / "run")["state_dict"].items():
        torch.testing.assert_close(weight, one[key], rtol=0, atol=1e-5)
    ledger = json.loads((tmp_path / "run" / "summary.json").read_text())["ledger"]
    assert ledger["tokens_by_task"] == alone.summary["ledger"]["tokens_by_task"]
