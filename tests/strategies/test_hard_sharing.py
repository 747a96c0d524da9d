"""Hard sharing: heads that tasks with the same answers have in common, and what each task adds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mtl.config.schema import DecoderConfig
from mtl.decoder.gpt import Decoder
from mtl.learning.heads import answer_space, head_outputs
from mtl.learning.ledger import parameters
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Task
from mtl.testing.strategies import CONTEXT, TASKS, StrategyConformance, base_vocabulary
from strategies.hard_sharing import HardSharing

WIDTH = 32
REVIEW, LIKENESS, CAUSE, REVERSE = TASKS
REVIEW = replace(REVIEW, config=replace(REVIEW.config, answers=[" bad", " good", " so so"]))


def named(task: Task, name: str, **changes: object) -> Task:
    return replace(task, config=replace(task.config, name=name, **changes))  # type: ignore[arg-type]


SAME = (
    named(REVIEW, "films"),
    named(LIKENESS, "likeness_2"),
    named(CAUSE, "effect"),
    named(CAUSE, "queries", kind="ranking"),
)
"""Tasks that find a head with their answer space among those of ``ALL``."""
OTHER = (
    named(REVIEW, "turned", answers=[" so so", " good", " bad"]),
    named(REVIEW, "pairs", kind="pair_classification"),
    named(LIKENESS, "wider", range=[0.0, 10.0]),
    named(REVERSE, "copy"),
)
"""Tasks that do not."""
ALL = (REVIEW, LIKENESS, CAUSE, REVERSE)


def built(*tasks: Task, heads: str = "by_answers", seed: int = 0) -> Strategy:
    strategy = HardSharing(heads=heads)  # type: ignore[arg-type]
    vocabulary = base_vocabulary()
    shape = DecoderConfig(name="micro", layers=1, width=WIDTH, heads=2, context=CONTEXT)
    strategy.build(Decoder(shape, vocabulary.size), tasks, vocabulary, seed=seed)
    return strategy


def head_size(task: Task) -> int:
    outputs = head_outputs(task, base_vocabulary().size)
    biased = not task.is_open and task.kind != "multiple_choice"
    return outputs * (WIDTH + biased)


class TestSharedHeads(StrategyConformance):
    def strategy(self) -> HardSharing:
        return HardSharing(heads="by_answers")


@pytest.mark.parametrize("heads", ["own", "by_answers"])
@pytest.mark.parametrize("task", [*SAME, *OTHER], ids=lambda task: task.name)
def test_a_task_adds_exactly_its_head_or_nothing(task: Task, heads: str) -> None:
    before = parameters(built(*ALL, heads=heads), ALL)
    after = parameters(built(*ALL, task, heads=heads), [*ALL, task])
    added = 0 if heads == "by_answers" and task in SAME else head_size(task)
    assert after["total"] - before["total"] == added
    assert after["per_task"][task.name] == added
    assert after["shared"] + sum(after["per_task"].values()) == after["total"]
    # The head of two belongs to neither of them alone.
    shared = [other for other in ALL if answer_space(other) == answer_space(task) is not None]
    if heads == "by_answers":
        for other in shared:
            assert before["per_task"][other.name] == head_size(other)
            assert after["per_task"][other.name] == 0
    else:
        assert after["shared"] == before["shared"]


def test_own_parameters_are_disjoint_and_leave_what_is_shared() -> None:
    strategy = built(*ALL, *SAME, *OTHER)
    own = [id(p) for task in strategy.tasks for p in strategy.own_parameters(task)]
    assert len(own) == len(set(own))
    shared = {id(p) for p in strategy.heads.head_of(REVIEW).parameters()}
    assert strategy.heads.head_of(REVIEW) is strategy.heads.head_of(SAME[0])
    assert not shared & set(own)


def test_a_shared_head_starts_the_same_whatever_the_other_tasks_are() -> None:
    alone = built(SAME[0], seed=3).heads.head_of(SAME[0])
    among = built(*OTHER, *ALL, *SAME, seed=3).heads.head_of(SAME[0])
    assert torch.equal(alone.weight, among.weight)
    assert not torch.equal(alone.weight, built(SAME[0], seed=4).heads.head_of(SAME[0]).weight)


def test_a_shared_score_starts_from_the_middle_of_the_range() -> None:
    assert built(LIKENESS, SAME[1]).heads.head_of(SAME[1]).bias.item() == 2.5
