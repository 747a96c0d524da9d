"""Every strategy learns the same where its logits come in pieces."""

from __future__ import annotations

import pytest
import torch

from mtl.config.strategies import find_strategies, load_strategy_class
from mtl.learning import cross_entropy
from mtl.learning.strategy import Strategy
from mtl.testing.strategies import StrategyConformance


class Built(StrategyConformance):
    def __init__(self, name: str):
        self.name = name

    def strategy(self) -> Strategy:
        return load_strategy_class(self.name)()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(find_strategies()))
def test_losses_and_gradients_in_pieces(
    name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 of sums in another order, dropout the same."""
    suite = Built(name)
    strategy = suite.built().train(training)
    batch = suite.batch(strategy)
    made, checkpoint = [], cross_entropy.checkpoint

    def counted(*arguments, **more):
        made.append(len(arguments[1]))
        return checkpoint(*arguments, **more)

    monkeypatch.setattr(cross_entropy, "checkpoint", counted)
    found = []
    for limit in (None, 1500):  # four or five tokens
        if limit is not None:
            monkeypatch.setattr(cross_entropy, "most_logits", lambda device, most=limit: most)
            monkeypatch.setattr(cross_entropy, "PIECES", 1)
        assert made == []
        torch.manual_seed(0)
        losses = strategy.losses(batch)
        parameters = list(strategy.parameters())
        gradients = torch.autograd.grad(losses.sum(), parameters, materialize_grads=True)
        found.append((losses.detach(), *gradients))
    assert len(made) > 1
    assert max(made) <= 5
    for whole, pieces in zip(*found, strict=True):
        assert float((pieces - whole).norm()) <= 1e-5 * float(whole.norm())
