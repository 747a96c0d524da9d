"""The benchmark of packing reckons rightly, and its sides do the same work; how fast is not tested."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.learning.readout import hidden_states

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/packing.py"
SHAPE = DecoderConfig(name="test", layers=2, width=32, heads=2, context=256)


@pytest.fixture(scope="module")
def packing() -> Iterator[ModuleType]:
    """The script, which imports its private modules as one that is run."""
    spec = importlib.util.spec_from_file_location("packing_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "packing_benchmark", module)
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
        yield module


def test_both_layouts_give_the_same_states_at_real_tokens(packing: ModuleType) -> None:
    """Text by text; a padded text stands at the start of its row."""
    encoded, tasks = packing.texts(np.array([5, 17, 2, 9, 17, 30]))
    weights = np.full(6, 1 / 6, dtype=np.float32)
    packed, padded = (lay(encoded, tasks, weights) for lay in (packing.packed, packing.padded))
    assert packed.tokens.shape[0] < padded.tokens.shape[0] == 6
    decoder = packing.strategy_of(SHAPE).decoder
    with torch.no_grad():
        ours, usual = hidden_states(decoder, packed), hidden_states(decoder, padded)
    for text, one in enumerate(encoded):
        length = len(one.tokens)
        end, row = int(packed.branch_ends[text]), text * padded.tokens.shape[1]
        assert int(padded.branch_ends[text]) == row + length - 1
        torch.testing.assert_close(
            ours[end - length + 1 : end + 1], usual[row : row + length], atol=1e-5, rtol=1e-5
        )


def test_all_sides_have_the_same_losses_and_gradients(packing: ModuleType) -> None:
    laid = packing.batches(packing.lognormal_lengths(64, 20, 12))
    gradients = []
    for side, layout in (
        (packing.Side, "packed"),
        (packing.Usual, "padded"),
        (packing.Side, "padded"),
    ):
        strategy = packing.strategy_of(SHAPE)
        (batch,) = laid[layout]
        losses = side(strategy, laid[layout]).losses(batch)
        (losses * batch.weight).sum().backward()
        gradients.append([losses.detach(), *(p.grad for p in strategy.parameters())])
    assert len(gradients[0][0]) == 64
    assert gradients[0][0].std() > 0.01
    for others in gradients[1:]:
        for ours, theirs in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_lengths_have_the_mean_and_deviation_asked_for(packing: ModuleType) -> None:
    for mean, deviation in ((20, 12), (60, 60)):
        lengths = packing.lognormal_lengths(20_000, mean, deviation)
        assert lengths.min() >= 2
        assert lengths.max() <= 256
        assert lengths.mean() == pytest.approx(mean, rel=0.05)  # the longest are cut
        assert lengths.std() == pytest.approx(deviation, rel=0.2)


def test_share_of_real_tokens(packing: ModuleType) -> None:
    """Texts of 4, 4 and 8 tokens fill two rows of 8; padded they take three."""
    encoded, tasks = packing.texts(np.array([4, 8, 4]))
    weights = np.full(3, 1 / 3, dtype=np.float32)
    assert packing.share([packing.packed(encoded, tasks, weights)]) == 1.0
    assert packing.share([packing.padded(encoded, tasks, weights)]) == pytest.approx(2 / 3)


def test_summary_of_planted_times(packing: ModuleType) -> None:
    """The first pair warms up. Packed takes 1 and 2 s, padded 3 and 4 s, for 60 tokens."""
    clocks = sys.modules["_measuring"].Clocks
    pairs = {
        "packed": [clocks(9, 9), clocks(1, 10), clocks(2, 20)],
        "padded": [clocks(9, 9), clocks(3, 10), clocks(4, 20)],
    }
    found = packing.summarise(pairs, "wall", 60)
    assert found["packed"]["tokens_per_second"] == 40
    assert found["padded"]["packed_over_it"] == {"low": 2.0, "median": 2.5, "high": 3.0}
    assert packing.summarise(pairs, "processor", 60)["padded"]["packed_over_it"]["high"] == 1.0


def test_lengths_that_are_none(packing: ModuleType) -> None:
    with pytest.raises(UserError, match="mean:deviation"):
        packing.measure("micro", "20", packing.DEFAULTS)
