"""Weights of the tasks' losses by every method, against the formulas of the papers; state; what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.schema import BalanceConfig, FitConfig
from mtl.learning.balance import methods
from mtl.learning.balance.methods import (
    METHODS,
    check_balance,
    check_shared,
    make_balance,
    separate_gradients,
    within_tasks,
)
from mtl.learning.balance.scalarizers import Scalarizer
from mtl.learning.reduction import REDUCTIONS
from mtl.learning.strategy import Stage

TASKS = ("a", "b", "c")
LOSSES = (0.5, 2.0, 4.0)
ALL = torch.tensor([True, True, True])
WITHOUT_B = torch.tensor([True, False, True])
SCALARIZERS = (
    BalanceConfig(name="static", weights={"a": 1.0, "b": 3.0, "c": 4.0}),
    BalanceConfig(name="size"),
    BalanceConfig(name="random"),
    BalanceConfig(name="uncertainty"),
    BalanceConfig(name="imtl_l"),
    BalanceConfig(name="dwa", temperature=2.0, every=2),
    BalanceConfig(name="famo", learning_rate=0.025, weight_decay=1e-3),
    BalanceConfig(name="geometric_mean"),
    BalanceConfig(name="stch", mu=0.5),
)


def made(config: BalanceConfig, composition="mixed") -> Scalarizer:
    balance = make_balance(config, TASKS, (10, 20, 70), composition)
    assert isinstance(balance, Scalarizer)
    return balance


def named(name: str, **more) -> Scalarizer:
    (config,) = (config for config in SCALARIZERS if config.name == name)
    return made(replace(config, **more))


def weights(balance, losses=LOSSES, present=ALL) -> list[float]:
    torch.manual_seed(5)
    return balance.weights(torch.tensor(losses), present).tolist()


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def drawn(count: int) -> list[float]:
    torch.manual_seed(5)
    return softmax(torch.randn(count).tolist())


def expected(name: str, losses) -> list[float]:
    """Derivatives of the first step's combined loss, from the paper's formula."""
    count = len(losses)
    if name == "random":
        return drawn(count)
    if name == "uncertainty":  # sum of exp(-s) l / 2 + s / 2, s = 0
        return [0.5] * count
    if name == "imtl_l":  # sum of exp(s) l - s, s = 0
        return [1.0] * count
    if name == "dwa":
        return [1.0] * count
    if name == "famo":  # equal logits: z / l, scaled so that z / l * c sums to 1
        return [1 / loss / sum(1 / other for other in losses) for loss in losses]
    if name == "geometric_mean":
        return [math.prod(losses) ** (1 / count) / (count * loss) for loss in losses]
    assert name == "stch"  # mu log sum exp(l / (m mu)): its derivative
    return [part / count for part in softmax([loss / count / 0.5 for loss in losses])]


@pytest.mark.parametrize("config", SCALARIZERS[2:], ids=lambda config: config.name)
def test_first_weights_are_those_of_the_paper(config):
    assert weights(made(config)) == pytest.approx(expected(config.name, LOSSES), rel=1e-5)


def test_given_weights_and_rows_are_scaled_over_the_tasks_present():
    assert weights(named("static")) == pytest.approx([1 / 8, 3 / 8, 4 / 8])
    assert weights(named("size")) == pytest.approx([0.1, 0.2, 0.7])
    assert weights(named("static"), present=WITHOUT_B) == pytest.approx([1 / 5, 0, 4 / 5])
    assert weights(named("size"), present=WITHOUT_B) == pytest.approx([1 / 8, 0, 7 / 8])


def test_where_a_step_has_one_task_given_weights_have_the_mean_one():
    balance = made(SCALARIZERS[0], "one_task")
    only = [weights(balance, present=torch.arange(3) == k)[k] for k in range(3)]
    assert only == pytest.approx([3 / 8, 9 / 8, 12 / 8])


def test_a_step_of_tasks_that_weigh_nothing_moves_nothing():
    balance = named("static", weights={"a": 0.0, "b": 1.0, "c": 0.0})
    assert weights(balance, present=WITHOUT_B) == [0, 0, 0]


@pytest.mark.parametrize(
    "config",
    [c for c in SCALARIZERS if c.name not in ("static", "size", "dwa")],
    ids=lambda config: config.name,
)
def test_absent_tasks_have_no_influence(config):
    """The weights of two tasks are those of a run of the two; whatever stands for the third."""
    found = weights(made(config), (0.5, 7.0, 4.0), WITHOUT_B)
    assert found[1] == 0
    assert [found[0], found[2]] == pytest.approx(expected(config.name, (0.5, 4.0)), rel=1e-5)


@pytest.mark.parametrize("config", SCALARIZERS, ids=lambda config: config.name)
def test_a_single_task_weighs_the_same_whatever_its_loss(config):
    balance = make_balance(replace(config, weights={"a": 3.0}), ("a",), (10,), "mixed")
    found = [
        balance.weights(torch.tensor([loss]), torch.tensor([True])).item() for loss in (0.1, 9.0)
    ]
    share = 0.5 if config.name == "uncertainty" else 1.0
    assert found == pytest.approx([share, share], rel=1e-5)


@pytest.mark.parametrize("config", SCALARIZERS, ids=lambda config: config.name)
def test_a_loss_of_zero_is_an_ordinary_input(config):
    balance = made(config)
    losses = torch.tensor([0.0, 2.0, 4.0])
    for _ in range(5):
        torch.manual_seed(5)
        assert all(map(math.isfinite, weights(balance, losses.tolist())))
        balance.finish(losses, ALL)
        if balance.looks_back:
            balance.look_back(losses * 0.5, ALL)
    assert all(value.isfinite().all() for value in balance.state_dict().values() if _tensor(value))


def _tensor(value) -> bool:
    return isinstance(value, torch.Tensor)


@pytest.mark.parametrize(
    ("name", "derivative"),
    [
        ("uncertainty", lambda s, loss: (0.5 * math.exp(-s), 0.5 - 0.5 * math.exp(-s) * loss)),
        ("imtl_l", lambda s, loss: (math.exp(s), math.exp(s) * loss - 1)),
    ],
)
def test_learned_numbers_have_the_gradient_of_the_paper(name, derivative):
    balance = named(name)
    numbers = list(balance.parameters())
    for number, value in zip(numbers, (0.3, -1.0, 0.7), strict=True):
        nn.init.constant_(number, value)
    found = weights(balance)
    balance.finish(torch.tensor(LOSSES), ALL)
    for number, weight, loss in zip(numbers, found, LOSSES, strict=True):
        assert (weight, number.grad.item()) == pytest.approx(
            derivative(number.item(), loss), rel=1e-5
        )


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l"])
def test_the_number_of_an_absent_task_stays_although_the_optimizer_has_momentum(name):
    balance = named(name)
    optimizer = torch.optim.AdamW(balance.parameters(), lr=0.1, weight_decay=0)
    numbers = []
    for present in (ALL, WITHOUT_B):
        optimizer.zero_grad()
        balance.finish(torch.tensor(LOSSES), present)
        optimizer.step()
        numbers.append([parameter.item() for parameter in balance.parameters()])
    first, second = numbers
    assert first[1] == second[1] != 0
    assert first[0] != second[0]
    assert first[2] != second[2]


def test_dwa_follows_the_ratio_of_the_last_two_windows():
    balance = named("dwa")
    windows = (
        [(1.0, 4.0, 2.0), (3.0, 4.0, 2.0)],  # means 2, 4, 2
        [(1.0, 4.0, 1.0), (1.0, 4.0, 1.0)],  # means 1, 4, 1
    )
    for window in windows:
        assert weights(balance) == pytest.approx([1, 1, 1])
        for losses in window:
            balance.finish(torch.tensor(losses), ALL)
    shares = softmax([0.5 / 2, 1.0 / 2, 0.5 / 2])
    assert weights(balance) == pytest.approx([3 * share for share in shares])
    # One step into the third window nothing has changed; at its end the oldest is forgotten.
    balance.finish(torch.tensor([3.0, 4.0, 4.0]), ALL)
    assert weights(balance) == pytest.approx([3 * share for share in shares])
    balance.finish(torch.tensor([3.0, 4.0, 4.0]), ALL)
    shares = softmax([3.0 / 2, 1.0 / 2, 4.0 / 2])
    assert weights(balance) == pytest.approx([3 * share for share in shares])


def test_dwa_averages_a_task_over_the_steps_that_have_it():
    balance = named("dwa")
    for losses, present in (
        ((2.0, 8.0, 2.0), ALL),
        ((2.0, 0.0, 2.0), WITHOUT_B),
        ((1.0, 0.0, 2.0), WITHOUT_B),
        ((1.0, 0.0, 2.0), WITHOUT_B),  # a window without b
        ((1.0, 4.0, 2.0), ALL),
        ((1.0, 0.0, 2.0), WITHOUT_B),
    ):
        balance.finish(torch.tensor(losses), present)
    shares = softmax([1.0 / 2, 0.5 / 2, 1.0 / 2])
    assert weights(balance) == pytest.approx([3 * share for share in shares])
    assert weights(balance, present=WITHOUT_B)[1] == 0


def test_famo_moves_its_logits_by_the_change_of_the_logarithms():
    """The first step of its Adam is the learning rate in the direction of the gradient's sign."""
    balance = named("famo")
    weights(balance)
    after = (0.25, 2.0, 3.9)  # a has fallen most, b not at all
    balance.look_back(torch.tensor(after), ALL)
    changes = [math.log(before / then) for before, then in zip(LOSSES, after, strict=True)]
    mean = sum(changes) / 3
    logits = [0.025 * (-1 if change > mean else 1) for change in changes]
    moved = softmax(logits)
    wanted = [z / loss for z, loss in zip(moved, LOSSES, strict=True)]
    assert weights(balance) == pytest.approx([part / sum(wanted) for part in wanted], rel=1e-4)


