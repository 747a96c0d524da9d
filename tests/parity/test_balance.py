"""Directions of the gradient methods, against the formulas of the papers and against TorchJD on whole graphs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchjd.aggregation import CAGrad, GradDrop, NashMTL
from torchjd.autojac import mtl_backward

from mtl.config.schema import BalanceConfig, DecoderConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import collate
from mtl.decoder.gpt import Decoder
from mtl.learning import heads
from mtl.learning.balance.gradients import BLOCK, Aggregation
from mtl.learning.balance.methods import make_balance
from mtl.learning.balance.step import BalancedStep
from mtl.learning.readout import read_states
from mtl.testing.strategies import CONTEXT, TASKS, base_vocabulary, examples

METHODS = (
    BalanceConfig(name="pcgrad"),
    BalanceConfig(name="cagrad", c=0.4),
    BalanceConfig(name="mgda"),
    BalanceConfig(name="imtl_g"),
    BalanceConfig(name="nash", max_norm=0.0),
    BalanceConfig(name="aligned"),
    BalanceConfig(name="upgrad"),
    BalanceConfig(name="gradvac", beta=0.5),
    BalanceConfig(name="graddrop"),
)
BY_NAME = {config.name: config for config in METHODS}
CONFLICTING = [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]
THREE = [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0], [1.0, 2.0, -1.0]]
EVERY = pytest.mark.parametrize("config", METHODS, ids=lambda config: config.name)


def made(config: BalanceConfig, tasks: int = 3) -> Aggregation:
    balance = make_balance(config, "abcdefgh"[:tasks], [1] * tasks, "mixed")
    assert isinstance(balance, Aggregation)
    return balance


def direction(config, rows, present=None, balance=None) -> np.ndarray:
    rows = torch.as_tensor(rows)
    present = torch.ones(len(rows), dtype=torch.bool) if present is None else torch.tensor(present)
    torch.manual_seed(3)
    found, weights = (balance or made(config, len(rows))).direction(rows, present)
    if weights is not None:
        torch.testing.assert_close(weights @ rows, found, rtol=1e-4, atol=1e-5)
    return found.double().numpy()


def named(name, rows, **more):
    return direction(replace(BY_NAME[name], **more), rows)


def test_pcgrad_projects_each_conflicting_gradient_onto_the_others_normal_plane():
    one, two = map(np.array, CONFLICTING)
    product = one @ two
    wanted = (one - product / (two @ two) * two) + (two - product / (one @ one) * one)
    assert named("pcgrad", CONFLICTING) == pytest.approx(wanted, rel=1e-5)
    assert named("pcgrad", [[1.0, 0.0], [1.0, 2.0]]) == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize("rows", [CONFLICTING, [[1.0, 0.0], [3.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])
def test_mgda_of_two_tasks_is_the_shortest_convex_combination(rows):
    one, two = map(np.array, rows)
    share = np.clip((two - one) @ two / ((one - two) @ (one - two)), 0, 1)
    assert named("mgda", rows) == pytest.approx(share * one + (1 - share) * two, abs=1e-4)


def test_imtl_g_projects_alike_onto_every_unit_gradient():
    found = named("imtl_g", THREE)
    projections = [found @ np.array(row) / np.linalg.norm(row) for row in THREE]
    assert projections == pytest.approx([projections[0]] * 3, rel=1e-3)


def test_cagrad_is_the_mean_at_radius_zero_and_stays_within_its_radius():
    mean = np.mean(THREE, axis=0)
    assert named("cagrad", THREE, c=0.0) == pytest.approx(mean, rel=1e-4)
    found = named("cagrad", THREE)
    assert np.linalg.norm(found - mean) == pytest.approx(0.4 * np.linalg.norm(mean), rel=1e-3)
    # No other direction within the radius serves the worst served task better.
    worst = min(np.array(THREE) @ found)
    random = np.random.default_rng(0)
    for step in random.normal(size=(500, 3)):
        other = mean + 0.4 * np.linalg.norm(mean) * step / np.linalg.norm(step)
        assert min(np.array(THREE) @ other) <= worst + 1e-3


@pytest.mark.parametrize("tasks", [2, 3, 8])
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
def test_cagrad_is_torchjds(tasks: int, c: float):
    """To what the solver stops at: no task is worse served, in lengths of the mean."""
    random = np.random.default_rng(tasks)
    ours = made(replace(BY_NAME["cagrad"], c=c), tasks)
    for _ in range(5):
        rows = random.normal(size=(tasks, 40)) + random.normal(size=(1, 40))
        rows *= 10 ** random.uniform(-1, 1, size=(tasks, 1))
        mean = np.linalg.norm(rows.mean(0))
        found = direction(None, rows, balance=ours)
        wanted = CAGrad(c)(torch.tensor(rows)).numpy()
        assert np.linalg.norm(found - wanted) < 1e-3 * mean
        assert min(rows @ found) > min(rows @ wanted) - 1e-5 * mean**2
        assert np.linalg.norm(found - rows.mean(0)) == pytest.approx(c * mean, rel=1e-6)


def test_cagrad_goes_the_same_way_at_every_scale():
    """TorchJD's stands still where the gradients together are shorter than 0.01."""
    rows = np.array(THREE)
    found = [direction(BY_NAME["cagrad"], rows * scale) / scale for scale in (1.0, 1e-4, 1e3)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)


