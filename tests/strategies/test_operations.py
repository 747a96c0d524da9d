"""The ledger's operations are those of real training steps, product by product, for every strategy.

torch's counter is the judge. A step is laid in one row, where there is no padding, and attention is computed by plain
products, which torch counts over the whole row, with what the mask hides. The ledger counts what is seen, so that the
two differ by attention over the hidden pairs of tokens, which the masks tell, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtl.config.schema import DecoderConfig
from mtl.config.strategies import find_strategies, load_strategy_class
from mtl.data.batch import Batch
from mtl.data.grouping import make_plan
from mtl.data.loader import TrainLoader
from mtl.data.mixture import Schedule
from mtl.data.plan import Plan
from mtl.data.store import EncodedSplit
from mtl.decoder.building import new_decoder
from mtl.learning.ledger import cost
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Example, Split, Task
from mtl.testing.strategies import CONTEXT, DOCUMENTS, PAIR, TASKS, base_vocabulary, examples

SHAPE = DecoderConfig(name="micro", layers=2, width=16, heads=2, context=CONTEXT)
ONE_ROW = 1 << 20
"""Tokens of a row: more than any step has."""


def named(task: Task, name: str, rows: Sequence[Example], **more: object) -> Task:
    config = replace(task.config, name=name, **more)
    return replace(task, config=config, train=Split("train", tuple(rows), ""))


CLASSES = named(TASKS[0], "classes", examples(TASKS[0], 5))
SCORES_OF_CLASSES = named(TASKS[1], "scores_of_classes", CLASSES.train.examples[:3])
EQUALLY_LONG = examples(PAIR, 21)[::10]
"""A stochastic answer network reads as many tokens of each row as the longest of the batch has."""
SUPERVISED = (
    CLASSES,
    SCORES_OF_CLASSES,
    named(TASKS[1], "scores", examples(TASKS[1], 2)),
    named(TASKS[2], "choices", examples(TASKS[2], 4)),
    named(TASKS[3], "open", examples(TASKS[3], 3)),
    named(PAIR, "pairs", EQUALLY_LONG),
    named(PAIR, "both_orders", EQUALLY_LONG, symmetric=True),
    named(DOCUMENTS, "documents", examples(DOCUMENTS, 3)),
)
CORPUS = named(
    DOCUMENTS,
    "corpus",
    [replace(row, references=(row.segments[0] * 5,)) for row in examples(DOCUMENTS, 4)],
)


def trained(name: str, settings: Mapping[str, object], shape: DecoderConfig) -> Iterator[Strategy]:
    """What a run trains: one model, or a copy for each task."""
    of_class = load_strategy_class(name)
    each = of_class(**settings).stages()[-1].each
    tasks = (CORPUS,) if of_class.reads == "corpus" else SUPERVISED
    for own in [(task,) for task in tasks] if each else [tasks]:
        strategy = of_class(**settings)
        vocabulary = base_vocabulary().with_special(strategy.special_tokens(own))
        strategy.build(new_decoder(shape, vocabulary.size, seed=0), own, vocabulary)
        yield strategy.train()


def planned(strategy: Strategy) -> tuple[list[EncodedSplit], Plan]:
    stores = [
        EncodedSplit.build(
            task.train.examples,
            lambda row, task=task: strategy.encode(
                row, task, strategy.vocabulary, CONTEXT, "train"
            ),
        )
        for task in strategy.tasks
    ]
    plan = make_plan(
        strategy.tasks,
        stores,
        Schedule.constant({task.name: 1 / len(stores) for task in strategy.tasks}),
        joins_rows=strategy.joins_rows,
        composition=strategy.composition,
        batch_tokens=500,
        seed=0,
        packing=strategy.packing,
    )
    assert (next(plan.steps()).draws is not None) == strategy.joins_rows
    return stores, plan


def epoch(strategy: Strategy) -> tuple[float, list[tuple[Batch, ...]]]:
    """The ledger's operations of an epoch, in which every task is drawn, and its steps, each in one row."""
    stores, plan = planned(strategy)
    steps = len(plan.step_tokens(0))
    loader = TrainLoader(
        stores,
        plan,
        steps=steps,
        arrangement="apart" if strategy.apart else "together",
        row_tokens=ONE_ROW,
    )
    ledger = cost(strategy, stores, plan, steps=steps, seconds=0.0, pieces=1)
    assert all(ledger["examples_by_task"].values())
    batches = list(loader)
    assert all(one.real_tokens == one.tokens.numel() for step in batches for one in step)
    return ledger["flops"], batches


def by_torch(strategy: Strategy, batches: Sequence[tuple[Batch, ...]]) -> int:
    """Operations of the losses of these steps, and of their gradients."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for step in batches:
            torch.stack([_loss(strategy, one) for one in step]).sum().backward()
    return int(counter.get_total_flops())


def _loss(strategy: Strategy, batch: Batch) -> Tensor:
    return (strategy.losses(batch) * batch.weight).sum()


def hidden_pairs(batch: Batch) -> int:
    """Pairs of a row's tokens of which the first does not see the second."""
    length = batch.tokens.numel()
    seen = length * (length + 1) // 2 if batch.mask is None else int(batch.mask.sum())
    return length**2 - seen


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in sorted(find_strategies())),
        ("soft_sharing", {"sharing": "trace_norm"}),
        ("soft_sharing", {"sharing": "cross_stitch"}),
        ("hard_sharing", {"heads": "by_answers"}),
        ("mt_dnn", {"san_steps": 1}),
        ("mt_dnn", {"san_steps": 2, "pack": "every_epoch"}),
        ("mt_dnn", {"pairwise": "linear", "fine_tune": 0.5}),
        ("mixed_batch", {"same_rows": "apart"}),
        ("task_signal", {"signal": "vector", "loss": "all"}),
        ("task_signal", {"signal": "text", "words": "arbitrary_distinct"}),
        ("pretrain_finetune", {"auxiliary": 0.0}),
    ],
    ids=str,
)
def test_operations_are_those_that_torch_counts(name: str, settings: dict[str, object]) -> None:
    for strategy in trained(name, settings, SHAPE):
        operations, batches = epoch(strategy)
        flops = strategy.decoder.flops
        a_pair = flops(1, 1.0, 0) - flops(1, 0.0, 0)
        hidden = sum(hidden_pairs(one) for step in batches for one in step)
        # Exactly, but for the rounding of the mean context.
        counted = by_torch(strategy, batches)
        assert operations + a_pair * hidden == pytest.approx(counted, rel=1e-12)


@pytest.mark.parametrize("name", ["hard_sharing", "zero_shot"])
def test_operations_of_an_lstm_but_for_the_gradient_of_its_first_state(name: str) -> None:
    """A sequence begins with a state that is no parameter: in each layer one product by the H x 4H matrix has no
    gradient for it, of 2 * H * 4H operations."""
    units = 12
    for strategy in trained(name, {}, replace(SHAPE, trunk="lstm", units=units)):
        operations, batches = epoch(strategy)
        sequences = sum(int((one.positions == 0).sum()) for step in batches for one in step)
        missing = sequences * SHAPE.layers * 8 * units**2
        assert operations - missing == by_torch(strategy, batches)