def test_famo_leaves_what_belongs_to_an_absent_task():
    balance = named("famo")
    weights(balance)
    balance.look_back(torch.tensor([0.25, 1.9, 3.9]), ALL)
    before = {name: value.clone() for name, value in balance._vectors().items()}
    weights(balance, present=WITHOUT_B)
    balance.look_back(torch.tensor([0.2, 0.0, 3.0]), WITHOUT_B)
    after = balance._vectors()
    assert set(before) == set(after) == {"logits", "exp_avg", "exp_avg_sq"}
    for name, value in after.items():
        assert value[1] == before[name][1]
        assert (value[[0, 2]] != before[name][[0, 2]]).all()


def test_random_weights_are_new_at_every_step_and_sum_to_one():
    balance = named("random")
    torch.manual_seed(0)
    found = torch.stack([balance.weights(torch.tensor(LOSSES), ALL) for _ in range(400)])
    assert found.sum(1).tolist() == pytest.approx([1.0] * 400)
    assert len({row[0] for row in found.tolist()}) == 400
    assert found.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)


@pytest.mark.parametrize("config", SCALARIZERS, ids=lambda config: config.name)
def test_a_restored_state_goes_on_alike(config):
    one = made(config)

    def go_on(balance, steps):
        found = []
        for step in steps:
            losses = torch.tensor(LOSSES) / (1 + step + torch.arange(3.0))
            found.append(weights(balance, losses.tolist(), ALL if step % 3 else WITHOUT_B))
            balance.finish(losses, ALL if step % 3 else WITHOUT_B)
            with torch.no_grad():
                for parameter in balance.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.1 * parameter.grad
            if balance.looks_back:
                balance.look_back(losses * torch.tensor([0.9, 0.8, 0.7]), ALL)
        return found

    go_on(one, range(5))
    torch.save(one.state_dict(), "state")
    other = made(config)
    other.load_state_dict(torch.load("state", weights_only=True))
    assert go_on(one, range(5, 10)) == go_on(other, range(5, 10))


