"""What a language model reads before it answers a row: context examples, the row's prompt, and what had to be left out.

Text is tokenised as a whole and divided at the answer, so that a prompt and its answer have the tokens they have in
running text. A row that is longer than the context loses context examples first, the earliest of them first; a row
that is too long even alone loses tokens as its task's protocol says. What was lost is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtl.config.errors import UserError
from mtl.data.fitting import fit
from mtl.data.vocabulary import Vocabulary
from mtl.scoring.likelihood import Request
from mtl.scoring.pairs import encode_pair
from mtl.tasks.closed import right_answer
from mtl.tasks.splits import generator
from mtl.tasks.task import Example, Task


@dataclass(frozen=True)
class Prompted:
    """A row and the candidates that may continue it."""

    requests: tuple[Request, ...]
    """One for each candidate."""
    cut: int = 0
    """Tokens of the row's own prompt that lay beyond the context."""
    left_out: int = 0
    """Context examples that found no room."""


def context_examples(task: Task, count: int, *, seed: int) -> list[Example]:
    """The ``count`` training rows that every row of the task is shown, drawn by the seed and the task's name.

    :raises UserError: The task has fewer training rows.
    """
    if count == 0:
        return []
    train = task.train.examples if task.train is not None else ()
    if len(train) < count:
        raise UserError(
            f"task '{task.name}' has {len(train)} training rows, and {count} context examples were asked for",
            where=f"shots={count}",
            hints=[
                "context examples are training rows: the rows that are scored must not be among them"
            ],
        )
    order = generator(f"context examples of {task.name}", seed).permutation(len(train))
    return [train[index] for index in order[:count].tolist()]


class Prompts:
    """Writes the prompts of one task for one model.

    :param context: Most tokens the model reads.
    :param shown: Context examples, see :func:`context_examples`.
    :param start_token: Whether the end-of-text token stands before each prompt, as before every document a decoder
        here is trained on. GPT-2's published numbers by lm-evaluation-harness are without.
    """

    def __init__(
        self,
        task: Task,
        vocabulary: Vocabulary,
        context: int,
        *,
        shown: Sequence[Example] = (),
        start_token: bool = True,
    ):
        self.task = task
        self.vocabulary = vocabulary
        self.context = context
        self.start = (vocabulary.end,) if start_token else ()
        self._separator = task.config.protocol.separator
        self._shown = [self._demonstration(example) for example in shown]

    def before(self, example: Example) -> str:
        """The row's prompt as one text."""
        return "".join(example.prompt)

    def candidates(
        self, example: Example, answers: Sequence[str], given: Sequence[str]
    ) -> Prompted:
        """The requests of a row whose candidates are ``answers``, each behind its ``given`` text where there is any.

        All candidates follow the same prompt.

        :raises UserError: A candidate leaves no room for its prompt.
        """
        given = given or [""] * len(answers)
        for count in range(len(self._shown), -1, -1):
            text = self._header(count) + self.before(example)
            known: dict[str, list[int]] = {}
            pairs = [
                self._pair(text + before, answer, example, known)
                for before, answer in zip(given, answers, strict=True)
            ]
            longest = max(len(context) + len(tokens) for context, tokens in pairs)
            if len(self.start) + longest - 1 <= self.context:
                requests = [
                    Request(self._begun(context), tuple(tokens)) for context, tokens in pairs
                ]
                return Prompted(tuple(requests), left_out=len(self._shown) - count)
        tails = [
            (self.vocabulary.encode(before) if before else [], tokens)
            for before, (_, tokens) in zip(given, pairs, strict=True)
        ]
        room = self.context + 1 - max(len(before) + len(tokens) for before, tokens in tails)
        prompt, cut = self._cut(example, room)
        requests = [Request((*prompt, *before), tuple(tokens)) for before, tokens in tails]
        return Prompted(tuple(requests), cut, len(self._shown))

    def _pair(
        self, context: str, answer: str, example: Example, known: dict[str, list[int]]
    ) -> tuple[list[int], list[int]]:
        try:
            return encode_pair(self.vocabulary, context, answer, known=known)
        except ValueError as error:
            raise UserError(
                f"an answer cannot be scored: {error}",
                where=f"task '{self.task.name}', row {example.row}",
            ) from None

    def open(self, example: Example, longest: int) -> tuple[tuple[int, ...], int, int]:
        """The prompt of a row that is answered by at most ``longest`` new tokens: its tokens, how many of its own were
        cut, and how many context examples were left out.

        :raises UserError: There is no room for a prompt.
        """
        room = self.context - longest
        for count in range(len(self._shown), -1, -1):
            text = self._header(count) + self.before(example)
            prompt = self._begun(self.vocabulary.encode(text))
            if len(prompt) <= room:
                return prompt, 0, len(self._shown) - count
        prompt, cut = self._cut(example, room)
        return prompt, cut, len(self._shown)

    def _begun(self, tokens: Sequence[int]) -> tuple[int, ...]:
        if self.start and tuple(tokens[:1]) != self.start:
            return (*self.start, *tokens)
        return tuple(tokens)

    def _cut(self, example: Example, room: int) -> tuple[tuple[int, ...], int]:
        room -= len(self.start)
        if room < 1:
            raise UserError(
                f"the context of {self.context} tokens leaves no room for a prompt beside its answer",
                where=f"task '{self.task.name}', row {example.row}",
                hints=["take a decoder with a longer context, or a smaller max_answer_tokens"],
            )
        pieces = [self.vocabulary.encode(piece) for piece in example.prompt]
        if self.task.config.protocol.truncate == "left":
            tokens = [token for piece in pieces for token in piece]
            kept, cut = tokens[-room:], max(0, len(tokens) - room)
        else:
            parts, cut = fit(pieces, room)
            kept = [token for part in parts for token in part]
        return (*self.start, *kept), cut

    def _header(self, count: int) -> str:
        """The last ``count`` context examples, each with the separator behind it."""
        shown = self._shown[len(self._shown) - count :]
        return "".join(text + self._separator for text in shown)

    def _demonstration(self, example: Example) -> str:
        """A row with its right answer, as it would stand in running text."""
        if self.task.is_open:
            return f"{self.before(example)} {example.references[0]}"
        right = right_answer(example, self.task)
        given = example.given[right] if example.given else ""
        return f"{self.before(example)}{given}{example.answers[right]}"
