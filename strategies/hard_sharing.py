"""Hard parameter sharing: one decoder for all tasks, a head for each, every task in every step.

Caruana, "Multitask Learning" (Machine Learning 28, 1997): the hidden layers are shared, only the outputs belong to a
task, and one update descends on all tasks at once. Rows are read as in GPT-1 (start, segments, extract). Heads follow
the kind of answer; for open answers a head is a vocabulary projection of the task's own, so parameters grow with
every task, as the ledger shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.headed import HeadedStrategy
from mtl.learning.heads import Heads
from mtl.tasks.task import Task


class HardSharing(HeadedStrategy):
    """Hard sharing: one decoder, a head per task, every task in every step.

    The loss of a step is the mean over tasks of each task's mean over its examples, so a task that brings fewer rows
    to a step weighs no less.

    :param heads: ``own``: each task has a head of its own. ``by_answers``: closed tasks of the same kind with the same
        answers (label words, range; multiple choice: all) have one head between them.
    """

    composition = "every_task"
    reduction = "task_example_mean"

    def __init__(self, *, heads: Literal["own", "by_answers"] = "own"):
        super().__init__()
        self._shared = heads == "by_answers"

    def make_heads(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, seed: int
    ) -> Heads:
        return Heads(tasks, decoder, seed, shared=self._shared)