def test_nash_weights_solve_the_bargain():
    """G G' alpha = 1 / alpha, up to the scale of the gradients."""
    rows = torch.tensor(THREE)
    _, weights = made(BY_NAME["nash"]).direction(rows, torch.tensor([True] * 3))
    left = (rows @ rows.T @ weights) * weights
    assert left.tolist() == pytest.approx([left.mean().item()] * 3, rel=0.05)


def test_nash_is_as_long_as_its_limit():
    found = named("nash", [[40.0, 1.0], [3.0, 50.0]], max_norm=0.25)
    assert np.linalg.norm(found) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("tasks", [2, 3, 8])
@pytest.mark.parametrize("max_norm", [0.0, 1.0])
@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
def test_nash_is_torchjds_step_after_step(tasks: int, max_norm: float):
    """Of gradients whose lengths are within a factor of 10 of each other. Further apart the last digits of a solution
    decide how many more follow it, and both go ways of their own."""
    ours = made(replace(BY_NAME["nash"], max_norm=max_norm), tasks)
    theirs = NashMTL(tasks, max_norm)
    random = np.random.default_rng(tasks)
    for _ in range(5):
        common = random.normal(size=(1, 40))
        rows = random.normal(size=(tasks, 40)) + common * random.uniform(0, 1, size=(tasks, 1))
        rows *= 10 ** random.uniform(-0.5, 0.5, size=(tasks, 1))
        wanted = theirs(torch.tensor(rows)).numpy()
        found = direction(None, rows, balance=ours)
        # The solver is told to stop at 1e-8 of the optimum.
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.linalg.norm(wanted))


def test_aligned_gradients_are_orthogonal_and_as_long_as_the_smallest_singular_value():
    left, values, right = np.linalg.svd(np.array(THREE), full_matrices=False)
    wanted = np.mean(values[-1] * left @ right, axis=0)
    assert named("aligned", THREE) == pytest.approx(wanted, rel=1e-3)


def test_upgrad_is_the_value_its_authors_print():
    assert named("upgrad", CONFLICTING) == pytest.approx([0.2929, 1.9004, 1.9004], abs=1e-4)


def test_gradvac_turns_a_gradient_to_the_usual_similarity():
    balance = made(BY_NAME["gradvac"], 2)
    rows = [[1.0, 0.0], [1.0, 1.0]]
    assert direction(None, rows, balance=balance) == pytest.approx([2.0, 1.0])
    usual = 0.5 * math.sqrt(0.5)
    assert balance.targets[0, 1].item() == pytest.approx(usual, rel=1e-5)
    one, two = np.array([1.0, 0.0]), np.array([0.0, 2.0])
    found = direction(None, [one.tolist(), two.tolist()], balance=balance)
    # Equation 6 of the paper, for a cosine of 0.
    turned_one = one + usual * 1 / (2 * math.sqrt(1 - usual**2)) * two
    turned_two = two + usual * 2 / (1 * math.sqrt(1 - usual**2)) * one
    assert found == pytest.approx(turned_one + turned_two, rel=1e-4)
    assert turned_one @ two / np.linalg.norm(turned_one) / 2 == pytest.approx(usual)


