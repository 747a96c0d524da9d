"""Task signal: no heads; a signal in the input says which task is meant, and the answer is text.

The text-to-text form of multi-task learning (McCann et al., decaNLP, 1806.08730; Raffel et al., T5, 1910.10683) with
a decoder that models p(output | input, task) (GPT-2, section 2). The signal is one of

- ``token``: a special token of the task opens the row;
- ``vector``: a learned vector of the task is added to the embedding of every token of the row, those of the answer
  included (MaChAmp's dataset embedding; tasknet adds it to the first token alone);
- ``text``: the task's instruction in words stands before the row (T5's prefix, section 2.4); no room is taken from it
  where a row is longer than the context;
- ``none``: the row alone. Tasks that read alike cannot be told apart.

All parameters are shared but the tasks' tokens or vectors. Closed answers are read out by ranking the answer space (a
score is one of 21 evenly spaced values, as in T5 section 2.4) and by greedy decoding beside it, open ones by greedy
decoding. Mueller et al., "Do Text-to-Text Multi-Task Learners Suffer from Task Conflict?", compare the label words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mtl.config.errors import UserError, raise_all
from mtl.data.batch import Batch
from mtl.data.encoding import Encoded, Purpose
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gathering import rows_at
from mtl.decoder.gpt import Decoder, draw_normal
from mtl.learning.asked import Asked
from mtl.learning.reading import Layout, as_text
from mtl.learning.textual import TextualStrategy
from mtl.tasks.task import Example, Task


def task_token(task: Task) -> str:
    """The token that names the task."""
    return f"<|task:{task.name}|>"


class TaskSignal(TextualStrategy):
    """Task signal: a token, a vector or words say the task, the answer is text; no heads.

    :param signal: What says the task: a special token, a learned vector, the task's instruction as text, or nothing.
    :param loss: Whether the answer's tokens are trained, or every token of the row after the first.
    :param words: Label words of classification: the task file's answers, or meaningless tokens, which class i of
        every task shares or which are distinct for each task and class.
    """

    composition = "mixed"
    reduction = "token_mean"

    def __init__(
        self,
        *,
        signal: Literal["token", "vector", "text", "none"] = "token",
        loss: Literal["answer", "all"] = "answer",
        words: Literal["natural", "arbitrary_shared", "arbitrary_distinct"] = "natural",
    ):
        super().__init__()
        self.signal, self.loss, self.words = signal, loss, words
        self.control = ""
        # Plain text, so that encodings under a control are kept apart from those of a run with other tasks.
        self.controlled_signals = ""

    def special_tokens(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        tokens = [task_token(task) for task in tasks] if self.signal == "token" else []
        words = [word for task in tasks for word in self._arbitrary_words(task)]
        return tuple(dict.fromkeys([*tokens, *words]))

    def build(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, *, seed: int = 0
    ) -> None:
        super().build(decoder, tasks, vocabulary, seed=seed)
        if self.signal == "text":
            raise_all([_no_words(task) for task in tasks if not _instruction(task)])
        if self.signal == "vector":
            self.vectors = nn.ParameterDict(
                {
                    task.name: nn.Parameter(
                        draw_normal((decoder.width,), seed, f"task_vector.{task.name}")
                    )
                    for task in tasks
                }
            )

    def encode(
        self, example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
    ) -> list[Encoded]:
        return as_text(
            example.segments,
            self._layout(self._told(task, example.row), vocabulary),
            example,
            task,
            vocabulary,
            context,
            purpose,
            words=[vocabulary.special(word) for word in self._arbitrary_words(task)],
            whole=self.loss == "all",
        )

    def offsets(self, batch: Batch, task: Task | None) -> Tensor | None:
        if self.signal != "vector":
            return None
        if task is None:
            told = batch.task
        else:
            names = [known.name for known in self.tasks]
            drawn = [names.index(self._told(task, row).name) for row in batch.rows]
            told = torch.tensor(drawn, device=batch.task.device)
        return rows_at(torch.stack([self.vectors[known.name] for known in self.tasks]), told)

    def label_words(self, task: Task) -> Mapping[int, str]:
        own = self._arbitrary_words(task)
        texts = {word: task.config.answers[index] for index, word in enumerate(own)}
        every = [word for known in self.tasks for word in self._arbitrary_words(known)]
        return {self.vocabulary.special(word): texts.get(word, word) for word in every}

    def asked(self, task: Task) -> Asked | None:
        words = [self.vocabulary.special(word) for word in self._arbitrary_words(task)]
        vector = self.vectors[task.name] if self.signal == "vector" else None
        return Asked(self._layout(task, self.vocabulary), words=tuple(words), vector=vector)

    def own_parameters(self, task: Task) -> Iterable[nn.Parameter]:
        return (self.vectors[task.name],) if self.signal == "vector" else ()

    def task_parameters(self, task: Task) -> int:
        tokens = int(self.signal in ("token", "vector"))
        if self.words == "arbitrary_distinct":
            tokens += len(self._arbitrary_words(task))
        return tokens * self.decoder.width

    def disturb(self, control: str) -> None:
        where = f"signal={control}"
        if self.signal == "none":
            raise UserError(
                f"the run has no signal (strategy.signal=none) that could be {control}", where=where
            )
        if len(self.tasks) < 2:
            raise UserError(
                f"the run knows task '{self.tasks[0].name}' alone, and no other signal to give",
                where=where,
            )
        self.control = control
        self.controlled_signals = "\n".join(self._shown(task) for task in self.tasks)
        for task in self.tasks if control == "wrong" else ():
            if self._shown(task) == self._shown(other := self._told(task, "")):
                raise UserError(
                    f"tasks '{task.name}' and '{other.name}' have the same instruction, so it cannot be wrong",
                    where=where,
                )

    def _told(self, task: Task, row: object) -> Task:
        """The task whose signal a row gets: its own, unless a control says otherwise."""
        if not self.control:
            return task
        names = [known.name for known in self.tasks]
        if self.control == "wrong":
            return self.tasks[(names.index(task.name) + 1) % len(names)]
        digest = hashlib.sha256(f"{task.name}/{row}".encode()).digest()
        return self.tasks[int.from_bytes(digest[:8], "big") % len(names)]

    def _shown(self, task: Task) -> str:
        return _instruction(task) if self.signal == "text" else task.name

    def _layout(self, task: Task, vocabulary: Vocabulary) -> Layout:
        opening = self._opening(task, vocabulary)
        return Layout(opening, vocabulary.delimiter, closing=(vocabulary.extract,))

    def _opening(self, task: Task, vocabulary: Vocabulary) -> tuple[int, ...]:
        if self.signal == "token":
            return (vocabulary.special(task_token(task)),)
        if self.signal == "text":
            instruction = vocabulary.encode(_instruction(task))
            return (vocabulary.start, *instruction, vocabulary.delimiter)
        return (vocabulary.start,)

    def _arbitrary_words(self, task: Task) -> list[str]:
        """The meaningless token of each class; none where the task's own answers are the label words."""
        if self.words == "natural":
            return []
        scope = f"{task.name}:" if self.words == "arbitrary_distinct" else ""
        return [f"<|label:{scope}{index}|>" for index in range(task.classes)]


def _instruction(task: Task) -> str:
    return task.config.instruction or task.config.description


def _no_words(task: Task) -> UserError:
    return UserError(
        f"task '{task.name}' has neither an instruction nor a description to put before its rows",
        where=f"task.{task.name}.instruction",
        hints=["give it one, or take another strategy.signal: token, vector, none"],
    )
