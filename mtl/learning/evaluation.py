"""A strategy's answers to the rows of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from mtl.data.batch import Batch
from mtl.data.loader import evaluation_batches
from mtl.data.store import EncodedSplit
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Split, Task

Advance = Callable[[int], None]
"""Called with the number of rows that were answered since the last call."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode comes back."""
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(training)


def answer_split(
    strategy: Strategy,
    task: Task,
    store: EncodedSplit,
    *,
    batch_tokens: int,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
    advance: Advance | None = None,
    decode: bool = False,
) -> list[Answer]:
    """One answer per example of the split, in its order.

    Batches depend on the split alone, and a row's answer does not depend on its batch. With ``world`` > 1 each
    device answers its share of the batches and all of them receive every answer.

    :param decode: Closed tasks are also answered freely, where the strategy can (:meth:`Strategy.decoded`).
    """
    found: dict[int, Answer] = {}
    with evaluating(strategy):
        for batch in evaluation_batches(store, 0, batch_tokens, rank=rank, world=world):
            answers = _answers(strategy, batch.to(device), task, decode=decode)
            found.update(zip(batch.rows, answers, strict=True))
            if advance is not None:
                advance(len(batch.rows))
    if world > 1:
        shares: list[dict[int, Answer] | None] = [None] * world
        torch.distributed.all_gather_object(shares, found)
        found = {row: answer for share in shares if share for row, answer in share.items()}
    return _by_example(store, found)


def shared_out(
    split: Split, answer: Callable[[Split], list[Answer]], *, rank: int = 0, world: int = 1
) -> list[Answer]:
    """Answers to a split of which each device answers every ``world``-th example, and all receive every answer."""
    if world == 1:
        return answer(split)
    own = answer(replace(split, examples=split.examples[rank::world]))
    shares: list[list[Answer]] = [[] for _ in range(world)]
    torch.distributed.all_gather_object(shares, own)
    return [shares[row % world][row // world] for row in range(len(split.examples))]


def _answers(strategy: Strategy, batch: Batch, task: Task, *, decode: bool) -> list[Answer]:
    answers = strategy.answers(batch, task)
    texts = strategy.decoded(batch, task) if decode else None
    if texts is None:
        return answers
    return [replace(answer, decoded=text) for answer, text in zip(answers, texts, strict=True)]


def _by_example(store: EncodedSplit, found: dict[int, Answer]) -> list[Answer]:
    """Answers in the order of the examples; the chunks of a long document are summed."""
    answers: dict[int, Answer] = {}
    for row in range(len(store)):
        example = int(store.examples[row])
        answers[example] = (
            _joined(answers[example], found[row]) if example in answers else found[row]
        )
    return [answers[example] for example in sorted(answers)]


def _joined(first: Answer, second: Answer) -> Answer:
    """The answer to two parts of a document."""
    return Answer(
        value=first.value + second.value,  # type: ignore[operator]
        tokens=tuple(sum(counts) for counts in zip(first.tokens, second.tokens, strict=True)),
    )
