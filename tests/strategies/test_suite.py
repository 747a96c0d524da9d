"""The conformance suite finds what breaks a promise: strategies that are right but for one thing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtl.config.strategies import load_strategy_class
from mtl.learning.strategy import Stage, Strategy
from mtl.testing.strategies import StrategyConformance

HardSharing = load_strategy_class("hard_sharing")


class Stages(HardSharing):
    def __init__(self, *stages: Stage):
        super().__init__()
        self._stages = stages

    def stages(self):
        return self._stages


class Rates(HardSharing):
    def __init__(self, rates):
        super().__init__()
        self._rates = rates

    def rates(self, sizes):
        return self._rates(sizes)


class SharedHead(HardSharing):
    """The first task's head is said to be everybody's own."""

    def own_parameters(self, task):
        return self.heads.parameters_of(self.tasks[0])


class TrunkOfOne(HardSharing):
    """The trunk is said to serve the first task alone."""

    def own_parameters(self, task):
        return self.decoder.parameters() if task is self.tasks[0] else ()


class Stranger(HardSharing):
    """What is said to be a task's own is no part of the model."""

    def own_parameters(self, task):
        return [nn.Parameter(torch.zeros(3))]


class Grown(HardSharing):
    """Building again keeps what was learnt."""

    def build(self, decoder, tasks, vocabulary, *, seed=0):
        kept = getattr(self, "heads", None)
        super().build(decoder, tasks, vocabulary, seed=seed)
        self.heads = kept or self.heads


class HalfClipped(HardSharing):
    """The heads are clipped, the trunk is forgotten."""

    def clipping_groups(self):
        return [list(self.heads.parameters())]


class Neighbourly(HardSharing):
    """A batch of one task is scored differently."""

    def losses(self, batch):
        return super().losses(batch) * len(batch.task.unique())


def breaks(strategy, check: str) -> bool:
    class Suite(StrategyConformance):
        def strategy(self) -> Strategy:
            return strategy()

    try:
        getattr(Suite(), check)()
    except (AssertionError, TypeError):
        return True
    return False


STAGES = "test_stages_share_the_budget_and_copies_come_last"
RATES = "test_rates_of_its_own_name_each_task_in_the_order_given"
OWN = "test_own_parameters_serve_their_task_alone"


@pytest.mark.parametrize(
    ("strategy", "check"),
    [
        (lambda: Stages(), STAGES),
        (lambda: Stages(Stage("one", share=0.5)), STAGES),
        (lambda: Stages(Stage("one", share=0.5), Stage("one", share=0.5)), STAGES),
        (lambda: Stages(Stage("one", each=True, share=0.5), Stage("two", share=0.5)), STAGES),
        (lambda: Stages(Stage("one", share=1.5), Stage("two", share=-0.5)), STAGES),
        (lambda: Stages(Stage("one", schedule={"warm_up": 0.1})), STAGES),
        (lambda: Rates(lambda sizes: {"review": 1.0}), RATES),
        (lambda: Rates(lambda sizes: dict.fromkeys(reversed(list(sizes)), 0.25)), RATES),
        (lambda: Rates(lambda sizes: dict.fromkeys(sizes, 1.0)), RATES),
        (SharedHead, OWN),
        (TrunkOfOne, OWN),
        (Stranger, OWN),
        (Grown, "test_built_once_more_it_starts_over"),
        (HalfClipped, "test_every_parameter_is_clipped_in_one_group"),
        (Neighbourly, "test_a_batch_of_one_task_has_the_losses_of_a_mixed_one"),
    ],
)
def test_a_broken_promise_is_found(strategy, check):
    assert breaks(strategy, check)
    assert not breaks(HardSharing, check)


def test_what_keeps_the_promise_is_let_through():
    stages = (
        Stage("all", share=0.75, schedule={"warmup": 0.2}),
        Stage("each", each=True, share=0.25),
    )
    assert not breaks(lambda: Stages(*stages), STAGES)
    assert not breaks(lambda: Rates(lambda sizes: dict.fromkeys(sizes, 0.25)), RATES)
