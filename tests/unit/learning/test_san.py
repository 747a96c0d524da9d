"""The stochastic answer network against a loop over rows, tokens and steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl.config.schema import DecoderConfig
from mtl.data.batch import Batch, collate, idle_batch
from mtl.data.encoding import Encoded
from mtl.decoder.gpt import Decoder
from mtl.learning.heads import Heads
from mtl.learning.reading import for_heads
from mtl.learning.readout import hidden_states
from mtl.learning.san import StochasticAnswerNetwork
from mtl.testing.strategies import CONTEXT, PAIR, TASKS, base_vocabulary, examples

WIDTH, CLASSES = 16, 3
SHAPE = DecoderConfig(name="micro", layers=1, width=WIDTH, heads=2, context=CONTEXT)
DELIMITER = base_vocabulary().delimiter


def encoded_pairs(count: int) -> list[Encoded]:
    """Pairs of different lengths, one of them with an empty hypothesis."""
    rows = examples(PAIR, count)
    rows[0] = replace(rows[0], segments=(rows[0].segments[0], ""))
    return [
        encoded
        for row in rows
        for encoded in for_heads(row, PAIR, base_vocabulary(), CONTEXT, "train")
    ]


def packed(count: int) -> Batch:
    """Pairs beside rows of another task, several to a row of tokens."""
    vocabulary = base_vocabulary()
    other = [
        for_heads(row, TASKS[2], vocabulary, CONTEXT, "train")[0] for row in examples(TASKS[2], 2)
    ]
    pairs = encoded_pairs(count)
    together = [pairs[0], other[0], *pairs[1:], other[1]]
    batch = collate(
        together,
        tasks=[1 if encoded.branches else 0 for encoded in together],
        rows=range(len(together)),
        row_tokens=2 * CONTEXT,
    )
    assert batch.tokens.shape[0] < len(together)
    return batch


def network(**settings: float) -> StochasticAnswerNetwork:
    torch.manual_seed(1)
    settings = {"step_dropout": 0.0, "dropout": 0.0, **settings}
    made = StochasticAnswerNetwork(WIDTH, CLASSES, delimiter=DELIMITER, **settings)  # type: ignore[arg-type]
    # Far from even weights, so that a mistake in any of them shows.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


def slow(net: StochasticAnswerNetwork, hidden: Tensor, tokens: Tensor, kept: list[bool]) -> Tensor:
    """(C,) probabilities of one row: the formulas of the paper, one step and one token at a time.

    :param hidden: (T, D) states of the row's own tokens (T,).
    """
    at = tokens.tolist().index(DELIMITER)
    premise, hypothesis = hidden[: at + 1], hidden[at + 1 :]
    w0, w1 = net.summary.weight[0], net.attention.weight.T

    def attended(states: Tensor, scores: list[Tensor]) -> Tensor:
        top = torch.stack(scores).max().detach()
        weights = [(score - top).exp() for score in scores]
        return sum(w * x for w, x in zip(weights, states, strict=True)) / sum(weights)

    def gru(s: Tensor, x: Tensor) -> Tensor:
        cell = net.recurrence
        given = cell.weight_ih @ x + cell.bias_ih
        held = cell.weight_hh @ s + cell.bias_hh
        (r_x, z_x, n_x), (r_s, z_s, n_s) = given.split(WIDTH), held.split(WIDTH)
        reset, update = (r_x + r_s).sigmoid(), (z_x + z_s).sigmoid()
        return (1 - update) * (n_x + reset * n_s).tanh() + update * s

    def step(s: Tensor, x: Tensor) -> Tensor:
        features = torch.cat([s, x, (s - x).abs(), s * x])
        outputs = net.classify.weight @ features + net.classify.bias
        return outputs.exp() / outputs.exp().sum()

    def read(s: Tensor) -> Tensor:
        return attended(premise, [s @ w1 @ x for x in premise])

    s = attended(hypothesis, [w0 @ x for x in hypothesis])
    predictions = [step(s, read(s))]
    for _ in range(1, net.steps):
        x = read(s)
        s = gru(s, x)
        predictions.append(step(s, x))
    chosen = [p for p, keep in zip(predictions, kept, strict=True) if keep]
    return sum(chosen) / len(chosen)


def own_tokens(batch: Batch) -> list[tuple[Tensor, slice]]:
    """Tokens of each pair, and where they stand in the batch laid flat."""
    places = []
    for example in (batch.task == 0).nonzero().flatten().tolist():
        tokens = torch.from_numpy(batch.encoded[example].tokens).long()
        end = int(batch.branch_ends[batch.branch_examples == example])
        places.append((tokens, slice(end + 1 - len(tokens), end + 1)))
    return places


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_it_is_the_slow_loop_with_the_same_gradients(steps: int) -> None:
    net, batch = network(steps=steps).double(), packed(6)
    hidden = torch.randn(batch.tokens.numel(), WIDTH, dtype=torch.float64, requires_grad=True)
    ends = batch.branch_ends[batch.task[batch.branch_examples] == 0]
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    variables = [hidden, *net.parameters()]

    fast = net(hidden, batch, ends)
    by_hand = torch.stack(
        [slow(net, hidden[where], tokens, [True] * steps) for tokens, where in own_tokens(batch)]
    ).log()
    torch.testing.assert_close(fast, by_hand, atol=1e-12, rtol=1e-10)
    gradients = [
        torch.autograd.grad(result[torch.arange(6), targets].sum(), variables)
        for result in (fast, by_hand)
    ]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-9)
        assert one.any()


def test_dropped_steps_leave_the_mean_of_the_kept_ones() -> None:
    net, batch = network(steps=4, step_dropout=0.5), packed(6)
    hidden = torch.randn(batch.tokens.numel(), WIDTH)
    ends = batch.branch_ends[batch.task[batch.branch_examples] == 0]
    kept = torch.rand(6, 4) > 0.5
    kept[:, 2] |= ~kept.any(1)
    net._kept = lambda steps: kept
    by_hand = [
        slow(net, hidden[where], tokens, keep)
        for (tokens, where), keep in zip(own_tokens(batch), kept.tolist(), strict=True)
    ]
    torch.testing.assert_close(net(hidden, batch, ends).exp(), torch.stack(by_hand))


def test_steps_are_dropped_with_their_probability_and_never_all() -> None:
    dropped = 0.3
    net = network(steps=5, step_dropout=dropped).train()
    kept = net._kept(torch.zeros(20000, 5, CLASSES))
    assert kept.any(1).all()
    # All five go with probability p^5, and then one of them stays.
    expected = 1 - dropped + dropped**5 / 5
    np.testing.assert_allclose(kept.float().mean(0), expected, atol=0.02)
    assert net.eval()._kept(torch.zeros(9, 5, CLASSES)).all()


def test_nearly_always_dropped_leaves_exactly_one_any_of_them() -> None:
    net = network(steps=5, step_dropout=0.9999).train()
    kept = net._kept(torch.zeros(5000, 5, CLASSES))
    assert (kept.sum(1) == 1).float().mean() > 0.99
    np.testing.assert_allclose(kept.float().mean(0), 0.2, atol=0.03)


def test_training_draws_and_evaluation_does_not() -> None:
    net, batch = network(steps=3, step_dropout=0.5, dropout=0.5), packed(6)
    hidden = torch.randn(batch.tokens.numel(), WIDTH)
    ends = batch.branch_ends[batch.task[batch.branch_examples] == 0]

    def seeded(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return net(hidden, batch, ends)

    net.train()
    assert torch.equal(seeded(3), seeded(3))
    assert not torch.equal(seeded(3), seeded(4))
    net.eval()
    assert torch.equal(seeded(3), seeded(4))


def test_an_idle_device_computes_a_finite_loss() -> None:
    decoder = Decoder(SHAPE, base_vocabulary().size)
    heads = Heads(
        [PAIR],
        decoder,
        pair_head=lambda classes: StochasticAnswerNetwork(WIDTH, classes, delimiter=DELIMITER),
    )
    batch = idle_batch()
    loss = (heads.losses(decoder, batch) * batch.weight).sum()
    loss.backward()
    assert loss == 0
    assert not any(p.grad is not None and p.grad.any() for p in heads.parameters())


def test_the_loss_is_that_of_the_mean_probability() -> None:
    decoder = Decoder(SHAPE, base_vocabulary().size)
    heads = Heads([PAIR, TASKS[2]], decoder, pair_head=lambda classes: network(steps=3))
    batch = packed(4)
    hidden = hidden_states(decoder, batch)
    net = heads.head_of(PAIR)
    losses = heads.losses(decoder, batch)[batch.task == 0]
    targets = batch.target[batch.task == 0].long().tolist()
    for loss, target, (tokens, where) in zip(losses, targets, own_tokens(batch), strict=True):
        by_hand = -slow(net, hidden[where], tokens, [True] * 3)[target].log()
        torch.testing.assert_close(loss, by_hand)
