"""What each paradigm claims beyond the contract, one or two facts each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtl.config.strategies import load_strategy_class
from mtl.data.batch import collate
from mtl.data.plan import Plan
from mtl.learning.reduction import reduction
from mtl.learning.strategy import Strategy
from mtl.testing.strategies import (
    DOCUMENTS,
    SENTENCES,
    TASKS,
    StrategyConformance,
    base_vocabulary,
    examples,
)


class Built(StrategyConformance):
    def __init__(self, name: str, **settings: object):
        self.make = lambda: load_strategy_class(name)(**settings)

    def strategy(self) -> Strategy:
        return self.make()


def _steps(name: str, count: int) -> list[set[int]]:
    """Tasks of the first steps of an uneven mixture, as the strategy composes them."""
    lengths = [np.full(n, 9) for n in (400, 60, 25, 5)]
    plan = Plan(
        lengths,
        [0.7, 0.2, 0.08, 0.02],
        keys=[task.name for task in TASKS],
        composition=load_strategy_class(name).composition,
        batch_tokens=200,
        seed=0,
    )
    return [set(step.tasks.tolist()) for step, _ in zip(plan.steps(), range(count), strict=False)]


def test_hard_sharing_has_every_task_in_every_step() -> None:
    assert all(tasks == {0, 1, 2, 3} for tasks in _steps("hard_sharing", 40))


def test_mt_dnn_has_one_task_in_a_step_and_comes_to_all() -> None:
    steps = _steps("mt_dnn", 60)
    assert all(len(tasks) == 1 for tasks in steps)
    assert set().union(*steps) == {0, 1, 2, 3}


def test_mixed_batch_mixes() -> None:
    assert max(len(tasks) for tasks in _steps("mixed_batch", 20)) >= 3


@pytest.mark.parametrize("name", ["hard_sharing", "mixed_batch", "task_signal"])
def test_the_gradient_of_a_mixed_batch_is_the_sum_of_the_tasks_gradients(name: str) -> None:
    suite = Built(name)
    strategy = suite.built()
    batch = suite.batch(strategy)
    terms, tasks = batch.terms.numpy(), batch.task.numpy()
    weight = torch.from_numpy(reduction(strategy.reduction)(terms, tasks))

    def gradient(own: torch.Tensor) -> list[torch.Tensor]:
        strategy.zero_grad()
        (strategy.losses(batch) * weight * own).sum().backward()
        return [
            torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in strategy.parameters()
        ]

    together = gradient(torch.ones_like(weight))
    alone = [gradient((batch.task == index).float()) for index in range(len(TASKS))]
    for parts, whole in zip(zip(*alone, strict=True), together, strict=True):
        torch.testing.assert_close(torch.stack(parts).sum(0), whole, atol=1e-6, rtol=1e-5)


def test_a_task_trains_its_own_head_alone() -> None:
    suite = Built("mt_dnn")
    strategy = suite.built()
    strategy.losses(suite.batch(strategy, only=1)).sum().backward()
    touched = {
        name.split(".")[2]
        for name, p in strategy.named_parameters()
        if "heads.heads" in name and p.grad is not None
    }
    assert touched == {TASKS[1].name}


def test_task_signal_shares_all_but_one_token_per_task() -> None:
    strategy = Built("task_signal").built()
    plain = Built("zero_shot").built()
    extra = sum(p.numel() for p in strategy.parameters()) - sum(
        p.numel() for p in plain.parameters()
    )
    assert extra == len(TASKS) * strategy.decoder.width
    assert [strategy.task_parameters(task) for task in TASKS] == [strategy.decoder.width] * len(
        TASKS
    )


def test_the_task_token_is_all_that_tells_two_tasks_apart() -> None:
    suite = Built("task_signal")
    strategy = suite.built()
    example = examples(TASKS[0], 1)[0]
    other = replace(TASKS[1], config=replace(TASKS[0].config, name=TASKS[1].name))
    one, two = (
        suite.encode(strategy, task, example, "train")[0].tokens for task in (TASKS[0], other)
    )
    assert one[1:].tolist() == two[1:].tolist()
    assert one[0] != two[0]


def test_zero_shot_learns_the_whole_document_with_the_plain_language_model_loss() -> None:
    suite = Built("zero_shot")
    strategy = suite.built()
    vocabulary = base_vocabulary()
    example = replace(examples(TASKS[3], 1)[0], references=(SENTENCES[0],))
    encoded = suite.encode(strategy, DOCUMENTS, example, "train")
    loss = strategy.losses(collate(encoded, tasks=[0], rows=[0]))[0]
    tokens = torch.tensor([[vocabulary.end, *vocabulary.encode(SENTENCES[0]), vocabulary.end]])
    logits = strategy.decoder.logits(strategy.decoder(tokens))
    torch.testing.assert_close(loss, F.cross_entropy(logits[0, :-1], tokens[0, 1:]))
