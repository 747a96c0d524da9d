"""GPT-1's fine-tuning: its input forms, its loss against a slow computation, symmetry, and the paper's schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import mtl.testing.strategies as suite
from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig, FitConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch, collate, idle_batch
from mtl.data.encoding import Encoded, Purpose
from mtl.decoder.building import new_decoder
from mtl.learning.schedule import multiplier
from mtl.learning.strategy import Strategy
from mtl.tasks.checks import check_task
from mtl.tasks.task import Example, Task
from mtl.testing.strategies import CONTEXT, SENTENCES, StrategyConformance, base_vocabulary

SHAPE = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)
CLASSES, SCORES, CHOICES, OPEN = suite.TASKS
SYMMETRIC = replace(SCORES, config=replace(SCORES.config, symmetric=True))
TASKS = (CLASSES, SYMMETRIC, CHOICES, OPEN)
DOCUMENTS = suite.DOCUMENTS


def made(**settings: object) -> Strategy:
    return load_strategy_class("pretrain_finetune")(**settings)


def built(
    tasks: tuple[Task, ...] = TASKS, trunk: str = "transformer", **settings: object
) -> Strategy:
    """A strategy around a small decoder, in evaluation mode."""
    strategy = made(**settings)
    vocabulary = base_vocabulary()
    shape = replace(SHAPE, trunk=trunk)
    decoder = new_decoder(shape, vocabulary.size, base_vocabulary=vocabulary.base_size, seed=0)
    strategy.build(decoder, tasks, vocabulary, seed=0)
    return strategy.eval()


@lru_cache
def usual(trunk: str = "transformer") -> Strategy:
    """One that no test changes."""
    return built(trunk=trunk)


def encoded(
    strategy: Strategy, task: Task, example: Example, purpose: Purpose = "train"
) -> Encoded:
    (one,) = strategy.encode(example, task, strategy.vocabulary, CONTEXT, purpose)
    return one


def batch_of(strategy: Strategy, task: Task, *rows: Example, purpose: Purpose = "train") -> Batch:
    index = strategy.tasks.index(task)
    encodings = [encoded(strategy, task, row, purpose) for row in rows]
    return collate(encodings, tasks=[index] * len(rows), rows=range(len(rows)))


def mixed(strategy: Strategy, tasks: tuple[Task, ...] = TASKS, rows: int = 3) -> Batch:
    """Rows of all tasks, interleaved."""
    chosen = [
        (index, suite.examples(task, rows)[row])
        for row in range(rows)
        for index, task in enumerate(tasks)
    ]
    encodings = [encoded(strategy, tasks[index], example) for index, example in chosen]
    return collate(encodings, tasks=[index for index, _ in chosen], rows=range(len(chosen)))


def sequences(one: Encoded) -> Iterator[list[int]]:
    """Each sequence of an example as it would stand alone: the prefix, then one branch."""
    prefix, rest = one.tokens[: one.prefix], one.tokens[one.prefix :]
    if not one.branches:
        yield prefix.tolist()
    for branch in np.split(rest, np.cumsum(one.branches)[:-1]) if one.branches else ():
        yield [*prefix.tolist(), *branch.tolist()]


class TestWithoutAuxiliary(StrategyConformance):
    def strategy(self) -> Strategy:
        return made(auxiliary=0.0)


class TestWithSymmetricTask(StrategyConformance):
    @pytest.fixture(autouse=True)
    def _tasks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suite, "TASKS", TASKS)

    def strategy(self) -> Strategy:
        return made()

    def test_encodings_fit_the_context_and_count_what_they_cut(self) -> None:
        """Of a pair, whose two segments the suite's long row of one segment is not."""
        long = " ".join(SENTENCES)
        for purpose in ("train", "answer"):
            one = encoded(usual(), SYMMETRIC, pair(long, long + long), purpose)
            assert one.cut > 0
            assert [len(sequence) for sequence in sequences(one)] == [CONTEXT, CONTEXT]


