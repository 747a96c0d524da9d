"""The conformance suite of strategies: subclass it in a test file, name your class, and pytest runs all of it.

    class TestMine(StrategyConformance):
        def strategy(self):
            return Mine(setting=3)

The suite needs nothing but torch: a vocabulary of 300 tokens, a decoder of two layers, and four tasks, one of each
kind of answer, with a document task for strategies that read a corpus.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from mtl.config.schema import (
    DecoderConfig,
    OptimizerConfig,
    SourceConfig,
    TaskConfig,
    TaskKind,
)
from mtl.data.batch import Batch, collate
from mtl.data.encoding import Encoded, Purpose
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.evaluation import evaluating
from mtl.learning.reduction import REDUCTIONS
from mtl.learning.strategy import Strategy
from mtl.scoring.asking import Asking, ask
from mtl.tasks.task import Answer, Example, Split, Task

CONTEXT = 128
SENTENCES = (
    "the old man saw a small boat near the harbour",
    "a fine film with a dull end",
    "the dog that barked at night was not big",
    "she gave him the book because he asked for it",
    "it rained and the road was wet",
)


def _task(name: str, kind: TaskKind, **more: object) -> Task:
    source = SourceConfig(microworld="none")
    config = TaskConfig(name=name, kind=kind, source=source, segments=[], prompt=[], target="")
    told = replace(config, instruction=f"Say the {name}.")
    return Task.without_rows(replace(told, **more))  # type: ignore[arg-type]


TASKS = (
    _task(
        "review",
        "classification",
        labels=["bad", "good", "neutral"],
        answers=[" bad", " good", " so so"],
    ),
    _task("likeness", "regression", range=[0.0, 5.0]),
    _task("cause", "multiple_choice"),
    _task("reverse", "generation", max_answer_tokens=8),
)
DOCUMENTS = _task("documents", "language_modelling")
PAIR = _task("entailment", "pair_classification", labels=["yes", "no"], answers=[" yes", " no"])
"""For strategies that read pairs in a way of their own."""


def examples(task: Task, count: int) -> list[Example]:
    """``count`` rows of the task, of different lengths and with different targets."""
    made = []
    for index in range(count):
        text = " ".join(SENTENCES[(index + k) % len(SENTENCES)] for k in range(1 + index % 2))
        row, prompt = f"train:{index}", (text, " Answer:")
        answers: tuple[str, ...]
        if task.kind == "classification":
            answers = (" bad", " good", " so so")
            made.append(Example(row, (text,), prompt, index % 3, answers))
        elif task.kind == "pair_classification":
            pair = (text, SENTENCES[(index + 2) % len(SENTENCES)])
            made.append(Example(row, pair, prompt, index % 2, (" yes", " no")))
        elif task.kind == "regression":
            answers = tuple(f" {value:.2f}" for value in np.linspace(0, 5, 21))
            made.append(Example(row, (text, SENTENCES[0]), prompt, 1.25 * (index % 5), answers))
        elif task.kind == "multiple_choice":
            choices = ("it was late", "he had no boat at all", "of rain")[: 2 + index % 2]
            answers = tuple(f" {choice}" for choice in choices)
            made.append(Example(row, (text,), prompt, index % 2, answers, choices))
        else:
            made.append(Example(row, (text,), prompt, None, references=(text[::-1][:6],)))
    return made


@lru_cache
def base_vocabulary() -> Vocabulary:
    """A small vocabulary that holds no special token but those every vocabulary has."""
    return Vocabulary.train(list(SENTENCES) * 4, 300)


class StrategyConformance(ABC):
    """What every strategy promises. Subclasses say which strategy is meant."""

    @abstractmethod
    def strategy(self) -> Strategy:
        """A new strategy, not yet built."""

    def trained_tasks(self) -> tuple[Task, ...]:
        """What the suite trains on: labelled tasks, or documents for a strategy that reads a corpus."""
        return (DOCUMENTS,) if self.strategy().reads == "corpus" else TASKS

    def encoded_tasks(self) -> tuple[Task, ...]:
        """The tasks whose rows the strategy encodes to answer them: none for one that reads running text, which is
        asked them by their protocols."""
        return () if self.strategy().reads == "corpus" else TASKS

    def answered(self, strategy: Strategy, task: Task, rows: list[Example]) -> list[Answer]:
        """Answers to rows of a task, all at once."""
        if strategy.reads == "corpus":
            split = Split("test", tuple(rows), "")
            with evaluating(strategy):
                return ask(strategy.decoder, strategy.vocabulary, task, split, Asking()).answers
        return strategy.answers(self._answer_batch(strategy, task, rows), task)

    def built(self, seed: int = 0) -> Strategy:
        """A new strategy around a decoder of two layers, in evaluation mode."""
        return self._build(self.strategy(), seed)

    def _build(self, strategy: Strategy, seed: int = 0) -> Strategy:
        base = base_vocabulary()
        vocabulary = base.with_special(strategy.special_tokens(TASKS))
        shape = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)
        decoder = Decoder(shape, vocabulary.size, base_vocabulary=base.size, seed=seed)
        strategy.build(decoder, self.trained_tasks(), vocabulary, seed=seed)
        return strategy.eval()

    @staticmethod
    def encode(strategy: Strategy, task: Task, example: Example, purpose: Purpose) -> list[Encoded]:
        return strategy.encode(example, task, strategy.vocabulary, CONTEXT, purpose)

    def batch(self, strategy: Strategy, rows: int = 3, only: int | None = None) -> Batch:
        """Training rows of every task, interleaved; ``only`` keeps one example of them."""
        encoded, tasks = [], []
        for row in range(rows):
            for index, task in enumerate(self.trained_tasks()):
                encoded.append(self.encode(strategy, task, examples(task, rows)[row], "train")[0])
                tasks.append(index)
        if only is not None:
            encoded, tasks = [encoded[only]], [tasks[only]]
        return collate(encoded, tasks=tasks, rows=range(len(tasks)))

    def test_declares_how_batches_are_composed_and_losses_reduced(self) -> None:
        strategy = self.strategy()
        assert strategy.composition in ("one_task", "every_task", "mixed")
        assert strategy.reads in ("tasks", "corpus")
        assert strategy.reduction in REDUCTIONS

        assert strategy.packing in ("every_epoch", "once")
        assert 0 <= strategy.pretraining < 1
        assert isinstance(strategy.apart, bool)

    def test_stages_share_the_budget_and_copies_come_last(self) -> None:
        stages = self.strategy().stages()
        assert len({stage.name for stage in stages}) == len(stages) > 0
        assert all(stage.name and "/" not in stage.name for stage in stages)
        assert all(0 < stage.share <= 1 and stage.learning_rate > 0 for stage in stages)
        assert abs(sum(stage.share for stage in stages) - 1) < 1e-9
        assert not any(stage.each for stage in stages[:-1])
        for stage in stages:
            replace(OptimizerConfig(), **stage.schedule)  # refuses what is no field of it

    def test_rates_of_its_own_name_each_task_in_the_order_given(self) -> None:
        sizes = {task.name: 10 * (index + 1) for index, task in enumerate(self.trained_tasks())}
        rates = self.built().rates(sizes)
        if rates is None:
            return
        assert list(rates) == list(sizes)
        assert all(np.isfinite(rate) and rate >= 0 for rate in rates.values())
        assert abs(sum(rates.values()) - 1) < 1e-6

    def test_encodings_fit_the_context_and_count_what_they_cut(self) -> None:
        strategy = self.built()
        long = " ".join(SENTENCES) * 8
        for task in self.encoded_tasks():
            example = examples(task, 2)[1]
            for shown in (example, replace(example, segments=(long,), prompt=(long, " Answer:"))):
                for purpose in ("train", "answer"):
                    for encoded in self.encode(strategy, task, shown, purpose):
                        longest = encoded.prefix + max(encoded.branches, default=0)
                        assert longest <= CONTEXT
                        assert (encoded.cut > 0) == (shown is not example)

    def test_what_is_asked_does_not_depend_on_the_answer(self) -> None:
        strategy = self.built()
        for task in self.encoded_tasks():
            example = examples(task, 3)[2]
            other = replace(
                example,
                target=None if example.target is None else (0 if example.target else 1),
                references=("quite another text",) if example.references else (),
            )
            for one, two in zip(
                self.encode(strategy, task, example, "answer"),
                self.encode(strategy, task, other, "answer"),
                strict=True,
            ):
                assert one.tokens.tolist() == two.tokens.tolist()
                assert one.branches == two.branches
                assert one.labelled.tolist() == two.labelled.tolist()

    def test_an_examples_loss_does_not_depend_on_its_batch(self) -> None:
        strategy = self.built()
        together = strategy.losses(self.batch(strategy))
        assert together.shape == (len(self.trained_tasks()) * 3,)
        alone = [strategy.losses(self.batch(strategy, only=i))[0] for i in range(len(together))]
        torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=1e-5)

    def test_a_batch_of_one_task_has_the_losses_of_a_mixed_one(self) -> None:
        """Steps that come apart, and whatever compares tasks, ask for one task at a time."""
        strategy = self.built()
        mixed = self.batch(strategy)
        together = strategy.losses(mixed)
        for index in range(len(self.trained_tasks())):
            own = mixed.task == index
            rows = own.nonzero().squeeze(1).tolist()
            alone = collate([mixed.encoded[i] for i in rows], tasks=[index] * len(rows), rows=rows)
            torch.testing.assert_close(strategy.losses(alone), together[own], atol=1e-5, rtol=1e-5)

    def test_every_parameter_learns(self) -> None:
        strategy = self.built()
        strategy.losses(self.batch(strategy)).sum().backward()
        without = [
            name for name, p in strategy.named_parameters() if p.grad is None or not p.grad.any()
        ]
        assert without == []

    def test_answers_lie_in_the_answer_space(self) -> None:
        strategy = self.built()
        for task in TASKS:
            if task not in self.trained_tasks() and strategy.reads == "tasks":
                continue
            rows = examples(task, 4)
            answers = self.answered(strategy, task, rows)
            assert len(answers) == len(rows)
            for answer, example in zip(answers, rows, strict=True):
                if task.kind == "generation":
                    assert isinstance(answer.value, str)
                elif task.kind == "regression":
                    assert 0.0 <= float(answer.value) <= 5.0
                else:
                    assert len(answer.scores) == len(example.answers)
                    assert answer.value == int(np.argmax(answer.scores))

    def test_an_answer_does_not_depend_on_its_batch(self) -> None:
        strategy = self.built()
        for task in TASKS:
            rows = examples(task, 4)
            together = self.answered(strategy, task, rows)
            for row, expected in zip(rows, together, strict=True):
                (alone,) = self.answered(strategy, task, [row])
                if isinstance(alone.value, str):
                    assert alone.value == expected.value
                else:
                    assert abs(float(alone.value) - float(expected.value)) < 1e-4
                np.testing.assert_allclose(alone.scores, expected.scores, atol=1e-4)

    def test_an_answer_does_not_depend_on_the_index_of_its_task(self) -> None:
        """An evaluation's batches are of one task, which is told beside them."""
        strategy = self.built()
        for index, task in enumerate(self.trained_tasks()):
            batch = self._answer_batch(strategy, task, examples(task, 2))
            named = replace(batch, task=torch.full_like(batch.task, index))
            assert strategy.answers(named, task) == strategy.answers(batch, task)

    def test_a_freely_decoded_text_does_not_depend_on_its_batch(self) -> None:
        strategy = self.built()
        for task in self.encoded_tasks():
            rows = examples(task, 4)
            together = strategy.decoded(self._answer_batch(strategy, task, rows), task)
            if together is None:
                continue
            assert not task.is_open
            for row, expected in zip(rows, together, strict=True):
                alone = strategy.decoded(self._answer_batch(strategy, task, [row]), task)
                assert alone == [expected]

    def test_learns_a_handful_of_rows_by_heart(self) -> None:
        strategy = self.built().train()
        batch = self.batch(strategy, rows=2)
        optimizer = torch.optim.AdamW(strategy.parameters(), lr=1e-2)
        first = self._mean_loss(strategy, batch)
        for _ in range(60):
            optimizer.zero_grad()
            self._mean_loss(strategy, batch).backward()
            optimizer.step()
        assert self._mean_loss(strategy, batch) < 0.35 * first

    def test_the_same_seed_builds_the_same_weights(self) -> None:
        one, two, other = self.built(), self.built(), self.built(seed=1)
        pairs = zip(one.named_parameters(), two.parameters(), other.parameters(), strict=True)
        for (name, p), q, r in pairs:
            assert torch.equal(p, q), name
            assert p.dim() < 2 or not torch.equal(p, r), name

    def test_built_once_more_it_starts_over(self) -> None:
        """A run builds anew around a decoder that was pretrained meanwhile."""
        strategy, fresh = self.built(), self.built()
        with torch.no_grad():
            for parameter in strategy.parameters():
                parameter.add_(1.0)
        again, expected = self._build(strategy).state_dict(), fresh.state_dict()
        assert list(again) == list(expected)
        for name, value in expected.items():
            assert torch.equal(again[name], value), name

    def test_says_what_a_training_row_costs(self) -> None:
        strategy = self.built()
        for task in self.trained_tasks():
            rows = EncodedSplit.build(
                examples(task, 3), partial(self.encode, strategy, task, purpose="train")
            )
            read, added = strategy.states_read(task, rows), strategy.added_operations(task, rows)
            assert read.shape == added.shape == (len(rows),)
            assert ((read >= 0) & (read <= rows.lengths)).all()
            assert (added >= 0).all()

    def test_own_parameters_serve_their_task_alone(self) -> None:
        strategy = self.built()
        known = {id(parameter) for parameter in strategy.parameters()}
        own = [list(strategy.own_parameters(task)) for task in self.trained_tasks()]
        found = [id(parameter) for parameters in own for parameter in parameters]
        assert len(set(found)) == len(found)
        assert set(found) <= known
        losses, tasks = strategy.losses(batch := self.batch(strategy)), batch.task
        for index, parameters in enumerate(own):
            if parameters and bool((tasks != index).any()):
                strays = torch.autograd.grad(
                    losses[tasks != index].sum(), parameters, retain_graph=True, allow_unused=True
                )
                assert not any(stray is not None and bool(stray.any()) for stray in strays)

    def test_every_parameter_is_clipped_in_one_group(self) -> None:
        strategy = self.built()
        groups = strategy.clipping_groups()
        if groups is not None:
            clipped = sorted(id(parameter) for group in groups for parameter in group)
            assert clipped == sorted(id(parameter) for parameter in strategy.parameters())

    def test_parameters_of_one_task_are_part_of_the_whole(self) -> None:
        strategy = self.built()
        total = sum(p.numel() for p in strategy.parameters())
        assert 0 <= sum(strategy.task_parameters(task) for task in self.trained_tasks()) <= total

    def _answer_batch(self, strategy: Strategy, task: Task, rows: list[Example]) -> Batch:
        encoded = [self.encode(strategy, task, row, "answer")[0] for row in rows]
        # An evaluation's batches are of one task, which is told beside them: their index is always 0.
        return collate(encoded, tasks=[0] * len(rows), rows=range(len(rows)))

    @staticmethod
    def _mean_loss(strategy: Strategy, batch: Batch) -> Tensor:
        return (strategy.losses(batch) * batch.weight).sum()
