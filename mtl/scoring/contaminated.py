"""Scores of all rows, of the clean and of the overlapping ones side by side (GPT-2, section 4)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtl.config.errors import UserError, unknown_name
from mtl.scoring.metrics import WindowPolicy
from mtl.scoring.score import TaskScore, score_task
from mtl.tasks.splits import make_split
from mtl.tasks.task import Answer, Split, Task

MADE_BY = "python -m mtl.prepare overlap corpus=NAME tasks=[...] out=FILE.json"


@dataclass(frozen=True)
class OverlappingRows:
    """The rows of one test set of which at least ``share`` of the n-grams stand in a text that is trained on."""

    split: str
    """Published split they come from."""
    fingerprint: str
    """Content hash of the rows of the split, the clean ones among them."""
    rows: frozenset[str]
    """Identities of the overlapping rows."""


def score_parts(
    task: Task,
    split: Split,
    answers: Sequence[Answer],
    overlapping: Collection[str],
    *,
    resamples: int,
    windows: WindowPolicy = "disjoint",
) -> dict[str, TaskScore]:
    """The score of ``all`` rows, of the ``clean`` and of the ``overlapping`` ones; a part without rows is absent.

    :param answers: One per example of the split, in its order.
    :param overlapping: Identities of overlapping rows; those that are not in the split are of no account.
    :param resamples: As in :func:`mtl.scoring.score.score_task`, and so ``windows``.
    :raises ValueError: As in :func:`mtl.scoring.score.score_task`.
    """
    parts = {"all": score_task(task, split, answers, resamples=resamples, windows=windows)}
    rows = frozenset(overlapping)
    pairs = list(zip(split.examples, answers, strict=True))
    for name, wanted in (("clean", False), ("overlapping", True)):
        chosen = [pair for pair in pairs if (pair[0].row in rows) == wanted]
        if chosen:
            part = make_split(split.name, [example for example, _ in chosen], note=name)
            own = [answer for _, answer in chosen]
            parts[name] = score_task(task, part, own, resamples=resamples, windows=windows)
    return parts


def read_overlap(
    path: str | Path,
    *,
    against: Literal["corpus", "train"] = "corpus",
    share: float = 0.0,
    n: int | None = None,
) -> dict[str, OverlappingRows]:
    """The overlapping rows of each task in a file of ``python -m mtl.prepare overlap``.

    :param against: Where the n-grams were found: in the corpus, or in the task's own training rows, where a task
        without any is left out.
    :param share: A row overlaps where at least this share of its n-grams was found, and at least one.
    :param n: Words of an n-gram that the file must be about; None for any.
    :raises UserError: No such file, another kind of file, or another n.
    """
    where = f"overlap={path}"
    content = _content(Path(path), where)
    if n is not None and content["n"] != n:
        raise UserError(
            f"the file is about {content['n']}-grams, not about {n}-grams",
            where=where,
            hints=[f"make it again: {MADE_BY} n={n}"],
        )
    key = "rows" if against == "corpus" else "rows_in_train"
    try:
        return {
            str(name): OverlappingRows(
                str(task["split"]),
                str(task["fingerprint"]),
                frozenset(str(row["row"]) for row in task[key] if row["share"] >= share),
            )
            for name, task in content["tasks"].items()
            if task[key] is not None
        }
    except (KeyError, TypeError, AttributeError):
        raise _not_ours(where) from None


def overlapping_rows(
    found: dict[str, OverlappingRows], task: Task, split: Split, *, path: str | Path
) -> frozenset[str]:
    """The overlapping rows of a task, made sure to be those of the very rows that are scored.

    :param found: What :func:`read_overlap` read.
    :param split: The whole split, before any ``rows=`` cuts it.
    :param path: The file, for messages.
    :raises UserError: The file does not know the task, or is about other rows.
    """
    where = f"overlap={path}"
    if task.name not in found:
        error = unknown_name("task of the file", task.name, found, where=where)
        raise UserError(error.problem, where=where, hints=[*error.hints, f"make it: {MADE_BY}"])
    own = found[task.name]
    if own.fingerprint != split.fingerprint:
        raise UserError(
            f"the file is about other rows of '{task.name}': {own.split} {own.fingerprint}, scored are"
            f" {split.name} {split.fingerprint}",
            where=where,
            hints=[
                "the data, the split or the task file has changed since it was made",
                f"make it again: {MADE_BY}",
            ],
        )
    return own.rows


def _content(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hints = [f"make it: {MADE_BY}"]
        raise UserError(f"there is no file {path}", where=where, hints=hints) from None
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}", where=where) from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", where=where) from None
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", where=where) from None
    if not isinstance(content, dict) or not isinstance(content.get("tasks"), dict):
        raise _not_ours(where)
    if not isinstance(content.get("n"), int):
        raise _not_ours(where)
    return content


def _not_ours(where: str) -> UserError:
    return UserError(
        "not a file of overlapping rows: it lacks n, or tasks with split, fingerprint and rows",
        where=where,
        hints=[f"make one: {MADE_BY}"],
    )
