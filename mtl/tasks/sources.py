"""Rows of a task's published split: from a folder under ``data.root``, otherwise from the hub.

Files are ``<root>/<folder>/<split>.<format>``. A ``.csv`` has a header line and standard quoting; a ``.tsv`` has
a header line and no quoting (GLUE's files carry bare quotation marks); a ``.txt`` has one row per line, with the
one column ``text``. All text is UTF-8. Rows are counted from 1, header lines aside.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.config.errors import UserError, nearest
from mtl.config.schema import DataConfig, HubConfig, SourceConfig
from mtl.tasks.formats import FORMATS, read_file

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """The rows of one published split."""

    split: str
    """Name of the split, as in the task file."""
    columns: tuple[str, ...]
    """Columns of the split. A row of a .jsonl file may lack some of them."""
    rows: list[Row]
    where: str
    """The file or the dataset on the hub they were read from."""


def read_rows(source: SourceConfig, split: str, data: DataConfig, *, task: str) -> Rows:
    """The rows of ``split``: generated, from ``data.root``, or from the hub, in this order.

    :param split: Published split, such as ``validation``.
    :param task: Name of the task, for messages.
    :raises UserError: Nothing there, nothing in it, or a file that cannot be read; says what was tried.
    """
    if source.microworld is not None:
        rows = _generated(source.microworld, split, data.cache)
    elif data.root is not None and source.folder is not None:
        rows = _from_folder(data.root, source.folder, split, task=task)
    elif source.hub is not None:
        rows = _from_hub(source.hub, split, task=task)
    else:
        problem = f"task '{task}' is not on the hub; it needs a folder of data"
        wanted = source.folder or task
        raise UserError(
            problem,
            hints=[
                f"set data.root=DIR with DIR/{wanted}/{split}.parquet (or .jsonl, .csv, ...) in it"
            ],
        )
    if not rows.rows:
        raise UserError(f"split '{split}' of task '{task}' is empty", where=rows.where)
    return rows


def _generated(name: str, split: str, cache: str | None) -> Rows:
    from mtl.tasks import microworld

    # One world for every seed of a run: paired seeds compare strategies on the same rows, as on any dataset.
    rows = microworld.kept_rows(name, split, cache)
    return Rows(split, _columns(rows), rows, f"microworld {name}, {split}")


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for row in rows for column in row))


# --- folder ---------------------------------------------------------------------------------------


def root_setting(root: str) -> str:
    """The setting that named the data folder, as a person would write it."""
    key = "MTL_DATA_ROOT" if os.environ.get("MTL_DATA_ROOT") == root else "data.root"
    return f"{key}={root}"


def locate(root: str, folder: str, split: str, *, task: str) -> Path:
    """The file of a split under the data folder; it is not opened.

    :raises UserError: No such folder, dataset or split, or the split more than once; says what is there.
    """
    base = Path(root).expanduser().absolute()
    where = root_setting(root)
    if not base.is_dir():
        raise UserError(f"no such data folder: {base}", where=where, hints=_nearby(base))
    place = base / folder
    if not place.is_dir():
        raise UserError(
            f"no data for task '{task}': {place} is not a folder",
            where=f"{where}, task.{task}.source.folder={folder}",
            hints=_nearby(place),
        )
    files = [place / f"{split}{suffix}" for suffix in FORMATS]
    found = [file for file in files if file.is_file()]
    if not found:
        raise _missing_split(place, split, task=task, where=where)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UserError(
            f"split '{split}' of task '{task}' lies there more than once: {names}", where=str(place)
        )
    return found[0]


def _from_folder(root: str, folder: str, split: str, *, task: str) -> Rows:
    file = locate(root, folder, split, task=task)
    rows, columns = read_file(file)
    return Rows(split, columns or _columns(rows), rows, str(file))


def _nearby(missing: Path) -> list[str]:
    """What exists near a path that does not: the nearest name beside it, or the last folder that is there."""
    existing = missing.parent
    while not existing.is_dir():
        existing = existing.parent
    child = missing.relative_to(existing).parts[0]
    folders = sorted(path.name for path in existing.iterdir() if path.is_dir())
    guess = nearest(child, folders)
    hints = [f"did you mean: {existing / guess}"] if guess else []
    shown = folders[:20] + (["..."] if len(folders) > 20 else [])
    return [*hints, f"folders in {existing}: {', '.join(shown) or 'none'}"]


def _missing_split(place: Path, split: str, *, task: str, where: str) -> UserError:
    splits = {
        path.name.removesuffix(suffix)
        for path in place.iterdir()
        for suffix in FORMATS
        if path.name.endswith(suffix)
    }
    guess = nearest(split, splits)
    hints = [f"did you mean: {guess}"] if guess else []
    hints.append(f"splits in {place}: {', '.join(sorted(splits)) or 'none'}")
    hints.append(f"a split is one file: {split} + one of {', '.join(FORMATS)}")
    return UserError(f"task '{task}' has no split '{split}'", where=where, hints=hints)


# --- hub ------------------------------------------------------------------------------------------


def _from_hub(hub: HubConfig, split: str, *, task: str) -> Rows:
    import datasets

    name = hub.path if hub.name is None else f"{hub.path} ({hub.name})"
    wanted = hub.splits.get(split, split)
    where = f"hub dataset {name}, split {wanted}"
    try:
        dataset = datasets.load_dataset(hub.path, hub.name, split=wanted)
    except Exception as error:  # the hub, the network and the builder each raise types of their own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"cannot load the data of task '{task}' from the hub: {reason[0]}",
            where=where,
            hints=["or set data.root=DIR to a folder that holds the data"],
        ) from error
    return Rows(split, tuple(dataset.column_names), dataset.to_list(), where)
