"""Gradient conflict: answers known beforehand, and no trace in what is measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig, FitConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.encoding import Encoded
from mtl.data.store import EncodedSplit
from mtl.decoder.gpt import Decoder
from mtl.learning.conflict import (
    Comparison,
    Conflict,
    check_conflict,
    make_conflict,
    shared_parameters,
)
from mtl.learning.strategy import Strategy
from mtl.testing.strategies import CONTEXT, TASKS, base_vocabulary, examples

SHAPE = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT, dropout=0.2)


def products(*gradients: Sequence[float]) -> np.ndarray:
    """Inner products of the gradients of batches, two for each task."""
    stacked = np.array(gradients, dtype=np.float64)
    return stacked @ stacked.T


def measured(*gradients: Sequence[float]) -> Comparison:
    """Tasks whose two batches have the same gradient."""
    return Comparison.of(products(*(g for g in gradients for _ in range(2))))


@pytest.mark.parametrize(
    ("one", "other", "cosine", "similarity"),
    [
        ([3.0, 4.0], [3.0, 4.0], 1.0, 1.0),
        ([3.0, 4.0], [-3.0, -4.0], -1.0, 1.0),
        ([3.0, 4.0], [-8.0, 6.0], 0.0, 0.8),  # 2 * 5 * 10 / (25 + 100)
        ([1.0, 0.0], [3.0, 0.0], 1.0, 0.6),  # norms as 1 to 3: 2 * 3 / (1 + 9)
        ([1.0, 0.0], [0.6, 0.8], 0.6, 1.0),
        ([1e-20, 0.0], [1e-20, 1e-20], math.sqrt(0.5), 2 * math.sqrt(2) / 3),
    ],
)
def test_known_answers(one, other, cosine, similarity):
    found = measured(one, other)
    assert found.cosine[0, 1] == found.cosine[1, 0] == pytest.approx(cosine, abs=1e-12)
    assert found.magnitude_similarity[0, 1] == pytest.approx(similarity)
    assert np.diag(found.cosine) == pytest.approx([1.0, 1.0])
    assert found.norm == pytest.approx([np.linalg.norm(one), np.linalg.norm(other)])


def test_a_pair_is_the_mean_over_its_batches_and_the_null_is_between_two_batches():
    # Task 0 reads (1, 0) and (0, 2), task 1 reads (1, 0) and (-3, 0).
    found = Comparison.of(products([1, 0], [0, 2], [1, 0], [-3, 0]))
    assert found.cosine.tolist() == [[0.0, 0.0], [0.0, -1.0]]
    similarities = [1.0, 2 * 3 / 10, 2 * 2 / 5, 2 * 6 / 13]
    assert found.magnitude_similarity[0, 1] == pytest.approx(np.mean(similarities))
    assert found.norm.tolist() == [1.5, 2.0]
    assert found.means() == {
        "mean_cosine": 0.0,
        "mean_same_task_cosine": -0.5,
        "mean_cosine_minus_null": 0.5,
        "mean_magnitude_similarity": pytest.approx(np.mean(similarities)),
        "mean_same_task_magnitude_similarity": pytest.approx((0.8 + 0.6) / 2),
        "negative_share": 0.0,
    }


def test_share_of_negative_pairs():
    found = measured([1.0, 0.0], [-1.0, 0.1], [0.0, 1.0])
    assert found.means()["negative_share"] == pytest.approx(1 / 3)


def test_a_zero_gradient_has_no_direction_and_no_size_in_common():
    found = measured([0.0, 0.0], [1.0, 0.0], [0.0, 1.0])
    assert np.isnan(found.cosine).tolist() == [
        [True, True, True],
        [True, False, False],
        [True, False, False],
    ]
    assert found.magnitude_similarity[0, 1:].tolist() == [0.0, 0.0]
    assert found.means()["mean_cosine"] == 0.0  # of the one pair that has a cosine
    assert found.means()["mean_same_task_cosine"] == 1.0
    nothing = measured([0.0], [0.0])
    assert np.isnan(nothing.magnitude_similarity).all()
    assert all(map(math.isnan, nothing.means().values()))


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_mean_cosine_agrees_with_the_length_of_the_mean_direction(tasks, seed):
    """(T |m|**2 - 1) / (T - 1) with m the mean of the T unit gradients."""
    gradients = np.random.default_rng(seed).normal(size=(tasks, 5))
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    shortcut = (tasks * (units.mean(0) ** 2).sum() - 1) / (tasks - 1)
    assert measured(*gradients).means()["mean_cosine"] == pytest.approx(shortcut, abs=1e-9)


class Signed(Strategy):
    """A loss of each task on the hidden state of the last token, along a direction of its own."""

    composition = "mixed"
    reduction = "example_mean"

    def __init__(self, directions):
        super().__init__()
        self.directions = torch.tensor(directions)

    def encode(self, example, task, vocabulary, context, purpose):
        return []

    def losses(self, batch):
        hidden = self.decoder(batch.tokens, batch.positions, batch.mask).flatten(0, 1)[
            batch.branch_ends
        ]
        return (hidden[:, : self.directions.shape[1]] * self.directions[batch.task]).sum(1)

    def answers(self, batch, task):
        return []


def same_rows(count: int, tokens=(5, 6, 7)) -> EncodedSplit:
    row = Encoded(
        np.array(tokens, dtype=np.int32), np.zeros(len(tokens), dtype=np.bool_), target=0.0
    )
    return EncodedSplit.build(examples(TASKS[0], count), lambda example: row)


def signed(*directions: Sequence[float], rows: int = 6) -> dict[str, float]:
    strategy = Signed(directions)
    strategy.build(Decoder(SHAPE, 50, seed=1), TASKS[: len(directions)], base_vocabulary())
    stores = [same_rows(rows) for _ in directions]
    return Conflict(strategy, stores, batch_tokens=9, piece_tokens=6, seed=0).measure(5)


def test_identical_tasks_agree_and_opposite_losses_conflict_in_every_layer():
    found = signed([1.0, 2.0], [1.0, 2.0], [-1.0, -2.0])
    for layer in ("", "embeddings/", "block_0/", "block_1/", "final_norm/"):
        for pair, cosine in (("review/likeness", 1), ("review/cause", -1), ("likeness/cause", -1)):
            assert found[f"conflict/{pair}/{layer}cosine"] == pytest.approx(cosine, abs=1e-6)
            similarity = found[f"conflict/{pair}/{layer}magnitude_similarity"]
            assert similarity == pytest.approx(1.0, abs=1e-6)
        assert found[f"conflict/cause/{layer}same_task_cosine"] == pytest.approx(1.0, abs=1e-6)
        assert found[f"conflict/{layer}mean_cosine"] == pytest.approx(-1 / 3, abs=1e-6)
        assert found[f"conflict/{layer}negative_share"] == pytest.approx(2 / 3)
        assert found[f"conflict/{layer}mean_cosine_minus_null"] == pytest.approx(-4 / 3, abs=1e-6)
    norms = [
        found[f"conflict/review/{n}/gradient_norm"]
        for n in ("embeddings", "block_0", "block_1", "final_norm")
    ]
    assert found["conflict/review/gradient_norm"] == pytest.approx(math.hypot(*norms))


def test_losses_in_other_places_have_orthogonal_gradients_there_and_other_sizes():
    found = signed([1.0, 0.0], [0.0, 3.0])
    # The final norm scales and shifts each unit by itself: a loss on one unit moves nothing of another.
    assert found["conflict/review/likeness/final_norm/cosine"] == 0.0
    assert signed([1.0], [3.0])["conflict/review/likeness/magnitude_similarity"] == pytest.approx(
        0.6
    )


def test_a_task_that_reaches_nothing_is_undefined_and_not_zero():
    found = signed([1.0], [0.0])
    assert math.isnan(found["conflict/review/likeness/cosine"])
    assert math.isnan(found["conflict/mean_cosine"])
    assert found["conflict/likeness/gradient_norm"] == 0.0
    assert found["conflict/review/same_task_cosine"] == pytest.approx(1.0)


def test_one_row_gives_no_null():
    found = signed([1.0], [-1.0], rows=1)
    assert found["conflict/review/likeness/cosine"] == pytest.approx(-1.0)
    assert math.isnan(found["conflict/review/same_task_cosine"])
    assert math.isnan(found["conflict/mean_cosine_minus_null"])


def built(
    name: str = "hard_sharing", tasks=TASKS, rows: int = 6
) -> tuple[Strategy, list[EncodedSplit]]:
    strategy = load_strategy_class(name)()
    vocabulary = base_vocabulary().with_special(strategy.special_tokens(tasks))
    strategy.build(Decoder(SHAPE, vocabulary.size, seed=1), tasks, vocabulary, seed=2)

    def store(task):
        return EncodedSplit.build(
            examples(task, rows),
            lambda example: strategy.encode(example, task, vocabulary, CONTEXT, "train"),
        )

    return strategy.train(), [store(task) for task in tasks]


def conflict(strategy, stores, *, batch_tokens=60, piece_tokens=10_000, seed=0) -> Conflict:
    return Conflict(
        strategy, stores, batch_tokens=batch_tokens, piece_tokens=piece_tokens, seed=seed
    )


def test_gradients_are_those_of_backward_on_the_shared_parameters():
    """Of the losses as training reduces them, with dropout off."""
    strategy, stores = built()
    own = {id(p) for task in TASKS for p in strategy.own_parameters(task)}
    one = conflict(strategy, stores)
    vectors = []
    for task in range(2):
        for pieces in one._draw(task, 7):
            (batch,) = pieces
            strategy.eval().zero_grad()
            (strategy.losses(batch) * batch.weight).sum().backward()
            vectors.append(
                torch.cat(
                    [
                        (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                        for p in strategy.parameters()
                        if id(p) not in own
                    ]
                ).double()
            )
    strategy.train()
    found = one.measure(7)
    a, b, c, d = vectors
    cosines = [torch.cosine_similarity(x, y, dim=0).item() for x in (a, b) for y in (c, d)]
    assert found["conflict/review/likeness/cosine"] == pytest.approx(np.mean(cosines), abs=1e-6)
    null = torch.cosine_similarity(a, b, dim=0).item()
    assert found["conflict/review/same_task_cosine"] == pytest.approx(null, abs=1e-6)
    norm = (a.norm() + b.norm()).item() / 2
    assert found["conflict/review/gradient_norm"] == pytest.approx(norm, rel=1e-5)


def test_pieces_that_pass_one_by_one_are_the_whole_batch():
    strategy, stores = built("task_signal")  # tokens are reduced, so pieces weigh differently
    whole = conflict(strategy, stores).measure(3)
    pieces = conflict(strategy, stores, piece_tokens=1).measure(3)
    assert whole.keys() == pieces.keys()
    for name, value in whole.items():
        assert pieces[name] == pytest.approx(value, abs=1e-4, nan_ok=True), name


def test_batches_are_disjoint_within_their_tokens_and_drawn_by_seed_step_and_task():
    strategy, stores = built(rows=40)
    one = conflict(strategy, stores, batch_tokens=100)

    def rows(measure: Conflict, task: int, step: int) -> list[list[int]]:
        return [[i for p in pieces for i in p.rows] for pieces in measure._draw(task, step)]

    for task, step in itertools.product(range(len(TASKS)), range(20)):
        first, second = rows(one, task, step)
        assert first
        assert second
        assert not set(first) & set(second)
        for part in (first, second):
            assert stores[task].lengths[part].sum() <= 100
        assert rows(one, task, step) == [first, second]
    assert rows(one, 0, 1) != rows(one, 0, 2)
    assert rows(one, 0, 1) != rows(conflict(strategy, stores, batch_tokens=100, seed=1), 0, 1)
    # Of the task, not of its place among the tasks.
    other, others = built(tasks=(TASKS[1], TASKS[0]), rows=40)
    assert rows(one, 0, 1) == rows(conflict(other, others, batch_tokens=100), 1, 1)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_small_task_is_halved_and_said_so(count):
    strategy, stores = built(rows=count)
    one = conflict(strategy, stores, batch_tokens=10_000)
    for step in range(5):
        first, second = one._draw(0, step)
        assert first
        assert second
        drawn = [i for pieces in (first, second) for piece in pieces for i in piece.rows]
        assert len(drawn) == len(set(drawn))
    tokens = stores[0].tokens_total
    assert one.notes[0] == (
        f"conflict: review has {tokens} tokens, so its two batches are halves of them rather than 10000 tokens each"
    )
    assert conflict(strategy, stores, batch_tokens=10).notes == []
    strategy, stores = built(rows=1)
    assert (
        conflict(strategy, stores).notes[0] == "conflict: review has one row, so no same-task null"
    )


def test_measuring_leaves_no_trace():
    """Weights, gradients, random numbers and modes of modules are as if nobody had looked."""

    def train(look: bool) -> list[torch.Tensor]:
        strategy, stores = built()
        strategy.decoder.blocks[0].eval()
        optimizer = torch.optim.AdamW(strategy.parameters(), lr=1e-2)
        one = conflict(strategy, stores)
        (batch,) = one._draw(0, 1)[0]
        torch.manual_seed(3)
        for step in range(3):
            strategy.losses(batch).sum().backward()
            if look:
                gradients = [
                    p.grad if p.grad is None else p.grad.clone() for p in strategy.parameters()
                ]
                modes = [part.training for part in strategy.modules()]
                one.measure(step)
                assert [part.training for part in strategy.modules()] == modes
                for p, before in zip(strategy.parameters(), gradients, strict=True):
                    assert p.grad is before or p.grad.equal(before)
            optimizer.step()
        return [*strategy.parameters(), torch.rand(3)]

    for seen, unseen in zip(train(True), train(False), strict=True):
        assert seen.equal(unseen)


def test_a_measurement_is_the_same_again():
    strategy, stores = built()
    one = conflict(strategy, stores).measure(4)
    torch.manual_seed(99)
    again = conflict(strategy, stores).measure(4)
    assert one == pytest.approx(again, rel=0, abs=0, nan_ok=True)
    assert one != conflict(strategy, stores).measure(5)


def test_layers_of_the_shared_parameters():
    strategy, stores = built()
    assert conflict(strategy, stores).layers == ("embeddings", "block_0", "block_1", "final_norm")
    for parameter in strategy.decoder.position_embedding.parameters():
        parameter.requires_grad = False
    heads = {id(p) for p in strategy.heads.parameters()}
    assert not heads & {id(p) for _, p in shared_parameters(strategy)}
    frozen = {id(p) for p in strategy.parameters() if not p.requires_grad}
    assert not frozen & {id(p) for _, p in shared_parameters(strategy)}
    strategy.mixing = nn.Linear(2, 2)
    assert [name for name, _ in shared_parameters(strategy)][-2:] == ["mixing", "mixing"]
    stitched = load_strategy_class("soft_sharing")(sharing="cross_stitch")
    stitched.build(Decoder(SHAPE, 50), TASKS[:2], base_vocabulary())
    layers = {name for name, _ in shared_parameters(stitched)}
    assert layers == {"embeddings", "block_0", "block_1", "final_norm", "alpha"}


class Apart(Signed):
    """Every parameter serves one task."""

    def own_parameters(self, task):
        return self.parameters() if task is self.tasks[0] else ()


@pytest.fixture
def config() -> FitConfig:
    return compose("fit", FitConfig, ["diagnostics.conflict=true", "tasks=[cola,sst2]"])


def test_what_cannot_conflict_is_refused(config):
    strategy, stores = built()
    check_conflict(config, [strategy])
    alone, _ = built(tasks=TASKS[:1])
    check_conflict(config, [strategy, alone])  # a stage of its own for each task after one for all
    assert make_conflict(config, alone, stores[:1]) is None
    assert isinstance(make_conflict(config, strategy, stores), Conflict)
    with pytest.raises(UserError) as caught:
        check_conflict(config, [alone, alone])
    assert str(caught.value) == (
        "strategy 'task_signal' trains no two tasks together here, and conflict is between the gradients of two "
        "(diagnostics.conflict=true tasks=[cola, sst2])\n"
        "  give two tasks or more to a strategy that trains them together\n"
        "  diagnostics.conflict=false"
    )
    apart = Apart([[1.0], [1.0]])
    apart.build(Decoder(SHAPE, 50), TASKS[:2], base_vocabulary())
    with pytest.raises(UserError, match="shares no parameter between tasks"):
        check_conflict(config, [apart])
    sharded = replace(config, trainer=replace(config.trainer, name="fsdp", strategy="fsdp"))
    with pytest.raises(UserError, match="FSDP splits them"):
        check_conflict(sharded, [strategy])
    off = replace(config, diagnostics=replace(config.diagnostics, conflict=False))
    check_conflict(off, [alone])
    assert make_conflict(off, strategy, stores) is None
