"""A run's answers and their scores: those that select while it trains, and those that are reported."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mtl.assembly import encode_split, limited
from mtl.config.schema import FitConfig
from mtl.data.store import EncodedSplit
from mtl.learning.evaluation import answer_split
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import Scored
from mtl.record.progress import Progress
from mtl.scoring.score import TaskScore, average, score_task
from mtl.scoring.values import loss_nats_per_token
from mtl.tasks.task import Answer, Split, Task

Selection = list[tuple[Task, Split, EncodedSplit]]


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
                    store = encode_split(strategy, task, split, "answer", self.config.data)
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
            score, answers = self.score(strategy, task, split, store, resamples=0)
            scores.append(score)
            for name, found in score.metrics.items():
                values[f"{task.name}/selection_{name}"] = found.value
            if task.kind == "language_modelling":
                # What training measures too, in the same unit, so that the two curves can lie on one another.
                values[f"{task.name}/selection_loss_nats_per_token"] = loss_nats_per_token(answers)
        own = {task.name for task in strategy.tasks}
        value = float(average([score for score in scores if score.task in own])["value"])
        if named:
            values["selection_average"] = value
        return Scored(value, values)

    def score(
        self,
        strategy: Strategy,
        task: Task,
        split: Split,
        store: EncodedSplit,
        *,
        resamples: int,
        alone: bool = False,
        decode: bool = False,
    ) -> tuple[TaskScore, list[Answer]]:
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
            answers = answer_split(
                strategy,
                task,
                store,
                batch_tokens=self.config.evaluation.batch_tokens,
                device=strategy.decoder.device,
                rank=rank,
                world=world,
                decode=decode,
            )
            return score_task(task, split, answers, resamples=resamples), answers


def _distinct(tasks: Sequence[Task]) -> list[Task]:
    """Of tasks that have the same selection rows under the same name (a corpus that is a task too) the last."""
    known = {}
    for task in tasks:
        own = task.selection.fingerprint if task.selection is not None else None
        known[task.name, own] = task
    return list(known.values())