def slow_loss(strategy: Strategy, task: Task, example: Example, auxiliary: float) -> Tensor:
    """L2 + lambda * L1 of one example, each sequence alone in its row, everything projected."""
    one = encoded(strategy, task, example)
    nats, states = [], []
    for tokens in sequences(one):
        ids = torch.tensor([tokens])
        hidden = strategy.decoder(ids)[0]
        logits = strategy.decoder.logits(hidden)
        nats.append(F.cross_entropy(logits[:-1], ids[0, 1:], reduction="none"))
        states.append(hidden[-1])
    if task.is_open:
        answer = len(strategy.vocabulary.encode(" " + example.references[0])) + 1
        return nats[0][-answer:].mean() + auxiliary * nats[0][:-answer].mean()
    language_model = torch.stack([sequence.mean() for sequence in nats]).mean()
    head = strategy.heads.heads[task.name]
    if task.kind == "multiple_choice":
        outputs = torch.cat([head(state) for state in states])
        supervised = F.cross_entropy(outputs[None], torch.tensor([example.target]))
    elif task.kind == "regression":
        supervised = (head(torch.stack(states).sum(0))[0] - example.target) ** 2
    else:
        supervised = F.cross_entropy(head(states[0])[None], torch.tensor([example.target]))
    return supervised + auxiliary * language_model


