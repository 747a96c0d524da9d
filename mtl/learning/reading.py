"""How an example becomes tokens: for heads (GPT-1's traversal style) and as text (answers are words).

Shared by the strategies that read alike. A prompt is the same in training and in evaluation: what is cut from a row
that is longer than the context depends on the answer space, never on the right answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtl.config.errors import UserError
from mtl.data.encoding import Encoded, Purpose
from mtl.data.fitting import fit
from mtl.data.store import chunks
from mtl.data.vocabulary import Vocabulary
from mtl.tasks.closed import right_answer
from mtl.tasks.task import Example, Task


@dataclass(frozen=True)
class Layout:
    """The tokens around the pieces of a prompt."""

    opening: tuple[int, ...]
    """Before the first piece."""
    separator: int | None
    """Between two pieces."""
    closing: tuple[int, ...]
    """After the last piece."""


def heads_layout(vocabulary: Vocabulary, *, choices: bool = False) -> Layout:
    """Start, segments with a delimiter between them, extract, or, before a choice, one more delimiter."""
    closing = vocabulary.delimiter if choices else vocabulary.extract
    return Layout((vocabulary.start,), vocabulary.delimiter, (closing,))


def for_heads(
    example: Example, task: Task, vocabulary: Vocabulary, context: int, purpose: Purpose
) -> list[Encoded]:
    """Start, segments with a delimiter between them, extract (GPT-1, section 3.3).

    A multiple-choice row has one branch per choice (context, delimiter, choice, extract), so that the context is
    computed once. The answer of an open task follows the extract token. A document has no prompt.
    """
    if task.kind == "language_modelling":
        return document(example, vocabulary, context)
    layout = heads_layout(vocabulary, choices=bool(example.choices))
    if task.is_open:
        return [_open(example.segments, layout, example, task, vocabulary, context, purpose)]
    choices, cut_choices = _candidates(example.choices, vocabulary.extract, vocabulary, context)
    room = context - max(map(len, choices), default=0)
    prefix, cut = _prompt(example.segments, layout, task, vocabulary, room)
    return [
        Encoded(
            tokens=np.array(
                [*prefix, *(token for choice in choices for token in choice)], dtype=np.int32
            ),
            labelled=np.zeros(len(prefix) + sum(map(len, choices)), dtype=bool),
            branches=tuple(map(len, choices)),
            target=float("nan") if example.target is None else float(example.target),
            cut=cut + cut_choices,
        )
    ]


def as_text(
    pieces: Sequence[str],
    layout: Layout,
    example: Example,
    task: Task,
    vocabulary: Vocabulary,
    context: int,
    purpose: Purpose,
    *,
    words: Sequence[int] = (),
    whole: bool = False,
) -> list[Encoded]:
    """The pieces of a prompt, then the answer as words and the end token.

    In training the right answer follows and is labelled. For ``answer`` every answer of a closed task is a labelled
    branch, and the prompt of an open task stops where its answer begins.

    :param words: A token for each answer of a closed task, in place of its text.
    :param whole: In training every token after the first is labelled, not the answer's alone.
    """
    if task.kind == "language_modelling":
        return document(example, vocabulary, context)
    if task.is_open:
        return [_open(pieces, layout, example, task, vocabulary, context, purpose, whole=whole)]
    if words:
        answers, cut_answers = [[word, vocabulary.end] for word in words], 0
    else:
        answers, cut_answers = _candidates(example.answers, vocabulary.end, vocabulary, context)
    prefix, cut = _prompt(pieces, layout, task, vocabulary, context - max(map(len, answers)))
    asked = example.target is None
    right = -1 if asked else right_answer(example, task)
    shown = [answers[right]] if purpose == "train" else answers
    begin = 1 if whole and purpose == "train" else len(prefix)
    return [
        Encoded(
            tokens=np.array(
                [*prefix, *(token for answer in shown for token in answer)], dtype=np.int32
            ),
            labelled=np.arange(len(prefix) + sum(map(len, shown))) >= begin,
            branches=() if purpose == "train" else tuple(map(len, shown)),
            target=float("nan") if asked else float(right),
            cut=cut + cut_answers,
        )
    ]


def document(example: Example, vocabulary: Vocabulary, context: int) -> list[Encoded]:
    """A document between two end tokens, in chunks of the context; each of its tokens is predicted exactly once."""
    tokens = [*vocabulary.encode(example.references[0]), vocabulary.end]
    return chunks(tokens, context, first=vocabulary.end)


def _open(
    pieces: Sequence[str],
    layout: Layout,
    example: Example,
    task: Task,
    vocabulary: Vocabulary,
    context: int,
    purpose: Purpose,
    *,
    whole: bool = False,
) -> Encoded:
    longest = task.config.max_answer_tokens
    prefix, cut = _prompt(pieces, layout, task, vocabulary, context - longest - 1)
    answer: list[int] = []
    if purpose == "train":
        (kept,), cut_answer = fit([vocabulary.encode(" " + example.references[0])], longest)
        answer, cut = [*kept, vocabulary.end], cut + cut_answer
    begin = 1 if whole and purpose == "train" else len(prefix)
    return Encoded(
        tokens=np.array([*prefix, *answer], dtype=np.int32),
        labelled=np.arange(len(prefix) + len(answer)) >= begin,
        cut=cut,
    )


def _prompt(
    pieces: Sequence[str], layout: Layout, task: Task, vocabulary: Vocabulary, room: int
) -> tuple[list[int], int]:
    """The prompt in at most ``room`` tokens, and how many tokens were cut from its longest pieces."""
    tokens = [vocabulary.encode(piece) for piece in pieces]
    separators = 0 if layout.separator is None else len(tokens) - 1
    fixed = len(layout.opening) + separators + len(layout.closing)
    if room <= fixed:
        raise UserError(
            f"task '{task.name}' leaves {room} tokens of the context to its prompt, which needs {fixed + 1} or more",
            where=f"task.{task.name}.max_answer_tokens={task.config.max_answer_tokens}"
            if task.is_open
            else "decoder.context",
            hints=["take a decoder with a longer context, or a smaller max_answer_tokens"]
            if task.is_open
            else ["take a decoder with a longer context"],
        )
    kept, cut = fit(tokens, room - fixed)
    prompt = list(layout.opening)
    for index, piece in enumerate(kept):
        if index and layout.separator is not None:
            prompt.append(layout.separator)
        prompt.extend(piece)
    return [*prompt, *layout.closing], cut


def _candidates(
    texts: Sequence[str], last: int, vocabulary: Vocabulary, context: int
) -> tuple[list[list[int]], int]:
    """Each candidate and its last token, in at most half the context, and how many tokens were cut."""
    candidates, cut = [], 0
    for text in texts:
        (kept,), removed = fit([vocabulary.encode(text)], context // 2 - 1)
        candidates.append([*kept, last])
        cut += removed
    return candidates, cut