def test_graddrop_keeps_one_sign_of_each_coordinate():
    rows = [[1.0] * 4000 + [-2.0], [-3.0] * 4000 + [-1.0]]
    found = direction(BY_NAME["graddrop"], rows)
    assert set(found[:-1].tolist()) == {1.0, -3.0}
    # The positive sign's purity is (1 + (1 - 3) / (1 + 3)) / 2.
    assert (found[:-1] == 1.0).mean() == pytest.approx(0.25, abs=0.03)
    assert found[-1] == -3.0


@EVERY
def test_identical_tasks_go_the_way_of_each(config):
    row = np.array([1.0, -2.0, 0.5])
    found = direction(config, [row.tolist()] * 3)
    cosine = found @ row / np.linalg.norm(found) / np.linalg.norm(row)
    assert cosine == pytest.approx(1.0, abs=1e-5)


@EVERY
def test_one_task_goes_its_own_way(config):
    assert direction(config, [[3.0, -1.0]]).tolist() == [3.0, -1.0]
    only = direction(config, THREE, [False, True, False])
    assert only.tolist() == THREE[1]


@EVERY
def test_absent_and_silent_tasks_are_as_if_there_were_none(config):
    two = direction(config, CONFLICTING)
    rows = [CONFLICTING[0], [9.0, 9.0, 9.0], CONFLICTING[1]]
    np.testing.assert_array_equal(direction(config, rows, [True, False, True]), two)
    rows[1] = [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(direction(config, rows), two)
    assert direction(config, [[0.0, 0.0]] * 3).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["gradvac", "nash"])
def test_the_state_of_absent_tasks_stays(name):
    balance = made(BY_NAME[name])
    direction(None, THREE, balance=balance)
    before = {key: value.clone() for key, value in balance.state_dict().items()}
    other = [[-3.0, 1.0, 1.0], THREE[1], [1.0, 1.0, -1.0]]
    direction(None, other, [True, False, True], balance=balance)
    ((key, after),) = balance.state_dict().items()
    changed = after != before[key]
    touched = torch.tensor([True, False, True])
    if after.dim() == 2:
        touched = (touched[:, None] & touched) & ~torch.eye(3, dtype=torch.bool)
    assert changed.tolist() == touched.tolist()


@EVERY
def test_a_restored_state_goes_on_alike(config):
    random = np.random.default_rng(1)
    steps = [(random.normal(size=(3, 8)).tolist(), [True, step % 3 > 0, True]) for step in range(8)]

    def go_on(balance, steps):
        return [direction(None, *step, balance=balance).tolist() for step in steps]

    one = made(config)
    go_on(one, steps[:4])
    torch.save(one.state_dict(), "state")
    other = made(config)
    other.load_state_dict(torch.load("state", weights_only=True))
    assert go_on(one, steps[4:]) == go_on(other, steps[4:])


@given(
    st.sampled_from(METHODS),
    st.integers(2, 4),
    st.integers(0, 2**32 - 1),
    st.integers(-3, 3),
)
def test_every_direction_is_finite_at_every_scale(config, tasks, seed, exponent):
    rows = np.random.default_rng(seed).normal(size=(tasks, 6)) * 10.0**exponent
    rows[0] *= 1e3
    assert np.isfinite(direction(config, rows.astype(np.float32).tolist())).all()


def built(name: str, tasks=TASKS):
    strategy = load_strategy_class(name)()
    vocabulary = base_vocabulary().with_special(strategy.special_tokens(tasks))
    shape = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)
    decoder = Decoder(shape, vocabulary.size, seed=1)
    strategy.build(decoder, tasks, vocabulary, seed=2)
    return strategy.train()


