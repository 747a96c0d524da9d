"""The learning rate over the budget, and which parameters decay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.schema import OptimizerConfig
from mtl.learning.schedule import adamw, multiplier

CONFIG = OptimizerConfig(warmup=0.1, final=0.2)


def test_known_points() -> None:
    assert multiplier(0.05, CONFIG) == pytest.approx(0.5)
    assert multiplier(0.1, CONFIG) == pytest.approx(1.0)
    assert multiplier(0.55, CONFIG) == pytest.approx(0.6)
    assert multiplier(1.0, CONFIG) == pytest.approx(0.2)
    assert multiplier(0.5, OptimizerConfig(warmup=0.0, final=0.0)) == pytest.approx(0.5)
    assert multiplier(0.25, OptimizerConfig(warmup=1.0)) == pytest.approx(0.25)


@given(st.floats(0.001, 1), st.floats(0.001, 1))
def test_rises_then_falls_and_stays_between(one: float, two: float) -> None:
    early, late = sorted((one, two))
    assert 0 < multiplier(early, CONFIG) <= 1
    if early >= CONFIG.warmup:
        assert multiplier(early, CONFIG) >= multiplier(late, CONFIG) - 1e-12
    if late <= CONFIG.warmup:
        assert multiplier(early, CONFIG) <= multiplier(late, CONFIG) + 1e-12


def test_only_matrices_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    groups = adamw(module, OptimizerConfig(weight_decay=0.3), fused=False).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.3), (3, 0.0)]
