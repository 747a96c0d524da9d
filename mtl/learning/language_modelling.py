"""Plain language modelling: a paradigm's whole training, or the stage before the tasks where a run begins with one."""

from __future__ import annotations

from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.learning.reading import document
from mtl.learning.textual import TextualStrategy
from mtl.tasks.task import Example, Task


class LanguageModelling(TextualStrategy):
    """One decoder that predicts each next token of documents (GPT-1, equation 1), whatever trains on it later.

    It learns no task. It is asked one as the task's protocol says (:mod:`mtl.scoring.asking`).
    """

    composition = "mixed"
    reads = "corpus"
    reduction = "token_mean"

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        return document(example, vocabulary, context)
