"""Zero-shot: plain language modelling on running text; tasks are only asked, never taught.

Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2): a model of p(text) that has read enough
performs tasks it meets in prompts, with no labelled row and no gradient step. Training reads the corpus alone.
Evaluation writes each row as a prompt; closed answers are ranked by likelihood and decoded freely beside that, open
ones decoded greedily. Scores without a labelled row stand in a panel of their own and enter no multi-task gain.
"""

from __future__ import annotations

from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.learning.asked import Asked
from mtl.learning.language_modelling import LanguageModelling
from mtl.learning.reading import Layout, as_text
from mtl.tasks.task import Example, Task


class ZeroShot(LanguageModelling):
    """Zero-shot: language modelling on a corpus; tasks are evaluated through prompts only."""

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        layout = _layout(vocabulary)
        return as_text(example.prompt, layout, example, task, vocabulary, context, purpose)

    def asked(self, task: Task) -> Asked | None:
        return Asked(_layout(self.vocabulary), pieces="prompt")


def _layout(vocabulary: Vocabulary) -> Layout:
    """A prompt begins a document."""
    return Layout(opening=(vocabulary.end,), separator=None, closing=())
