"""Mixed batches: the gradient is the weighted sum of the tasks' own, and a row is computed once for all its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch, collate
from mtl.data.encoding import Encoded
from mtl.data.loader import TrainLoader
from mtl.data.plan import Plan
from mtl.data.store import EncodedSplit
from mtl.learning.reduction import reduction
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Task
from mtl.testing.strategies import TASKS, StrategyConformance, examples

REDUCTIONS = ["example_mean", "token_mean", "task_example_mean", "task_token_mean"]


class Mixed(StrategyConformance):
    def __init__(self, tasks: Sequence[Task] = TASKS, **settings: object):
        self.settings = settings
        self.tasks = tuple(tasks)

    def strategy(self) -> Strategy:
        strategy = load_strategy_class("mixed_batch")(**self.settings)
        assert isinstance(strategy, Strategy)
        return strategy

    def trained_tasks(self) -> tuple[Task, ...]:
        return self.tasks

    def encoded(self, strategy: Strategy, task: Task, rows: int) -> list[Encoded]:
        return [self.encode(strategy, task, e, "train")[0] for e in examples(task, rows)]


def gradient(strategy: Strategy, loss: Tensor) -> list[Tensor]:
    strategy.zero_grad()
    loss.backward()
    return [
        torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in strategy.parameters()
    ]


def step_loss(strategy: Strategy, batches: Sequence[Batch]) -> Tensor:
    losses = [(strategy.losses(batch) * batch.weight).sum() for batch in batches]
    return torch.stack(losses).sum()


def assert_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_the_gradient_is_the_weighted_sum_of_the_tasks_own(name: str) -> None:
    suite = Mixed(reduction=name)
    strategy = suite.built()
    rows = (3, 1, 2, 4)
    own = [suite.encoded(strategy, task, n) for task, n in zip(TASKS, rows, strict=True)]
    weigh = reduction(name)

    def batch(tasks: Sequence[int]) -> tuple[Batch, np.ndarray, np.ndarray]:
        encoded = [e for k in tasks for e in own[k]]
        index = np.array([k for k in tasks for _ in own[k]])
        terms = np.array([e.terms for e in encoded])
        made = collate(encoded, tasks=index, rows=range(len(encoded)), weights=weigh(terms, index))
        return made, terms, index

    whole, terms, index = batch(range(4))
    together = gradient(strategy, step_loss(strategy, [whole]))
    # Alone, a task's weights sum to 1; in the step, to its share of what the reduction counts.
    share = {
        "example_mean": [n / len(index) for n in rows],
        "token_mean": [terms[index == k].sum() / terms.sum() for k in range(4)],
    }.get(name, [1 / 4] * 4)
    alone = [gradient(strategy, step_loss(strategy, [batch([k])[0]])) for k in range(4)]
    summed = [
        torch.stack([float(s) * part for s, part in zip(share, parts, strict=True)]).sum(0)
        for parts in zip(*alone, strict=True)
    ]
    assert_same(summed, together)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("pieces", [2, 3])
def test_accumulated_pieces_are_one_batch(name: str, pieces: int) -> None:
    suite = Mixed(reduction=name)
    strategy = suite.built()
    stores = [
        EncodedSplit.build(
            examples(task, 6),
            lambda e, task=task: suite.encode(strategy, task, e, "train"),  # type: ignore[misc]
        )
        for task in TASKS
    ]

    def batches(accumulate: int) -> list[Batch]:
        plan = Plan(
            [store.lengths for store in stores],
            [0.4, 0.3, 0.2, 0.1],
            keys=[task.name for task in TASKS],
            composition="mixed",
            batch_tokens=400,
            seed=0,
        )
        loader = TrainLoader(stores, plan, steps=1, accumulate=accumulate, weigh=reduction(name))
        return [batch for piece in loader for batch in piece]

    (one,) = batches(1)
    several = batches(pieces)
    assert len(several) == pieces
    assert_same(
        gradient(strategy, step_loss(strategy, several)),
        gradient(strategy, step_loss(strategy, [one])),
    )


def twins() -> tuple[Task, Task, Task]:
    """A class and a score of the same rows, beside choices of rows of their own."""
    review, likeness, cause = TASKS[:3]
    return review, replace(likeness, config=replace(likeness.config, name="score")), cause


@pytest.mark.parametrize("name", REDUCTIONS)
def test_two_losses_of_one_row_are_those_of_two_rows_in_half_the_tokens(name: str) -> None:
    tasks = twins()
    suite = Mixed(tasks, reduction=name)
    strategy = suite.built()
    classes = suite.encoded(strategy, tasks[0], 3)
    scores = [replace(e, target=1.5 * i) for i, e in enumerate(classes)]
    choices = suite.encoded(strategy, tasks[2], 2)
    encoded = [e for pair in zip(classes, scores, strict=True) for e in pair] + choices
    index = np.array([0, 1, 0, 1, 0, 1, 2, 2])
    weights = reduction(name)(np.array([e.terms for e in encoded]), index)

    def batch(draws: list[int] | None) -> Batch:
        return collate(
            encoded,
            tasks=index,
            rows=range(8),
            weights=weights,
            draws=None if draws is None else np.array(draws),
        )

    computed: list[int] = []
    hook = strategy.decoder.register_forward_pre_hook(
        lambda _, args: computed.append(int((args[0] != 0).sum()))
    )
    joined, separate = batch([0, 0, 1, 1, 2, 2, 3, 4]), batch(None)
    for one, other in zip(
        (strategy.losses(joined), gradient(strategy, step_loss(strategy, [joined]))),
        (strategy.losses(separate), gradient(strategy, step_loss(strategy, [separate]))),
        strict=True,
    ):
        assert_same([one] if isinstance(one, Tensor) else one,
                    [other] if isinstance(other, Tensor) else other)  # fmt: skip
    hook.remove()
    rows = sum(len(e.tokens) for e in classes)
    rest = sum(len(e.tokens) for e in choices)
    assert joined.real_tokens == rows + rest
    assert separate.real_tokens == 2 * rows + rest
    assert sorted(set(computed)) == [joined.real_tokens, separate.real_tokens]


def test_rows_are_joined_unless_they_are_kept_apart() -> None:
    assert Mixed().strategy().joins_rows
    assert not Mixed(same_rows="apart").strategy().joins_rows
