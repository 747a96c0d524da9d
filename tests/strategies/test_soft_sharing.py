"""Soft sharing: its two limits, what lies between them, and the conformance suite for all three kinds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig, OptimizerConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch, collate
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.learning.ledger import parameters
from mtl.learning.schedule import adamw
from mtl.learning.strategy import Strategy
from mtl.learning.towers import corresponding
from mtl.tasks.task import Task
from mtl.testing.strategies import (
    CONTEXT,
    TASKS,
    StrategyConformance,
    base_vocabulary,
    examples,
)

SHAPE = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    """Plain descent."""
    return torch.optim.SGD(module.parameters(), lr=0.03)


def adam(module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a run."""
    return adamw(module, OptimizerConfig(learning_rate=1e-2, weight_decay=0.1))


def soft(**settings: object) -> Strategy:
    return load_strategy_class("soft_sharing")(**settings)


def built(
    strategy: Strategy, tasks: tuple[Task, ...] = TASKS, dropout: float = 0.0, **shape: object
) -> Strategy:
    vocabulary = base_vocabulary()
    decoder = Decoder(replace(SHAPE, dropout=dropout, **shape), vocabulary.size, seed=0)
    strategy.build(decoder, tasks, vocabulary, seed=0)
    return strategy


def one_task_batch(strategy: Strategy, task: Task, index: int, step: int) -> Batch:
    """Four rows of a task, others in each step; their weights are those of the task's mean."""
    rows = examples(task, 20)[4 * step : 4 * step + 4]
    encoded = [strategy.encode(row, task, strategy.vocabulary, CONTEXT, "train")[0] for row in rows]
    return collate(encoded, tasks=[index] * len(rows), rows=range(len(rows)))


def train(
    strategy: Strategy,
    make: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    steps: int = 4,
    clip: float = 0.5,
) -> Strategy:
    """Steps as a run makes them: one batch per task, gradients clipped, the penalty's step last."""
    optimizer = make(strategy.train())
    for step in range(steps):
        torch.manual_seed(step)
        batches = [
            one_task_batch(strategy, task, index, step) for index, task in enumerate(strategy.tasks)
        ]
        losses = [(strategy.losses(batch) * batch.weight).sum() for batch in batches]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        whole = [p for group in optimizer.param_groups for p in group["params"]]
        for group in strategy.clipping_groups() or [whole]:
            torch.nn.utils.clip_grad_norm_(group, clip)
        optimizer.step()
        strategy.after_step(optimizer.param_groups[0]["lr"])
    return strategy.eval()


def towers(strategy: Strategy) -> list[Decoder]:
    return list(strategy.towers.values())


def distance(strategy: Strategy) -> float:
    """Root of the summed squares between every two towers."""
    squares = [
        (same[s] - same[t]).detach().square().sum()
        for _, same in corresponding(towers(strategy))
        for s in range(len(same))
        for t in range(s)
    ]
    return math.sqrt(float(torch.stack(squares).sum()))


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    """To the last bit."""
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name


class TestL2(StrategyConformance):
    def strategy(self) -> Strategy:
        return soft(sharing="l2")


class TestTraceNorm(StrategyConformance):
    def strategy(self) -> Strategy:
        return soft(sharing="trace_norm")


class TestCrossStitch(StrategyConformance):
    def strategy(self) -> Strategy:
        return soft(sharing="cross_stitch")


