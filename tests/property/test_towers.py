"""The steps that pull towers together are the proximal steps of their penalties, whatever the towers."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtl.config.schema import DecoderConfig
from mtl.decoder.gpt import Decoder
from mtl.learning.towers import approach_mean, corresponding, shrink_singular_values

TOWERS = st.integers(1, 6)
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
SEEDS = st.integers(0, 9999)
SCALES = st.sampled_from([1e-3, 1.0, 1e3])


def drawn(towers: int, shape: tuple[int, ...], seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * scale for _ in range(towers)]


@given(TOWERS, SHAPES, SEEDS, st.floats(1e-3, 1e3))
def test_approaching_the_mean_minimises_the_sum_of_squared_distances(
    towers: int, shape: tuple[int, ...], seed: int, pull: float
) -> None:
    """The gradient of ||x - theta||^2 / 2 + pull * sum_{s<t} ||x_s - x_t||^2 is 0 where the step ends."""
    before = drawn(towers, shape, seed)
    after = [tensor.clone() for tensor in before]
    approach_mean(after, 1 / (1 + 2 * pull * towers))
    x = torch.stack(after).double().requires_grad_()
    distances = sum((x[s] - x[t]).square().sum() for s in range(towers) for t in range(s))
    ((x - torch.stack(before)).square().sum() / 2 + pull * distances).backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) < 1e-5 * (1 + pull * towers)


@given(TOWERS, SHAPES, SEEDS)
def test_all_the_way_to_the_mean_all_are_equal_and_no_way_leaves_them(
    towers: int, shape: tuple[int, ...], seed: int
) -> None:
    before = drawn(towers, shape, seed)
    there, here = [t.clone() for t in before], [t.clone() for t in before]
    approach_mean(there, 0.0)
    approach_mean(here, 1.0)
    assert all(torch.equal(tensor, there[0]) for tensor in there)
    torch.testing.assert_close(there[0], torch.stack(before).mean(0))
    torch.testing.assert_close(here, before)


@given(TOWERS, st.lists(SHAPES, min_size=1, max_size=3), SEEDS, SCALES, st.floats(0, 1.2))
def test_singular_values_are_soft_thresholded_as_by_a_decomposition(
    towers: int, shapes: list[tuple[int, ...]], seed: int, scale: float, share: float
) -> None:
    stacks = [drawn(towers, shape, seed + n, scale) for n, shape in enumerate(shapes)]
    thresholds, expected = [], []
    for stack in stacks:
        matrix = torch.stack([tensor.flatten() for tensor in stack]).double()
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        thresholds.append(float(values[0]) * share)
        shrunk = left @ torch.diag((values - thresholds[-1]).clamp(min=0)) @ right
        expected.append([row.view_as(stack[0]).float() for row in shrunk])
    shrink_singular_values(stacks, thresholds)
    torch.testing.assert_close(stacks, expected, atol=2e-5 * scale, rtol=1e-4)


@given(TOWERS, SEEDS)
def test_equal_towers_keep_their_rank_and_zeros_stay(towers: int, seed: int) -> None:
    (one,) = drawn(1, (4, 3), seed)
    equal, zeros = [one.clone() for _ in range(towers)], [torch.zeros(4, 3) for _ in range(towers)]
    norm = float(torch.stack(equal).norm())
    shrink_singular_values([equal, zeros], [norm * 1e-3, 0.5])
    torch.testing.assert_close(equal, [one * (1 - 1e-3)] * towers)
    assert not torch.stack(zeros).any()


def test_weights_are_those_of_the_block() -> None:
    shape = DecoderConfig(name="micro", layers=2, width=8, heads=2, context=8)
    towers = [Decoder(shape, 11, seed=seed) for seed in range(3)]
    names = [name for name, _ in towers[0].named_parameters()]
    found = list(corresponding(towers, [2.0, 3.0]))
    for name, (weight, same) in zip(names, found, strict=True):
        block = name.split(".")[1] if name.startswith("blocks.") else None
        assert weight == {None: 1.0, "0": 2.0, "1": 3.0}[block]
        assert [id(p) for p in same] == [id(tower.get_parameter(name)) for tower in towers]
    assert {weight for weight, _ in corresponding(towers)} == {1.0}
