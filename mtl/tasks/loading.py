"""A task file becomes a task: its rows are read, checked and divided by purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mtl.config.errors import UserError, raise_all
from mtl.config.schema import DataConfig, TaskConfig
from mtl.tasks.checks import check_task
from mtl.tasks.documents import join_lines
from mtl.tasks.reading import Reader
from mtl.tasks.sources import Rows, locate, read_rows
from mtl.tasks.splits import cut_selection, make_split, selection_size, subsample
from mtl.tasks.task import Split, Task


def check_tasks(configs: Iterable[TaskConfig], data: DataConfig) -> None:
    """Refuse task files that contradict themselves, and data that is not there, without reading a row.

    It takes no time, so that these mistakes are answered before the heavy libraries are loaded.

    :raises UserError: All of them in one message.
    """
    errors = []
    for config in configs:
        source = config.source
        try:
            check_task(config)
            Reader(config)
            if data.root is None or source.folder is None or source.microworld is not None:
                continue
            for split in (source.train, source.validation, source.report):
                if split is not None:
                    locate(data.root, source.folder, split, task=config.name)
        except UserError as error:
            errors.append(error)
    raise_all(errors)


def load_task(
    config: TaskConfig,
    data: DataConfig,
    *,
    seed: int,
    fraction: float | Mapping[str, float] = 1.0,
) -> Task:
    """The task with its rows.

    The split that selects is never the split that is reported. Where the task file names a published
    ``validation`` split beside the reported one, that one selects. Otherwise
    ``min(data.selection_rows, data.selection_share * rows)`` rows are cut from train. A task without a train
    split is only evaluated: it has neither train nor selection.

    :param seed: Seed of the run: the same seed cuts the same rows, whatever the strategy.
    :param fraction: Share of the training rows that is kept, more than 0 and at most 1; or such a share by the name of
        the task, where all rows of a task without one are kept. The rows that select and report stay the same.
    :raises UserError: A task file that contradicts itself, missing data, a missing column, or bad rows.
    """
    check_task(config)
    reader = Reader(config)
    source = config.source

    def read(split: str) -> Split:
        return _read_split(config, reader, data, split)

    report = read(source.report)
    if source.train is None:
        return Task(config, None, None, report)
    train = read(source.train)
    if source.validation is not None:
        selection = read(source.validation)
    else:
        train, selection = _cut(config, train, data, seed=seed)
    share = fraction.get(config.name, 1.0) if isinstance(fraction, Mapping) else fraction
    return Task(config, _part(config, train, share, seed=seed), selection, report)


def _read_split(config: TaskConfig, reader: Reader, data: DataConfig, split: str) -> Split:
    rows = read_rows(config.source, split, data, task=config.name)
    notes = []
    if config.source.documents != "rows":
        rows = _documents(rows, config)
        notes.append(f"{len(rows.rows)} documents ({config.source.documents})")
    examples, left_out = reader.read(rows)
    return make_split(split, examples, note="; ".join([*notes, *left_out]))


def _documents(rows: Rows, config: TaskConfig) -> Rows:
    how = config.source.documents
    if how == "rows" or "text" not in rows.columns:
        raise UserError(
            f"no column 'text' in {rows.where}",
            where=f"task.{config.name}.source.documents={how}",
            hints=[f"columns there: {', '.join(rows.columns)}"],
        )
    documents = join_lines([row["text"] for row in rows.rows], how)
    return Rows(rows.split, ("text",), [{"text": document} for document in documents], rows.where)


def _part(config: TaskConfig, train: Split, share: float, *, seed: int) -> Split:
    """A share of the training rows, in their order."""
    if not 0 < share <= 1:
        raise UserError(
            "a fraction of the training rows is more than 0 and at most 1",
            where=f"fraction={share} (task '{config.name}')",
        )
    count = len(train.examples)
    positions = subsample(train.examples, share, task=config.name, seed=seed)
    if len(positions) == count:
        return train
    own = f"{len(positions)} of {count} rows of {train.name} (fraction {share:g}, seed {seed})"
    note = f"{train.note}; {own}" if train.note else own
    return make_split(train.name, [train.examples[position] for position in positions], note=note)


def _cut(config: TaskConfig, train: Split, data: DataConfig, *, seed: int) -> tuple[Split, Split]:
    examples = train.examples
    count = len(examples)
    if count < 2:
        raise UserError(
            f"split '{train.name}' of task '{config.name}' has 1 row; 2 are needed, one of them to select",
            where=f"task.{config.name}.source",
        )
    size = selection_size(count, at_most=data.selection_rows, share=data.selection_share)
    positions = cut_selection(examples, size, task=config.name, seed=seed)
    taken = set(positions)
    rest = [example for position, example in enumerate(examples) if position not in taken]

    def note(rows: int) -> str:
        own = f"{rows} of {count} rows of {train.name}, seed {seed}"
        return f"{train.note}; {own}" if train.note else own

    return (
        make_split(train.name, rest, note=note(len(rest))),
        make_split(train.name, [examples[position] for position in positions], note=note(size)),
    )
