"""Running text with demonstrations of the tasks in a chosen share of the documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtl.config.errors import UserError, unknown_name
from mtl.tasks.microworld.draw import SPLITS, Row, stream
from mtl.tasks.microworld.entities import PEOPLE, world
from mtl.tasks.microworld.generation import TASKS, drawn_rows
from mtl.tasks.microworld.narration import narrate

COUNTS = {"train": 12_000, "validation": 400, "test": 400}
"""Documents of each split where no count is asked for."""

FRAMES = {
    "sentiment": "{who} read out what the guests had written.",
    "acceptability": "{who} went through the sentences of the pupils.",
    "entailment": "{who} asked what follows from what was said.",
    "similarity": "{who} compared what people had told.",
    "question_answering": "{who} asked questions about the news.",
    "pronoun": "{who} explained little words.",
    "translation": "{who} taught the language of Velmoor.",
    "summarisation": "{who} kept a short diary of the town.",
}
"""How a document with demonstrations begins."""


@dataclass(slots=True)
class _Demonstrations:
    """A document that shows a few rows of one task."""

    opening: str
    task: str
    rows: list[Row]

    def text(self) -> str:
        shown = ("".join(TASKS[self.task].demonstrate(row)) for row in self.rows)
        return "\n".join([self.opening, *shown])


def documents(
    *,
    demonstrations: float,
    permuted: bool = False,
    split: str = "train",
    seed: int = 0,
    count: int | None = None,
) -> list[str]:
    """Unlabelled running text about the microworld.

    A document without demonstrations is the same whatever the share is: only the chosen documents
    differ. Demonstrations are rows of the *training* split in every case, worded as the prompts and answers of
    the task files, one a line.

    :param demonstrations: Share of the documents that consist of demonstrations, 0 to 1.
    :param permuted: Permute the targets among the demonstrations of each task: the same text and the same
        answers in all, but an answer says nothing about what stands before it. The control.
    :param split: Whose events, opinions and causes are told: ``train``, ``validation`` or ``test``.
    :param seed: The world.
    :param count: Number of documents; by default 12,000, and 400 for an evaluation split.
    :raises UserError: for a share outside 0 to 1, a negative count or an unknown split.
    """
    if split not in SPLITS:
        raise unknown_name("split of the microworld", split, SPLITS)
    if not 0 <= demonstrations <= 1:
        raise UserError(
            f"the share of documents with demonstrations must be from 0 to 1, not {demonstrations}"
        )
    if count is not None and count < 0:
        raise UserError(f"the number of documents must not be negative, and is {count}")
    count = COUNTS[split] if count is None else count

    order = list(range(count))
    stream("microworld", seed, "documents", split, "places").shuffle(order)
    chosen = set(order[: round(demonstrations * count)])
    texts: list[str | _Demonstrations] = [
        _demonstrations(seed, split, position)
        if position in chosen
        else narrate(stream("microworld", seed, "document", split, position), seed, split)
        for position in range(count)
    ]
    shown = [text for text in texts if isinstance(text, _Demonstrations)]
    if permuted:
        _permute(shown, seed, split)
    return [text.text() if isinstance(text, _Demonstrations) else text for text in texts]


def _demonstrations(seed: int, split: str, position: int) -> _Demonstrations:
    chance = stream("microworld", seed, "demonstrations", split, position)
    task = chance.choice(tuple(TASKS))
    person = world(seed).people[chance.choice(PEOPLE)]
    opening = FRAMES[task].format(who=f"{person.name} the {person.profession}")
    pool = drawn_rows(task, "train", seed)
    return _Demonstrations(
        opening, task, [dict(row) for row in chance.choices(pool, k=chance.randrange(2, 5))]
    )


def _permute(shown: list[_Demonstrations], seed: int, split: str) -> None:
    """Exchange targets among all demonstrations of a task."""
    for task, module in TASKS.items():
        demonstrated = [row for document in shown if document.task == task for row in document.rows]
        targets: list[Any] = [row[module.TARGET] for row in demonstrated]
        stream("microworld", seed, "permutation", split, task).shuffle(targets)
        for row, target in zip(demonstrated, targets, strict=True):
            row[module.TARGET] = target