def batches(strategy, rows=3):
    """Of each task, with weights that sum to 1 over its rows."""
    made = []
    for index, task in enumerate(strategy.tasks):
        encoded = [
            strategy.encode(example, task, strategy.vocabulary, CONTEXT, "train")[0]
            for example in examples(task, rows)
        ]
        made.append(collate(encoded, tasks=[index] * rows, rows=range(rows)))
    return made


@pytest.mark.parametrize("name", ["hard_sharing", "mixed_batch"])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_rows_are_those_of_mtl_backward(name, count, monkeypatch):
    """With heads, all paths from a loss to the trunk go through the states that are read; a second step forgets the
    first."""
    tasks = [
        replace(task, config=replace(task.config, name=f"task{i}"))
        for i, task in enumerate(itertools.islice(itertools.cycle(TASKS), count))
    ]
    strategy = built(name, tasks)
    step = BalancedStep(made(BY_NAME["mgda"], count), strategy, separate=True)
    step.begin(range(count))
    step.separately(batches(strategy, rows=2))
    parts = batches(strategy)
    step.begin(range(count))
    step.separately(parts)
    rows = step.rows
    rows.close()

    features, losses = [], []

    def noted(*arguments):
        features.append(read_states(*arguments))
        return features[-1]

    monkeypatch.setattr(heads, "read_states", noted)
    for batch in parts:
        losses.append((strategy.losses(batch) * batch.weight).sum())
    own = [list(strategy.own_parameters(task)) for task in tasks]
    used = list(itertools.compress(rows.shared, rows.used.tolist()))
    mtl_backward(losses, features, tasks_params=own, shared_params=used, parallel_chunk_size=1)
    jacobian = torch.cat([p.jac.flatten(1) for p in used], dim=1)
    parts = rows.rows.split([p.numel() for p in rows.shared], dim=1)
    mine = torch.cat(list(itertools.compress(parts, rows.used.tolist())), dim=1)
    torch.testing.assert_close(mine, jacobian, atol=1e-6, rtol=0)
    assert rows.rows.abs().sum() == pytest.approx(mine.abs().sum().item())
    for task, parameters in enumerate(own):
        gradients = torch.cat([p.grad.flatten() for p in parameters])
        torch.testing.assert_close(rows.own_rows[task], gradients, atol=1e-6, rtol=0)


def test_the_row_of_a_task_that_a_step_lacks_is_zero():
    strategy = built("hard_sharing")
    step = BalancedStep(made(BY_NAME["mgda"], len(TASKS)), strategy, separate=True)
    step.begin(range(len(TASKS)))
    step.separately(batches(strategy))
    step.begin([1])
    step.separately(batches(strategy)[1:2])
    assert step.finish(seed=0, world=1)
    assert [bool(row.any()) for row in step.rows.rows] == [i == 1 for i in range(len(TASKS))]
    assert not step.rows.own_rows[0].any()


@pytest.mark.parametrize("size", [64, 3 * BLOCK + 5])
def test_sign_dropout_is_torchjds(size):
    """In one block from the same draws; in several each coordinate is still what is kept of one sign."""
    rows = torch.randn(4, size)
    rows[:, 5] = 0
    balance = made(BY_NAME["graddrop"], 4)
    torch.manual_seed(3)
    found, _ = balance.direction(rows, torch.ones(4, dtype=torch.bool))
    torch.manual_seed(3)
    if size <= BLOCK:
        torch.testing.assert_close(found, GradDrop()(rows))
    positive, negative = rows.clamp_min(0).sum(0), rows.clamp_max(0).sum(0)
    nearest = torch.minimum((found - positive).abs(), (found - negative).abs())
    assert nearest.max() < 1e-5


@pytest.mark.parametrize("name", ["hard_sharing", "task_signal"])
def test_separate_passes_sum_to_the_gradient_of_the_summed_losses(name):
    """Tied embeddings get theirs through the read-out too."""
    strategy = built(name)
    balance = made(BY_NAME["mgda"], len(TASKS))
    step = BalancedStep(balance, strategy, separate=True)
    step.begin(range(len(TASKS)))
    parts = batches(strategy)
    step.separately(parts)
    step.rows.close()
    ones = torch.ones(len(TASKS))
    step.rows.write(step.rows.rows.sum(0), ones, ones.bool())
    found = {n: p.grad for n, p in strategy.named_parameters()}
    strategy.zero_grad()
    sum((strategy.losses(batch) * batch.weight).sum() for batch in parts).backward()
    for key, parameter in strategy.named_parameters():
        if parameter.grad is None:
            assert found[key] is None, key
        else:
            torch.testing.assert_close(found[key], parameter.grad, atol=1e-6, rtol=1e-4, msg=key)