@pytest.mark.parametrize("sharing", ["l2", "trace_norm", "cross_stitch"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_strength_0_is_a_model_per_task_trained_alone(sharing: str, dropout: float) -> None:
    together = train(built(soft(sharing=sharing, strength=0.0), dropout=dropout))
    for task, tower in zip(TASKS, towers(together), strict=True):
        alone = train(built(load_strategy_class("single_task")(), (task,), dropout))
        assert_equal(tower, alone.decoder)
        assert_equal(together.heads.heads[task.name], alone.heads.heads[task.name])
    assert distance(together) > 0.1


def test_clipping_one_tower_leaves_the_others_alone() -> None:
    """Where one task's gradients are a thousand times larger, the other towers step as before."""
    plain, loud = (built(soft(strength=0.0), TASKS[:2]) for _ in range(2))
    losses = loud.losses
    loud.losses = lambda batch: losses(batch) * (1e3 if batch.task[0] == 0 else 1)
    train(plain)
    train(loud)
    assert_equal(towers(plain)[1], towers(loud)[1])


def test_the_distance_falls_with_the_strength_to_0_at_infinity() -> None:
    strengths = (0.0, 0.01, 1.0, 100.0, 1e4, math.inf)
    found = [distance(train(built(soft(strength=strength)))) for strength in strengths]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)
    assert found[-1] == 0.0
    assert found[-2] < 1e-3 * found[0]


def test_towards_infinity_it_is_hard_sharing_by_the_mean_of_the_tasks_gradients() -> None:
    hard = built(load_strategy_class("hard_sharing")()).train()
    for step in range(4):
        hard.zero_grad()
        for index, task in enumerate(TASKS):
            batch = one_task_batch(hard, task, index, step)
            (hard.losses(batch) * batch.weight).sum().backward()
        with torch.no_grad():
            for p in hard.heads.parameters():
                p -= 0.03 * p.grad
            for p in hard.decoder.parameters():
                p -= 0.03 * p.grad / len(TASKS)

    def difference(strength: float) -> float:
        together = train(built(soft(strength=strength)), sgd, clip=math.inf)
        return max(
            float((p - q).detach().abs().max())
            for tower in towers(together)
            for p, q in zip(tower.parameters(), hard.decoder.parameters(), strict=True)
        )

    found = [difference(strength) for strength in (1.0, 100.0, 1e4, math.inf)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 1e-2
    assert found[-1] < 1e-6


def test_layer_weights_hold_one_block_and_leave_another() -> None:
    strategy = train(built(soft(strength=1e6, layer_weights=[0.0, 1.0])))
    free, held = (
        max(
            float((p - q).detach().abs().max())
            for p, q in zip(one.parameters(), two.parameters(), strict=True)
        )
        for one, two in zip(towers(strategy)[0].blocks, towers(strategy)[1].blocks, strict=True)
    )
    assert free > 1e-2
    assert held < 1e-5


def test_the_rank_of_the_towers_falls_with_the_strength_of_the_trace_norm() -> None:
    def ranks(strength: float) -> int:
        strategy = train(built(soft(sharing="trace_norm", strength=strength)))
        stacks = [
            torch.stack([p.detach().flatten() for p in same])
            for _, same in corresponding(towers(strategy))
        ]
        return sum(int((torch.linalg.svdvals(s.double()) > 1e-4).sum()) for s in stacks)

    found = [ranks(strength) for strength in (0.0, 1.0, 5.0, 25.0)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)


def slow_stitched(strategy: Strategy, own: int, tokens: torch.Tensor) -> torch.Tensor:
    """The hidden states of one task: every cross-stitch unit as a sum written out."""
    count = len(strategy.tasks)
    alpha = strategy.alpha.view(-1, count, count)
    every = towers(strategy)
    x = [t.token_embedding(tokens) + t.position_embedding.weight[: tokens.shape[1]] for t in every]
    for layer in range(every[0].config.layers):
        after = [tower.blocks[layer](x[t], None, None) for t, tower in enumerate(every)]
        x = [sum(alpha[layer, s, t] * after[t] for t in range(count)) for s in range(count)]
    last = x[own]
    return last if every[own].final_norm is None else every[own].final_norm(last)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_stitched_towers_are_the_sums_written_out(norm: str) -> None:
    strategy = train(built(soft(sharing="cross_stitch", strength=0.3), norm=norm), steps=2)
    tokens = torch.randint(300, (2, 7), generator=torch.Generator().manual_seed(0))
    alpha = strategy.alpha.view(2, 4, 4)
    assert not torch.allclose(alpha[0], alpha[1])
    for own, task in enumerate(TASKS):
        found = strategy.decoder_of(task)(tokens)
        torch.testing.assert_close(found, slow_stitched(strategy, own, tokens))


def test_stitches_start_with_the_given_share_of_the_others() -> None:
    strategy = built(soft(sharing="cross_stitch", strength=0.1), TASKS[:3])
    expected = torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    torch.testing.assert_close(strategy.alpha.view(2, 3, 3), expected.expand(2, 3, 3))


def test_a_task_moves_all_towers_through_its_stitches_and_weight_decay_moves_none() -> None:
    strategy = built(soft(sharing="cross_stitch"))
    batch = one_task_batch(strategy, TASKS[0], 0, 0)
    strategy.losses(batch).sum().backward()
    alpha = strategy.alpha
    assert isinstance(alpha, nn.Parameter)
    gradient = alpha.grad.view(2, 4, 4)
    assert gradient[0].all()
    assert gradient[1, 0].all()
    assert not gradient[1, 1:].any()  # after the last block the other towers are read by nobody
    assert all(tower.blocks[-1].feed_forward.output.weight.grad.any() for tower in towers(strategy))
    decays = {
        id(p): group["weight_decay"]
        for group in adam(strategy).param_groups
        for p in group["params"]
    }
    assert decays[id(alpha)] == 0.0


def test_stitched_towers_generate_with_the_cache_what_they_generate_without() -> None:
    strategy = train(built(soft(sharing="cross_stitch", strength=0.3)), steps=2)
    decoder = strategy.decoder_of(TASKS[3])
    prompts = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]
    found = generate(decoder, prompts, max_new_tokens=6)
    with torch.inference_mode():
        for prompt, tokens in zip(prompts, found, strict=True):
            so_far = list(prompt)
            for token in tokens:
                logits = decoder.logits(slow_stitched(strategy, 3, torch.tensor([so_far]))[0, -1])
                assert int(logits.argmax()) == token
                so_far.append(token)
    assert not strategy.towers.training


@pytest.mark.parametrize("sharing", ["l2", "trace_norm", "cross_stitch"])
def test_a_new_task_adds_a_tower_and_a_head(sharing: str) -> None:
    """And for cross-stitch its row and column in the unit of each block."""
    few, more = (built(soft(sharing=sharing), TASKS[:count]) for count in (2, 3))
    tower = sum(p.numel() for p in towers(few)[0].parameters())
    head = SHAPE.width
    before, after = parameters(few, few.tasks), parameters(more, more.tasks)
    if sharing == "cross_stitch":
        assert after["total"] - before["total"] == tower + head + 2 * (9 - 4)
        assert after["per_task"]["cause"] == head
    else:
        assert after["total"] - before["total"] == tower + head == after["per_task"]["cause"]
        assert after["shared"] == before["shared"] == 0


def test_stitched_operations_are_those_of_all_towers() -> None:
    apart, stitched = (built(soft(sharing=s), TASKS[:3]) for s in ("l2", "cross_stitch"))
    alone = apart.decoder.flops(100, 5.5, 0, backward=False)
    units = 2 * 100 * 2 * 9 * 32
    head = apart.decoder.flops(0, 0.0, 7, backward=False)
    assert stitched.decoder.flops(100, 5.5, 7, backward=False) == 3 * alone + units + head
    assert stitched.decoder.flops(100, 5.5, 7) == 3 * (3 * alone + units + head)
    spared = apart.decoder.flops(100, 5.5, 0, backward=False)
    spared -= apart.decoder.flops(100, 5.5, 0, read=10, backward=False)
    last = 2 * 90 * 9 * 32
    least = 3 * (alone - spared) + units - last + head
    assert stitched.decoder.flops(100, 5.5, 7, read=10, backward=False) == least


def test_one_task_alone_is_the_same_under_every_kind() -> None:
    settings = ({"sharing": "l2", "strength": 5.0}, {"sharing": "cross_stitch", "strength": 0.5})
    one, two = (train(built(soft(**s), TASKS[:1])) for s in settings)
    assert_equal(one, two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": -1.0}, "the strength of sharing is 0 or more"),
        ({"strength": math.nan}, "the strength of sharing is 0 or more"),
        ({"sharing": "cross_stitch", "strength": 1.5}, "share of the other towers, at most 1"),
        ({"sharing": "cross_stitch", "layer_weights": [1.0, 1.0]}, "cross_stitch has none"),
        ({"sharing": "trace_norm", "strength": math.inf}, "strength of trace_norm is finite"),
        ({"layer_weights": [1.0, -1.0]}, "layer weights are finite numbers, 0 or more"),
        ({"layer_weights": [1.0]}, "one layer weight for each of 2 blocks, found 1"),
    ],
)
def test_settings_out_of_range_are_one_clear_error(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as error:
        built(soft(**settings))
    assert message in str(error.value).splitlines()[0]
    assert "strategy." in (error.value.where or "")