@given(
    st.sampled_from(sorted(REDUCTIONS)),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=20),
)
def test_weights_within_tasks_sum_to_one_and_keep_their_proportions(name, examples):
    terms, tasks = np.array(examples).T
    of_step = REDUCTIONS[name](terms, tasks)
    found = within_tasks(REDUCTIONS[name])(terms, tasks)
    for task in np.unique(tasks):
        own = tasks == task
        assert found[own].sum() == pytest.approx(1.0, rel=1e-5)
        np.testing.assert_allclose(
            found[own], of_step[own] / of_step[own].sum(dtype=np.float64), rtol=1e-5
        )


def test_equal_given_weights_are_the_mean_of_task_means():
    terms, tasks = np.array([3, 1, 4, 1, 5]), np.array([0, 2, 2, 0, 2])
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    balance = named("static", weights=dict.fromkeys(TASKS, 7.0))
    within = torch.tensor(within_tasks(REDUCTIONS["example_mean"])(terms, tasks))
    of_task = torch.zeros(3).index_add_(0, torch.tensor(tasks), losses * within)
    balanced = (balance.weights(of_task, WITHOUT_B) * of_task).sum()
    summed = (losses * torch.tensor(REDUCTIONS["task_example_mean"](terms, tasks))).sum()
    assert balanced.item() == pytest.approx(summed.item())


