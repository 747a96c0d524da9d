"""A run's answers and their scores: those that select while it trains, and those that are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mtl.assembly import encode_split, limited, score_notes
from mtl.config.schema import DataConfig, FitConfig
from mtl.data.store import EncodedSplit
from mtl.learning.evaluation import Advance, answer_split, evaluating, shared_out
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import Scored
from mtl.record.progress import Progress
from mtl.scoring.asking import Asking, ask, how_asked
from mtl.scoring.score import TaskScore, average, rescaled, score_task
from mtl.scoring.values import loss_nats_per_token
from mtl.tasks.task import Answer, Split, Task

Selection = list[tuple[Task, Split, "EncodedSplit | None"]]


def encoded(strategy: Strategy, task: Task, split: Split, data: DataConfig) -> EncodedSplit | None:
    """A split as the strategy reads it; None for one that reads running text: it is asked by each task's protocol."""
    return (
        None if strategy.reads == "corpus" else encode_split(strategy, task, split, "answer", data)
    )


@dataclass(frozen=True)
class Answered:
    """The answers to a split."""

    answers: list[Answer]
    """One for each example, in their order."""
    said: dict[str, Any]
    """What stands beside the scores in summary.json: notes, and how a language model was asked."""


def answer(
    strategy: Strategy,
    task: Task,
    split: Split,
    store: EncodedSplit | None,
    asking: Asking,
    *,
    rank: int = 0,
    world: int = 1,
    decode: bool = False,
    advance: Advance | None = None,
) -> Answered:
    """Answer the examples of a split.

    :param store: What :func:`encoded` gave.
    :param asking: How a strategy that reads running text is asked; of the others only the size of a batch.
    :param decode: Closed tasks are also answered freely.
    :param advance: Is told how many more rows, candidates or windows are done.
    """
    if store is not None:
        answers = answer_split(
            strategy,
            task,
            store,
            batch_tokens=asking.batch_tokens,
            device=strategy.decoder.device,
            rank=rank,
            world=world,
            advance=advance,
            decode=decode,
        )
        context = strategy.decoder.context
        return Answered(answers, {"notes": score_notes(task, split, store, context=context)})
    notes = [split.note] if split.note else []

    def own(part: Split) -> list[Answer]:
        asked = ask(
            strategy.decoder,
            strategy.vocabulary,
            task,
            part,
            asking,
            decode=decode,
            advance=advance,
        )
        notes.extend(asked.notes)
        return asked.answers

    with evaluating(strategy):
        answers = shared_out(split, own, rank=rank, world=world)
    return Answered(answers, {"notes": notes, **how_asked(task, asking)})


class Scorer:
    """Scores models of a run.

    :param progress: Is told what is being scored.
    """

    def __init__(self, config: FitConfig, progress: Progress):
        self.config = config
        self.progress = progress

    def selection(self, strategy: Strategy, tasks: Sequence[Task]) -> Selection:
        """The selection rows of what a strategy is trained on; for one that reads a corpus also those of the tasks.

        :param tasks: What the run evaluates.
        """
        corpus = strategy.reads == "corpus"
        found = []
        with self.progress.stage("tokenising the selection rows"):
            for task in _distinct([*tasks, *strategy.tasks]) if corpus else strategy.tasks:
                if task.selection is not None:
                    split = limited(task.selection, self.config.evaluation.selection_rows)
                    store = encoded(strategy, task, split, self.config.data)
                    found.append((task, split, store))
        return found

    def select(self, strategy: Strategy, selection: Selection, *, named: bool) -> Scored:
        """Score the selection rows. A strategy that reads a corpus is selected by its held-out text alone, so that no
        label takes part in training it.

        :param named: Whether the average is one over all tasks of the run, and so goes into the record.
        """
        scores: list[TaskScore] = []
        values: dict[str, float] = {}
        for task, split, store in selection:
            score, answered = self.score(strategy, task, split, store, resamples=0)
            scores.append(score)
            for name, measured in score.metrics.items():
                values[f"{task.name}/selection_{name}"] = measured.value
            if task.kind == "language_modelling":
                # What training measures too, in the same unit, so that the two curves can lie on one another.
                values[f"{task.name}/selection_loss_nats_per_token"] = loss_nats_per_token(
                    answered.answers
                )
        own = {task.name for task in strategy.tasks}
        value = float(average([score for score in scores if score.task in own])["value"])
        if named:
            values["selection_average"] = value
        return Scored(value, values, {score.task: rescaled(score) for score in scores})

    def score(
        self,
        strategy: Strategy,
        task: Task,
        split: Split,
        store: EncodedSplit | None,
        *,
        resamples: int,
        alone: bool = False,
        decode: bool = False,
    ) -> tuple[TaskScore, Answered]:
        """The score of one task, and the answers behind it.

        :param alone: This process answers all rows, whatever other processes there are.
        :param decode: Closed tasks are also answered freely, see :func:`mtl.learning.evaluation.answer_split`.
        """
        world = (
            1
            if alone or not torch.distributed.is_initialized()
            else torch.distributed.get_world_size()
        )
        rank = torch.distributed.get_rank() if world > 1 else 0
        with self.progress.stage(f"scoring {task.name}"):
            asking = Asking(seed=self.config.seed, batch_tokens=self.config.evaluation.batch_tokens)
            answered = answer(
                strategy, task, split, store, asking, rank=rank, world=world, decode=decode
            )
            return score_task(task, split, answered.answers, resamples=resamples), answered


def _distinct(tasks: Sequence[Task]) -> list[Task]:
    """Of tasks that have the same selection rows under the same name (a corpus that is a task too) the last."""
    known = {}
    for task in tasks:
        own = task.selection.fingerprint if task.selection is not None else None
        known[task.name, own] = task
    return list(known.values())
