"""What a run answered to each row: ``predictions/<task>.<split>.parquet``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.config.errors import UserError, unknown_name

if TYPE_CHECKING:
    import pandas

    from mtl.record.folder import RunFolder


def write_predictions(
    folder: RunFolder,
    task: str,
    split: str,
    *,
    rows: Sequence[str],
    targets: Sequence[Any],
    predictions: Sequence[Any],
    scores: Sequence[Sequence[float]] | None = None,
    decoded: Sequence[str] | None = None,
) -> Path:
    """Write the answers to one split of one task, all at once.

    :param rows: (N,) identities of the rows inside their dataset.
    :param targets: (N,) class indices, scores, choice indices, or texts (a list of texts where several are right).
    :param predictions: (N,) answers in the same terms.
    :param scores: (N, choices) one score per class or choice, ragged where the rows' choices are; None for tasks
        without choices.
    :param decoded: (N,) what was written where no answer was offered; None where it was not asked.
    :returns: the file that was written.
    """
    import pyarrow
    import pyarrow.parquet

    if not len(rows) == len(targets) == len(predictions):
        raise ValueError(
            f"`rows`, `targets` and `predictions` must be equally long;"
            f" found {len(rows)}, {len(targets)} and {len(predictions)}"
        )
    columns = {
        "row": pyarrow.array(rows, pyarrow.string()),
        "target": pyarrow.array(targets),
        "prediction": pyarrow.array(predictions),
    }
    if scores is not None:
        if len(scores) != len(rows):
            raise ValueError(f"`scores` must have {len(rows)} rows; found {len(scores)}")
        columns["scores"] = pyarrow.array(
            [[float(score) for score in row] for row in scores], pyarrow.list_(pyarrow.float64())
        )
    if decoded is not None:
        if len(decoded) != len(rows):
            raise ValueError(f"`decoded` must have {len(rows)} rows; found {len(decoded)}")
        columns["decoded"] = pyarrow.array(decoded, pyarrow.string())
    path = _path(folder, task, split)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_predictions(folder: RunFolder, task: str, split: str | None = None) -> pandas.DataFrame:
    """The answers to one task: columns ``row``, ``target``, ``prediction`` and, with choices, ``scores``; ``decoded``
    where closed answers were decoded freely too.

    :param split: Which split; None where the run has only one of this task.
    :raises UserError: if the run has no such predictions, or several and no split is named.
    """
    import pyarrow.parquet

    stored = stored_predictions(folder)
    if task not in stored:
        raise unknown_name("task", task, stored, where=f"predictions of {folder.path}")
    splits = stored[task]
    if split is None:
        if len(splits) > 1:
            raise UserError(
                f"'{task}' has predictions of several splits: name one",
                hints=[f"available: {', '.join(splits)}"],
            )
        split = splits[0]
    if split not in splits:
        raise unknown_name("split", split, splits, where=f"predictions of {folder.path}, {task}")
    return pyarrow.parquet.read_table(_path(folder, task, split)).to_pandas()


def stored_predictions(folder: RunFolder) -> dict[str, list[str]]:
    """Each task with predictions, and their splits."""
    found: dict[str, list[str]] = {}
    for file in sorted((folder.path / "predictions").glob("[!.]*.parquet")):
        task, _, split = file.stem.rpartition(".")
        found.setdefault(task, []).append(split)
    return found


def _path(folder: RunFolder, task: str, split: str) -> Path:
    for name in (task, split):
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"'{name}' cannot be part of a file name")
    if "." in split:
        raise UserError(f"the split name '{split}' holds a dot", hints=["rename its file"])
    return folder.path / "predictions" / f"{task}.{split}.parquet"
