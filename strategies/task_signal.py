"""Task signal: no heads; a token names the task, and the answer is text.

The text-to-text form of multi-task learning (McCann et al., decaNLP, 1806.08730; Raffel et al., T5, 1910.10683) with
a decoder that models p(output | input, task) (GPT-2, section 2): a task token of its own opens the sequence, the
segments follow, then the answer as words. All parameters are shared but the tokens' embeddings. The loss is on the
answer. Closed answers are read out by ranking the answer space (a score is one of 21 evenly spaced values, as in T5
section 2.4), open ones by greedy decoding.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.learning.reading import Layout, as_text
from mtl.learning.textual import TextualStrategy
from mtl.tasks.task import Example, Task


def task_token(task: Task) -> str:
    """The token that names the task."""
    return f"<|task:{task.name}|>"


class TaskSignal(TextualStrategy):
    """Task signal: a task token opens the row, the answer is text; no heads."""

    composition = "mixed"
    reduction = "token_mean"

    def special_tokens(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        return tuple(task_token(task) for task in tasks)

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        layout = Layout(
            opening=(vocabulary.special(task_token(task)),),
            separator=vocabulary.delimiter,
            closing=(vocabulary.extract,),
        )
        return as_text(example.segments, layout, example, task, vocabulary, context, purpose)

    def task_parameters(self, task: Task) -> int:
        return self.decoder.width