@pytest.mark.parametrize("trunk", ["transformer", "lstm"])
@pytest.mark.parametrize("auxiliary", [0.0, 0.5, 2.0])
def test_the_loss_is_l2_and_lambda_l1_of_each_sequence_alone(auxiliary: float, trunk: str) -> None:
    strategy = built(trunk=trunk, auxiliary=auxiliary)
    found = strategy.losses(mixed(strategy))
    expected = torch.stack(
        [
            slow_loss(strategy, task, suite.examples(task, 3)[row], auxiliary)
            for row in range(3)
            for task in TASKS
        ]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradients = [
        torch.autograd.grad(loss.sum(), list(strategy.parameters()), allow_unused=True)
        for loss in (found, expected)
    ]
    for parameter, one, two in zip(strategy.parameters(), *gradients, strict=True):
        one, two = (torch.zeros_like(parameter) if g is None else g for g in (one, two))
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_a_document_is_an_answer_from_its_first_token_on() -> None:
    strategy = built(tasks=(DOCUMENTS,))
    example = suite.examples(DOCUMENTS, 1)[0]
    batch = batch_of(strategy, DOCUMENTS, example)
    ids = torch.tensor(np.array(batch.encoded[0].tokens))[None].long()
    logits = strategy.decoder.logits(strategy.decoder(ids))
    expected = F.cross_entropy(logits[0, :-1], ids[0, 1:])
    torch.testing.assert_close(strategy.losses(batch)[0], expected)


@pytest.mark.parametrize("task", [CLASSES, SYMMETRIC, CHOICES], ids=lambda task: task.kind)
def test_without_the_auxiliary_loss_nothing_is_projected_to_the_vocabulary(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = built((task,), auxiliary=0.0)
    monkeypatch.setattr(strategy.decoder, "logits", lambda hidden: pytest.fail("projected"))
    batch = batch_of(strategy, task, *suite.examples(task, 3))
    assert not len(batch.label_tokens)
    assert strategy.losses(batch).isfinite().all()


@pytest.mark.parametrize("task", [CLASSES, SYMMETRIC, CHOICES], ids=lambda task: task.kind)
def test_what_is_asked_has_no_labelled_token(task: Task) -> None:
    for example in suite.examples(task, 3):
        assert not encoded(usual(), task, example, "answer").labelled.any()
        shown = encoded(usual(), task, example)
        assert shown.labelled.tolist() == [False] + [True] * (len(shown.tokens) - 1)


@pytest.mark.parametrize(("auxiliary", "reaches"), [(0.0, False), (0.5, True)])
def test_the_auxiliary_gradient_reaches_embeddings_of_tokens_that_are_not_read(
    auxiliary: float, reaches: bool
) -> None:
    strategy = built(auxiliary=auxiliary)
    batch = batch_of(strategy, CLASSES, suite.examples(CLASSES, 1)[0])
    strategy.losses(batch).sum().backward()
    gradient = strategy.decoder.token_embedding.weight.grad
    assert gradient is not None
    unread = torch.ones(len(gradient), dtype=torch.bool)
    unread[batch.tokens.flatten()] = False
    assert gradient[~unread].any(1).all()
    assert gradient[unread].any(1).tolist() == [reaches] * int(unread.sum())


@pytest.mark.parametrize("auxiliary", [0.0, 0.5])
@pytest.mark.parametrize("task", [*TASKS, DOCUMENTS], ids=lambda task: task.name)
def test_a_device_without_an_example_gives_every_parameter_a_zero_gradient(
    task: Task, auxiliary: float
) -> None:
    strategy = built((task,), auxiliary=auxiliary).train()
    (strategy.losses(idle_batch()) * idle_batch().weight).sum().backward()
    for name, parameter in strategy.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def pair(first: str, second: str, target: float = 2.0) -> Example:
    return Example("train:0", (first, second), (), target, (" 0.00", " 5.00"))


TEXTS = st.text(alphabet="abcdefgh ", max_size=12).map(lambda text: text * 12)


@given(TEXTS, TEXTS)
def test_similarity_is_exactly_symmetric_also_where_it_is_cut(first: str, second: str) -> None:
    strategy = usual()
    one, two = (
        encoded(strategy, SYMMETRIC, pair(*texts)) for texts in ((first, second), (second, first))
    )
    assert one.tokens.tolist() == two.tokens.tolist()
    assert (one.branches, one.cut) == (two.branches, two.cut)
    length = sum(len(strategy.vocabulary.encode(text)) for text in (first, second))
    assert one.cut == max(0, length + 3 - CONTEXT)
    assert {tuple(sequence) for sequence in sequences(one)} == {
        tuple(turned(sequence, strategy)) for sequence in sequences(one)
    }


def turned(sequence: list[int], strategy: Strategy) -> list[int]:
    """The same pair in the other order."""
    delimiter, body = strategy.vocabulary.delimiter, sequence[1:-1]
    middle = body.index(delimiter)
    return [sequence[0], *body[middle + 1 :], delimiter, *body[:middle], sequence[-1]]


def test_a_swapped_pair_has_the_same_loss_and_answer_to_the_last_bit() -> None:
    strategy = usual()
    rows = [pair(SENTENCES[i], SENTENCES[j]) for i in range(3) for j in range(i + 1, 5)]
    swapped = [replace(row, segments=row.segments[::-1]) for row in rows]
    losses = [strategy.losses(batch_of(strategy, SYMMETRIC, *some)) for some in (rows, swapped)]
    assert torch.equal(*losses)
    assert len(set(losses[0].tolist())) == len(rows)
    batches = [batch_of(strategy, SYMMETRIC, *some, purpose="answer") for some in (rows, swapped)]
    assert strategy.answers(batches[0], SYMMETRIC) == strategy.answers(batches[1], SYMMETRIC)


@pytest.mark.parametrize("trunk", ["transformer", "lstm"])
def test_the_states_of_both_orders_are_added(trunk: str) -> None:
    strategy = usual(trunk)
    example = pair(SENTENCES[0], SENTENCES[1])
    batch = batch_of(strategy, SYMMETRIC, example, purpose="answer")
    states = [strategy.decoder(torch.tensor([s]))[0, -1] for s in sequences(batch.encoded[0])]
    expected = strategy.heads.heads[SYMMETRIC.name](states[0] + states[1]).item()
    assert 0 < expected < 5
    (answer,) = strategy.answers(batch, SYMMETRIC)
    assert answer.value == pytest.approx(expected, abs=1e-5)


def test_a_pair_with_an_order_is_read_once_in_that_order() -> None:
    (one,) = sequences(encoded(built((SCORES,)), SCORES, pair("one", "two")))
    vocabulary = base_vocabulary()
    first, second = vocabulary.encode("one"), vocabulary.encode("two")
    assert one == [vocabulary.start, *first, vocabulary.delimiter, *second, vocabulary.extract]


@pytest.mark.parametrize("trunk", ["transformer", "lstm"])
@pytest.mark.parametrize("order", [[1, 0, 2], [2, 0, 1], [2, 1, 0]])
def test_choices_are_scored_as_separate_sequences_in_whatever_order(
    order: list[int], trunk: str
) -> None:
    strategy = usual(trunk)
    example = suite.examples(CHOICES, 2)[1]
    assert len(example.choices) == 3

    def scores(choices: tuple[str, ...]) -> Tensor:
        asked = replace(example, choices=choices)
        batch = batch_of(strategy, CHOICES, asked, purpose="answer")
        (answer,) = strategy.answers(batch, CHOICES)
        head = strategy.heads.heads[CHOICES.name]
        alone = [
            head(strategy.decoder(torch.tensor([s]))[0, -1]) for s in sequences(batch.encoded[0])
        ]
        found = torch.tensor(answer.scores, dtype=torch.float64)
        torch.testing.assert_close(
            found, torch.cat(alone).log_softmax(0).double(), atol=1e-5, rtol=1e-5
        )
        return found

    permuted = scores(tuple(example.choices[i] for i in order))
    torch.testing.assert_close(scores(example.choices)[order], permuted, atol=1e-6, rtol=0)
    losses = [
        strategy.losses(batch_of(strategy, CHOICES, row))[0]
        for row in (
            example,
            replace(
                example,
                choices=tuple(example.choices[i] for i in order),
                target=order.index(int(example.target or 0)),
            ),
        )
    ]
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("task", [CLASSES, SYMMETRIC, CHOICES], ids=lambda task: task.kind)
def test_classifier_dropout_is_drawn_once_for_all_candidates_of_an_example(task: Task) -> None:
    strategy = built(classifier_dropout=0.5)
    read: list[Tensor] = []
    strategy.heads.heads[task.name].register_forward_pre_hook(
        lambda head, states: read.append(states[0].detach())
    )
    batch = batch_of(strategy, task, *suite.examples(task, 6))
    whole = strategy.losses(batch)
    assert torch.equal(whole, strategy.losses(batch))
    strategy.train()
    torch.manual_seed(0)
    assert not torch.equal(whole, strategy.losses(batch))
    plain, _, dropped = read
    factors = dropped / plain
    assert set(factors.flatten().tolist()) <= {0.0, 2.0}
    owners = batch.branch_examples.unique() if task is SYMMETRIC else batch.branch_examples
    masks = [{tuple(row.tolist()) for row in factors[owners == i]} for i in range(6)]
    assert all(len(mask) == 1 for mask in masks)
    assert len(set.union(*masks)) == 6


def test_new_parameters_are_the_heads_and_the_special_tokens() -> None:
    strategy, width = usual(), SHAPE.width
    # A bias would change nothing where outputs are compared with each other: choices have none.
    heads = [3 * width + 3, width + 1, width, 0]
    assert [strategy.task_parameters(task) for task in TASKS] == heads
    base = base_vocabulary()
    plain = new_decoder(SHAPE, base.base_size)
    count, before = (sum(p.numel() for p in module.parameters()) for module in (strategy, plain))
    special = {base.start, base.delimiter, base.extract, base.end}
    assert strategy.special_tokens(TASKS) == ()
    assert count - before == len(special) * width + sum(heads)


def test_the_default_schedule_is_the_papers() -> None:
    config = compose(
        "fit", FitConfig, ["strategy=pretrain_finetune", "optimizer=gpt1", "tasks=[cola]"]
    )
    pretraining = config.optimizer
    (stage,) = made().stages()
    assert stage.each
    fine_tuning = replace(
        pretraining,
        learning_rate=pretraining.learning_rate * stage.learning_rate,
        **stage.schedule,
    )
    assert pretraining.learning_rate == 2.5e-4
    assert fine_tuning.learning_rate == pytest.approx(6.25e-5)
    assert (fine_tuning.betas, fine_tuning.weight_decay, fine_tuning.clip) == (
        [0.9, 0.999],
        0.01,
        1,
    )
    for done, linear in ((0.001, 0.5), (0.002, 1.0), (0.501, 0.5), (0.9002, 0.1), (1.0, 0.0)):
        assert multiplier(done, fine_tuning) == pytest.approx(linear, abs=1e-12)
    for done, cosine in ((0.001, 0.5), (0.501, 0.5), (0.7505, 0.5 - math.sqrt(0.125)), (1.0, 0.0)):
        assert multiplier(done, pretraining) == pytest.approx(cosine, abs=1e-12)
    assert made().pretraining == 0.5


def test_settings_out_of_range_in_one_message() -> None:
    with pytest.raises(UserError) as caught:
        made(auxiliary=-0.5, classifier_dropout=1.0, learning_rate=0.0, warmup=1.5)
    assert str(caught.value) == (
        "auxiliary is a finite number, 0 or more (strategy.auxiliary=-0.5)\n"
        "classifier_dropout is at least 0 and below 1 (strategy.classifier_dropout=1.0)\n"
        "learning_rate is a finite number above 0 (strategy.learning_rate=0.0)\n"
        "warmup is between 0 and 1 (strategy.warmup=1.5)"
    )


def test_only_two_segments_with_a_class_or_a_score_can_be_symmetric() -> None:
    config = replace(
        CHOICES.config,
        segments=["{{ text }}"],
        prompt=["{{ text }}"],
        choices=["{{ one }}", "{{ two }}"],
        symmetric=True,
    )
    with pytest.raises(UserError) as caught:
        check_task(config)
    assert str(caught.value) == (
        "it is said of 2 segments, found 1 (task.cause.symmetric)\n"
        "only for classification or pair_classification or regression, not for multiple_choice"
        " (task.cause.symmetric)"
    )