def test_every_method_has_its_file_and_every_file_its_method(root: Path):
    assert {path.stem for path in (root / "configs/balance").glob("*.yaml")} == set(METHODS)


def test_sum_is_no_balance():
    assert make_balance(BalanceConfig(name="sum"), TASKS, (1, 1, 1), "mixed") is None
    assert make_balance(None, TASKS, (1, 1, 1), "mixed") is None
    assert not separate_gradients(BalanceConfig(name="sum"), 4)
    assert not separate_gradients(None, 4)


@pytest.mark.parametrize(
    ("name", "in_one_piece", "in_pieces"),
    [("pcgrad", True, True), ("stch", False, True), ("uncertainty", False, False)],
)
def test_when_each_task_has_a_backward_pass(name, in_one_piece, in_pieces):
    assert separate_gradients(BalanceConfig(name=name), 1) is in_one_piece
    assert separate_gradients(BalanceConfig(name=name), 2) is in_pieces


def strategy(composition="mixed", reads="tasks", stages=None):
    stages = stages or (Stage("train"),)
    return SimpleNamespace(composition=composition, reads=reads, stages=lambda: stages)


@cache
def fit_config(*overrides: str) -> FitConfig:
    config = compose("fit", FitConfig, ["suite=sentiment", *overrides])
    return replace(config, strategy={"name": "x"})


def refusal(name: str, found, *more: str) -> list[str]:
    config = replace(fit_config(*more), balance=BalanceConfig(name=name))
    try:
        check_balance(config, found)
    except UserError as error:
        return str(error).splitlines()
    return []


NEED_SEVERAL = {
    *("random", "geometric_mean", "stch", "famo"),
    *("pcgrad", "cagrad", "mgda", "imtl_g", "nash", "aligned", "upgrad", "gradvac", "graddrop"),
}


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"static"}))
def test_methods_that_compare_tasks_are_refused_where_a_step_has_one(name):
    wanted = [
        f"strategy 'x' has one task in a step, and {name} needs several (balance={name})",
        "  use a strategy whose steps hold several tasks (python -m mtl lists all strategies)",
        "  or change how often a task is drawn, or what it counts: mixture=explicit, balance=static",
    ]
    assert refusal(name, strategy("one_task")) == (wanted if name in NEED_SEVERAL else [])
    assert refusal(name, strategy("every_task")) == refusal(name, strategy()) == []


def test_nothing_is_balanced_where_there_are_no_tasks_together():
    assert refusal("dwa", strategy(reads="corpus")) == [
        "strategy 'x' reads one stream of text: there are no tasks to balance (balance=dwa)",
        "  use balance=sum",
    ]
    alone = strategy(stages=(Stage("each", each=True),))
    assert refusal("pcgrad", alone) == [
        "strategy 'x' trains every task alone: there is nothing to balance (balance=pcgrad)",
        "  use balance=sum, or a strategy that trains tasks together",
    ]
    assert refusal("sum", alone) == refusal("sum", strategy(reads="corpus")) == []
    both = strategy(stages=(Stage("all", share=0.5), Stage("each", each=True, share=0.5)))
    assert refusal("pcgrad", both) == []


def test_sharded_parameters_have_no_gradients_by_task():
    assert refusal("upgrad", strategy(), "trainer=fsdp") == [
        "upgrad needs whole parameters on each device, and fsdp shards them (balance=upgrad trainer=fsdp)",
        "  use trainer=ddp",
    ]
    assert refusal("size", strategy(), "trainer=fsdp") == []


