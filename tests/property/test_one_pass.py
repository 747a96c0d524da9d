"""The gradients of all tasks from one pass are those of a pass for each task, however their examples lie."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "parity"))

from test_balance import BY_NAME, built, made

from mtl.config.schema import DecoderConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch, collate
from mtl.decoder.building import new_decoder
from mtl.decoder.gpt import Decoder
from mtl.learning import cross_entropy
from mtl.learning.balance import rows as balance_rows
from mtl.learning.balance.one_pass import OnePass, can_pass_once, shares_rows
from mtl.learning.balance.step import BalancedStep
from mtl.testing.strategies import CONTEXT, TASKS, base_vocabulary, examples

EVERY = pytest.mark.parametrize("name", ["hard_sharing", "mixed_batch", "task_signal"])


def one_batch(strategy, order: list[int], row_tokens: int = 0) -> Batch:
    """Three examples of each task, those of ``order`` alone and in that order."""
    encoded = [
        (index, strategy.encode(example, task, strategy.vocabulary, CONTEXT, "train")[0])
        for index, task in enumerate(strategy.tasks)
        for example in examples(task, 3)
    ]
    chosen = [encoded[i] for i in order]
    return collate(
        [one for _, one in chosen],
        tasks=[task for task, _ in chosen],
        rows=order,
        weights=np.linspace(0.1, 0.9, len(order), dtype=np.float32),
        row_tokens=row_tokens,
    )


def gradients(strategy, batches: list[Batch], *, one_pass: bool) -> BalancedStep:
    count = len(strategy.tasks)
    step = BalancedStep(made(BY_NAME["mgda"], count), strategy, separate=True, one_pass=one_pass)
    step.begin(range(count))
    for batch in batches:
        torch.manual_seed(5)
        step.separately([batch])
    step.rows.close()
    return step


def assert_same(one: BalancedStep, other: BalancedStep, **bounds: float) -> None:
    assert one.rows is not None
    assert other.rows is not None
    bounds = {"atol": 1e-6, "rtol": 1e-5} | bounds
    torch.testing.assert_close(one.losses, other.losses, **bounds)
    torch.testing.assert_close(one.rows.rows, other.rows.rows, **bounds)
    torch.testing.assert_close(one.rows.used, other.rows.used)
    for mine, theirs in zip(one.rows.own_rows, other.rows.own_rows, strict=True):
        torch.testing.assert_close(mine, theirs, **bounds)


@EVERY
@settings(deadline=None, max_examples=15)
@given(
    st.permutations(range(3 * len(TASKS))), st.integers(1, 3 * len(TASKS)), st.sampled_from([0, 90])
)
def test_any_examples_in_any_order(name: str, order: list[int], count: int, row: int) -> None:
    strategy = built(name)
    batches = [one_batch(strategy, order[:count], row)]
    apart = [
        one_batch(strategy, [i for i in order[:count] if i // 3 == k])
        for k in range(len(TASKS))
        if any(i // 3 == k for i in order[:count])
    ]
    # The weights of an example are those of the whole.
    weights = dict(zip(batches[0].rows, batches[0].weight.tolist(), strict=True))
    apart = [
        replace(batch, weight=torch.tensor([weights[row] for row in batch.rows])) for batch in apart
    ]
    assert_same(
        gradients(strategy, batches, one_pass=True), gradients(strategy, apart, one_pass=False)
    )


@EVERY
def test_pieces_add_up(name: str) -> None:
    strategy = built(name)
    everything = list(range(3 * len(TASKS)))
    pieces = [one_batch(strategy, everything[::2]), one_batch(strategy, everything[1::2])]
    assert_same(
        gradients(strategy, pieces, one_pass=True), gradients(strategy, pieces, one_pass=False)
    )


@EVERY
def test_gpt_1_has_its_norms_behind(name: str) -> None:
    strategy = load_strategy_class(name)()
    vocabulary = base_vocabulary().with_special(strategy.special_tokens(TASKS))
    shape = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT, norm="post")
    strategy.build(Decoder(shape, vocabulary.size, seed=1), TASKS, vocabulary, seed=2)
    batches = [one_batch(strategy.train(), list(range(3 * len(TASKS))))]
    assert_same(
        gradients(strategy, batches, one_pass=True), gradients(strategy, batches, one_pass=False)
    )


@EVERY
def test_in_bfloat16_it_is_off_by_no_more_than_passes_apart(name: str) -> None:
    """Both against float32: products are rounded alike, but added up over other tokens."""
    strategy = built(name)
    batches = [one_batch(strategy, list(range(3 * len(TASKS))))]
    exact = gradients(strategy, batches, one_pass=False).rows.rows
    errors = []
    for one_pass in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            found = gradients(strategy, batches, one_pass=one_pass).rows.rows
        assert found.dtype == torch.float32
        errors.append(((found - exact).norm() / exact.norm()).item())
    assert 1e-4 < errors[0] < 1.1 * errors[1] < 0.05


@EVERY
def test_it_is_one_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = built(name)
    passes, differentiated = [], []
    strategy.decoder.register_forward_hook(lambda *one: passes.append(one))
    grad = torch.autograd.grad
    monkeypatch.setattr(
        balance_rows.torch.autograd,
        "grad",
        lambda *a, **k: differentiated.append(a) or grad(*a, **k),
    )
    step = gradients(strategy, [one_batch(strategy, list(range(9)))] * 2, one_pass=True)
    assert step.one_pass
    assert (len(passes), len(differentiated)) == (2, 2)
    assert "logits" not in vars(strategy.decoder)
    assert not strategy.decoder._forward_pre_hooks


def test_dropout_draws_the_same_for_a_step_that_is_taken_again() -> None:
    strategy = built("hard_sharing")
    strategy.decoder.config = replace(strategy.decoder.config, dropout=0.2)
    for block in strategy.decoder.blocks:
        block.dropout = block.attention.dropout = 0.2
    batches = [one_batch(strategy, list(range(9)))]
    found = [gradients(strategy, batches, one_pass=True) for _ in range(2)]
    assert found[0].rows.rows.equal(found[1].rows.rows)
    assert not found[0].losses.equal(
        gradients(built("hard_sharing"), batches, one_pass=True).losses
    )


@pytest.mark.parametrize("use", ["embedding", "norm", "states"])
def test_a_strategy_that_uses_shared_weights_elsewhere_has_a_pass_for_each_task(use: str) -> None:
    strategy = built("task_signal")
    batches = [one_batch(strategy, list(range(3 * len(TASKS))))] * 2
    losses = type(strategy).losses

    def more(batch: Batch) -> torch.Tensor:
        decoder = strategy.decoder
        found = losses(strategy, batch)
        if use == "embedding":
            return found + decoder.token_embedding.weight.square().sum()
        if use == "norm":
            return found + decoder.final_norm(torch.ones(decoder.width)).sum()
        return found + decoder.logits(decoder(batch.tokens)[0, :1]).sum()

    strategy.losses = more
    one = gradients(strategy, batches, one_pass=True)
    assert one.one_pass == (use == "states")
    assert_same(one, gradients(strategy, batches, one_pass=False), atol=2e-5)


def test_a_use_that_the_first_batch_had_not_is_an_error() -> None:
    strategy = built("hard_sharing")
    batch = one_batch(strategy, list(range(3 * len(TASKS))))
    losses, calls = type(strategy).losses, []

    def later(batch: Batch) -> torch.Tensor:
        calls.append(batch)
        found = losses(strategy, batch)
        if len(calls) == 1:
            return found
        return found + strategy.decoder.token_embedding.weight.square().sum()

    strategy.losses = later
    with pytest.raises(RuntimeError, match="outside the decoder"):
        gradients(strategy, [batch, batch], one_pass=True)


def test_logits_in_pieces_have_a_pass_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = built("task_signal")
    batches = [one_batch(strategy, list(range(3 * len(TASKS))))]
    apart = gradients(strategy, batches, one_pass=False)
    monkeypatch.setattr(cross_entropy, "CPU_LOGITS", 500)
    one = gradients(strategy, batches, one_pass=True)
    assert one.one_pass  # the next batch may be smaller
    assert_same(one, apart)


def test_where_it_can_be() -> None:
    assert all(
        can_pass_once(built(name)) for name in ("hard_sharing", "mixed_batch", "task_signal")
    )
    vector = load_strategy_class("task_signal")(signal="vector")
    stitched = load_strategy_class("soft_sharing")(sharing="cross_stitch")
    of_lstm = load_strategy_class("hard_sharing")()
    shape = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)
    vocabulary = base_vocabulary()
    for strategy, trunk, possible in (
        (vector, "transformer", True),
        (stitched, "transformer", False),
        (of_lstm, "lstm", False),
    ):
        decoder = new_decoder(replace(shape, trunk=trunk), vocabulary.size, seed=1)
        strategy.build(decoder, TASKS, vocabulary, seed=2)
        assert can_pass_once(strategy) is possible


def test_examples_of_one_row_are_known() -> None:
    strategy = built("hard_sharing")
    batch = one_batch(strategy, [0, 1, 2])
    assert not shares_rows(batch)
    encoded = [batch.encoded[0], batch.encoded[0], batch.encoded[1]]
    shared = collate(encoded, tasks=[0, 1, 0], rows=[0, 0, 1], draws=np.array([0, 0, 1]))
    assert shares_rows(shared)


def test_tokens_given_by_name_are_not_followed() -> None:
    strategy = built("task_signal")
    batches = [one_batch(strategy, list(range(3 * len(TASKS))))] * 2
    call = type(strategy.decoder).__call__

    class ByName(type(strategy.decoder)):
        def __call__(self, tokens, positions=None, mask=None, **more):
            return call(self, tokens=tokens, positions=positions, mask=mask, **more)

    strategy.decoder.__class__ = ByName
    one = gradients(strategy, batches, one_pass=True)
    assert not one.one_pass
    assert_same(one, gradients(strategy, batches, one_pass=False), atol=2e-5)


def test_only_its_own_batch_is_followed() -> None:
    strategy = built("hard_sharing")
    batch, other = (one_batch(strategy, order) for order in ([0, 3], [1, 4]))
    rows = balance_rows.Rows(strategy)
    with OnePass(rows, strategy.decoder, batch, watch=True) as one:
        strategy.losses(other)
    assert one.missed