def test_tasks_in_one_batch_have_the_rows_of_tasks_apart():
    strategy = built("hard_sharing")
    parts = batches(strategy)
    encoded = [one for batch in parts for one in batch.encoded]
    tasks = [index for index, batch in enumerate(parts) for _ in batch.encoded]
    mixed = collate(
        encoded,
        tasks=tasks,
        rows=range(len(tasks)),
        weights=np.concatenate([batch.weight for batch in parts]),
    )
    found = []
    for given_batches in (parts, [mixed]):
        step = BalancedStep(made(BY_NAME["mgda"], len(TASKS)), strategy, separate=True)
        step.begin(range(len(TASKS)))
        step.separately(given_batches)
        found.append([step.losses, step.rows.rows, *step.rows.own_rows])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


class Quadratic(nn.Module):
    """K losses on a shared vector and a number of each task's own."""

    def __init__(self, targets):
        super().__init__()
        self.tasks = tuple(range(len(targets)))
        self.targets = torch.tensor(targets)
        self.shared = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.own = nn.ParameterList([torch.tensor([1.0 + k]) for k in self.tasks])
        self.idle = nn.Parameter(torch.ones(2))

    def own_parameters(self, task):
        return [self.own[task]]


def test_what_no_task_of_the_step_uses_has_no_gradient():
    """So the optimizer passes over it, as it does where the losses are only added."""
    model = Quadratic([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    step = BalancedStep(made(BY_NAME["mgda"]), model, separate=True)
    step.begin([0, 2])
    for task in (0, 2):
        loss = ((model.shared - model.targets[task]) ** 2).sum() * model.own[task].sum()
        step.rows.add(task, loss)
    assert step.finish(seed=0, world=1)
    assert model.idle.grad is None
    assert model.own[1].grad is None
    for task in (0, 2):
        wanted = ((model.shared - model.targets[task]) ** 2).sum().item()
        assert model.own[task].grad.item() == pytest.approx(wanted)
    first, third = (
        2 * (model.shared - model.targets[task]).detach() * model.own[task].detach()
        for task in (0, 2)
    )
    shares = [a * first + (1 - a) * third for a in np.linspace(0, 1, 2001)]
    shortest = min(shares, key=lambda row: row.norm().item())
    torch.testing.assert_close(model.shared.grad, shortest, atol=5e-3, rtol=0)


def test_a_gradient_that_is_not_finite_goes_nowhere():
    model = Quadratic([[1.0, 0.0], [0.0, 1.0]])
    step = BalancedStep(made(BY_NAME["cagrad"], 2), model, separate=True)
    step.begin([0, 1])
    step.rows.add(0, (model.shared**2).sum())
    step.rows.add(1, (model.shared * math.inf).sum())
    assert not step.finish(seed=0, world=1)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_draws_of_a_step_follow_from_its_seed_alone():
    rows = torch.randn(3, 50)
    for name in ("pcgrad", "graddrop", "gradvac"):
        found = []
        for seed, noise in itertools.product((1, 2), (0, 1)):
            model = Quadratic([[0.0, 0.0]] * 3)
            model.shared = nn.Parameter(torch.zeros(50))
            step = BalancedStep(made(BY_NAME[name]), model, separate=True)
            step.begin([0, 1, 2])
            for task, row in enumerate(rows):
                step.rows.add(task, row @ model.shared)
            torch.manual_seed(noise)
            assert step.finish(seed=seed, world=1)
            found.append(step.rows.shared[0].grad)
        assert found[0].equal(found[1])
        assert found[2].equal(found[3])
        assert not found[0].equal(found[2])