@pytest.mark.parametrize(
    ("name", "packages"),
    [("cagrad", "cvxpy, clarabel"), ("nash", "cvxpy, ecos"), ("upgrad", "qpsolvers, quadprog")],
)
def test_a_solver_that_is_not_installed(name, packages, monkeypatch):
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda package: None)
    assert refusal(name, strategy()) == [
        f"{name} needs a solver that is not installed: {packages} (balance={name})",
        "  pip install 'mtl[solvers]' (some of its solvers are under copyleft licences)",
    ]
    assert refusal("pcgrad", strategy()) == []


class Towers(nn.Module):
    tasks = (SimpleNamespace(name="a"), SimpleNamespace(name="b"))

    def __init__(self, shared: bool):
        super().__init__()
        self.of_task = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.trunk = nn.Linear(2, 2).requires_grad_(shared)

    def own_parameters(self, task):
        return self.of_task[self.tasks.index(task)].parameters()


def test_gradient_methods_need_parameters_in_common():
    config = replace(fit_config(), balance=BalanceConfig(name="mgda"))
    check_shared(config, Towers(shared=True))
    with pytest.raises(UserError) as caught:
        check_shared(config, Towers(shared=False))
    assert str(caught.value).splitlines() == [
        "strategy 'x' as configured has no parameters that tasks share, and mgda balances gradients on those"
        " (balance=mgda)",
        "  use a balance of losses (static, uncertainty, ...), or another strategy",
    ]
    check_shared(replace(config, balance=BalanceConfig(name="uncertainty")), Towers(shared=False))


def mistakes(*overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        compose("fit", FitConfig, ["tasks=[sst2,rte]", *overrides])
    return [line for line in str(caught.value).splitlines() if not line.startswith("  ")]


def test_keys_belong_to_their_method():
    assert mistakes("balance=stch", "balance.c=0.3") == [
        "balance.c must be left out, unless balance=cagrad, found 0.3 (override: balance.c=0.3)"
    ]
    assert mistakes("balance=dwa", "balance.temperature=null") == [
        "balance.temperature must be given where balance=dwa, found null"
        " (override: balance.temperature=null)"
    ]
    assert mistakes("balance=dwa", "balance.every=0") == [
        "balance.every must be at least 1, found 0 (override: balance.every=0)"
    ]
    assert mistakes("balance=dwa", "balance.tmperature=1")[0] == (
        "unknown key 'balance.tmperature' (override: balance.tmperature=1)"
    )


def test_given_weights_fit_the_tasks_that_are_trained():
    words = "balance.weights must be one weight for each of sst2, rte, found "
    assert mistakes("balance=static")[0].startswith(words + "{}")
    assert mistakes("balance=static", "balance.weights.sst2=1")[0].startswith(words)
    both = ("balance=static", "balance.weights.sst2=1")
    (line,) = mistakes(*both, "balance.weights.rte=1", "balance.weights.cola=1")
    assert line.startswith(words)
    assert mistakes(*both, "balance.weights.rte=-1") == [
        "balance.weights.rte must be 0 or more, found -1.0 (override: balance.weights.rte=-1)"
    ]
    zeros = ("balance=static", "balance.weights.sst2=0", "balance.weights.rte=0")
    assert mistakes(*zeros)[0].startswith(
        "balance.weights must be more than 0 for at least one task, found "
    )
    whole = compose("fit", FitConfig, ["tasks=[sst2]", both[0], "balance.weights={sst2: 3}"])
    assert whole.balance.weights == {"sst2": 3.0}
    # A task without training rows, wsc273, is not weighed.
    config = compose("fit", FitConfig, [*both, "balance.weights.rte=2", "tasks=[sst2,rte,wsc273]"])
    assert config.balance.weights == {"sst2": 1.0, "rte": 2.0}


def test_an_unknown_balance_has_a_nearest_name():
    with pytest.raises(UserError) as caught:
        compose("fit", FitConfig, ["balance=pc_grad"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "unknown balance 'pc_grad' (override: balance=pc_grad)"
    assert lines[1] == "  did you mean: pcgrad"
