"""Every strategy has the losses and gradients of a batch, whatever shape it is laid in; few shapes have few graphs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

sys.path.insert(0, str(Path(__file__).parent))
from test_operations import SHAPE, planned, trained

from mtl.config.strategies import find_strategies
from mtl.data.batch import Batch
from mtl.data.grid import Grid
from mtl.data.loader import TrainLoader
from mtl.learning import compilation
from mtl.learning.compilation import Decision, compiled
from mtl.learning.strategy import Strategy

STEPS = 30


def steps(strategy: Strategy, *, fixed: bool) -> list[tuple[Batch, ...]]:
    stores, plan = planned(strategy)
    grid = Grid.of(stores) if fixed else None
    return list(
        TrainLoader(
            stores,
            plan,
            steps=STEPS,
            arrangement="apart" if strategy.apart else "together",
            grid=grid,
        )
    )


def losses(strategy: Strategy, step: tuple[Batch, ...]) -> Tensor:
    """(B,) of a step, with the same draws whatever came before."""
    torch.manual_seed(0)
    return torch.cat([strategy.losses(batch) for batch in step])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in sorted(find_strategies())),
        ("soft_sharing", {"sharing": "cross_stitch"}),
        ("hard_sharing", {"heads": "by_answers"}),
        ("task_signal", {"signal": "vector", "loss": "all"}),
    ],
    ids=str,
)
def test_losses_and_gradients_do_not_depend_on_the_shape(
    name: str, settings: dict[str, object]
) -> None:
    for strategy in trained(name, settings, SHAPE):
        strategy.double()
        found = []
        for fixed in (False, True):
            for step in steps(strategy, fixed=fixed)[:2]:
                every = losses(strategy, step)
                strategy.zero_grad()
                every.mean().backward()
                gradients = {
                    key: parameter.grad
                    for key, parameter in strategy.named_parameters()
                    if parameter.grad is not None
                }
                found.append((every.detach(), gradients))
        for (one, gradients), (other, same) in zip(found[:2], found[2:], strict=True):
            torch.testing.assert_close(one, other)
            assert gradients.keys() == same.keys()
            for key, gradient in gradients.items():
                torch.testing.assert_close(gradient, same[key], atol=1e-7, rtol=1e-5, msg=key)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", ["hard_sharing", "soft_sharing", "task_signal"])
def test_nothing_is_compiled_anew_after_the_first_shapes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first block has a graph for each shape of a batch, a last one for each with each number of states that are
    read. Steps that are seen a second time compile nothing."""
    counting = CompileCounterWithBackend("eager")
    monkeypatch.setattr(compilation, "BACKEND", counting)
    torch._dynamo.reset()
    strategy = next(trained(name, {}, SHAPE))
    fixed, loose = (steps(strategy, fixed=fixed) for fixed in (True, False))
    graphs = []
    with compiled(strategy, Decision(True, "a test", fixed=True)):
        for _ in range(2):
            for step in fixed:
                losses(strategy, step).sum().backward()
            graphs.append(counting.frame_count)
    shapes = {(one.tokens.shape, one.mask is None) for step in fixed for one in step}
    assert len(shapes) < len({one.tokens.shape for step in loose for one in step}) / 2
    # Numbers of states that are read: a power of two and the next.
    assert len(shapes) <= graphs[0] == graphs[1] <= 3 * len(shapes)
