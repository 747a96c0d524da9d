"""What is decided before a training begins, and what is refused."""

import copy
from dataclasses import replace

import pytest
import torch

from mtl.config.errors import UserError
from mtl.config.schema import BalanceConfig, DecoderConfig, TrainerConfig
from mtl.config.strategies import load_strategy_class
from mtl.decoder.building import new_decoder
from mtl.decoder.gpt import Block
from mtl.learning import compilation
from mtl.learning.balance.methods import make_balance
from mtl.learning.compilation import COMPILING_SECONDS, compiled, decide, expected_saving
from mtl.learning.training import check_sharding, may_leave_unused
from mtl.testing.strategies import CONTEXT, TASKS, base_vocabulary

SHAPE = DecoderConfig(name="micro", layers=2, width=8, heads=2, context=CONTEXT)


def built(name, tasks, shape=SHAPE, **options):
    strategy = load_strategy_class(name)(**options)
    vocabulary = base_vocabulary().with_special(strategy.special_tokens(tasks))
    strategy.build(new_decoder(shape, vocabulary.size, seed=0), tasks, vocabulary)
    return strategy


def test_a_strategy_that_moves_whole_parameters_is_not_sharded():
    towers, heads = (load_strategy_class(name)() for name in ("soft_sharing", "hard_sharing"))
    sharded = TrainerConfig(name="fsdp", strategy="fsdp")
    check_sharding(sharded, heads)
    check_sharding(TrainerConfig(name="ddp", strategy="ddp"), towers)
    with pytest.raises(UserError, match="moves whole parameters after each step") as caught:
        check_sharding(sharded, towers)
    assert caught.value.where == "trainer=fsdp"
    assert caught.value.hints == ("trainer=ddp",)


def test_split_blocks_are_not_compiled():
    sharded = TrainerConfig(name="fsdp", strategy="fsdp", compile="always")
    with pytest.raises(UserError, match="split over devices are not compiled") as caught:
        check_sharding(sharded, load_strategy_class("hard_sharing")())
    assert caught.value.where == "trainer=fsdp trainer.compile=always"


@pytest.mark.parametrize(
    ("name", "tasks", "options", "unused"),
    [
        ("zero_shot", 2, {}, False),
        ("task_signal", 2, {}, False),
        ("hard_sharing", 2, {}, True),
        ("hard_sharing", 1, {}, False),
        ("hard_sharing", 2, {"heads": "by_answers"}, True),
        ("soft_sharing", 2, {}, True),
        ("soft_sharing", 2, {"sharing": "cross_stitch"}, True),
        ("soft_sharing", 1, {}, False),
    ],
)
def test_who_may_leave_parameters_unused(name, tasks, options, unused):
    assert may_leave_unused(built(name, TASKS[:tasks], **options), None) is unused


def test_learned_weights_of_losses_may_be_unused():
    learned = make_balance(BalanceConfig(name="uncertainty"), ("a", "b"), (1, 1), "mixed")
    assert may_leave_unused(built("task_signal", TASKS), learned)


AUTO = TrainerConfig(name="gpu", accelerator="gpu")


def test_compiled_where_it_saves_more_than_it_takes(monkeypatch):
    """On a GPU, by the budget; a step that waits for the host counts 5 ms, one that computes by its operations."""
    strategy = built("task_signal", TASKS)
    assert expected_saving(strategy, steps=1000, tokens=10) == pytest.approx(0.25 * 5)
    operations = strategy.decoder.flops(10**12, (CONTEXT + 1) / 2, 0)
    saving = expected_saving(strategy, steps=1000, tokens=10**12)
    assert saving == pytest.approx(0.25 * operations / 1e14)

    def decided(steps, config=AUTO):
        return decide(config, strategy, steps=steps, tokens=steps)

    assert str(decided(10**6)) == "blocks not compiled: on a CPU it saves less than it costs"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    enough = round(COMPILING_SECONDS / (0.25 * 0.005))
    assert [decided(steps).compiled for steps in (enough - 10, enough + 10)] == [False, True]
    assert "expected to save 60 s of 48010 steps" in str(decided(enough + 10))
    for changed in ({"accelerator": "cpu"}, {"strategy": "fsdp"}, {"compile": "never"}):
        assert not decided(10**9, replace(AUTO, **changed)).compiled
    assert decided(1, replace(AUTO, compile="always")).compiled


def test_for_few_shapes_on_a_gpu_and_recorded_where_it_waits(monkeypatch):
    """Few shapes where batches are of all tasks; CUDA graphs for one pass a step on one GPU, where a step computes for
    less than 5 ms."""
    strategy = built("task_signal", TASKS)
    always = replace(AUTO, compile="always")
    tokens = int(0.005 * 1e14 / strategy.decoder.flops(1, (CONTEXT + 1) / 2, 0))

    def decided(config=always, tokens=tokens - 1, of=strategy, **more):
        decision = decide(config, of, steps=10, tokens=10 * tokens, **more)
        return decision.fixed, decision.recorded

    assert decided() == (False, False)  # there is no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert decided() == (True, True)
    assert decided(tokens=tokens + 1) == decided(pieces=2) == (True, False)
    assert decided(balanced=True) == (False, False)
    one_pass = decide(AUTO, strategy, steps=10**9, tokens=10**9, balanced=True, one_pass=True)
    assert str(one_pass) == "blocks not compiled: the gradients of all tasks come from one pass"
    assert decide(always, strategy, steps=1, tokens=1, balanced=True, one_pass=True).compiled
    for name in ("soft_sharing", "mt_dnn"):
        assert decided(of=built(name, TASKS)) == (False, False)
    for changed in ({"devices": 2}, {"nodes": 2}):
        assert decided(replace(always, **changed)) == (True, False)
    for changed in ({"accelerator": "cpu"}, {"compile": "never"}, {"compile": "auto"}):
        assert decided(replace(always, **changed)) == (False, False)
    decision = decide(always, strategy, steps=10, tokens=10)
    said = "blocks compiled for few shapes with CUDA graphs: trainer.compile=always"
    assert str(decision) == said


def test_an_lstm_has_no_blocks_to_compile():
    strategy = built("task_signal", TASKS, replace(SHAPE, trunk="lstm"))
    decision = decide(replace(AUTO, compile="always"), strategy, steps=1, tokens=1)
    assert str(decision) == "blocks not compiled: the decoder has no transformer blocks"


def test_blocks_are_compiled_for_the_time_of_the_training(monkeypatch):
    """Those of every tower, under the names they had, and of no copy."""
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    strategy = built("soft_sharing", TASKS)
    names = list(strategy.state_dict())
    blocks = [module for module in strategy.modules() if isinstance(module, Block)]
    assert len(blocks) == 2 * len(TASKS)
    decision = decide(replace(AUTO, compile="always"), strategy, steps=1, tokens=1)
    with compiled(strategy, decision):
        assert all(block._compiled_call_impl is not None for block in blocks)
        assert list(strategy.state_dict()) == names
        copies = copy.deepcopy(strategy).modules()
        assert all(one._compiled_call_impl is None for one in copies)
    assert all(block._compiled_call_impl is None for block in blocks)
