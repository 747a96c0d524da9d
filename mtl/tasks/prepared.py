"""A corpus that is cleaned and stored before it is read: from files, or from the rows of a split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from mtl.config.errors import UserError
from mtl.config.schema import CorpusConfig, DataConfig, TaskConfig
from mtl.corpora.building import Recipe, StoredCorpus, build_corpus
from mtl.corpora.files import find_files, groups, read_through
from mtl.corpora.reading import Document, Reading
from mtl.corpora.shards import Group, Tell
from mtl.storage import cache
from mtl.tasks.documents import join_lines
from mtl.tasks.sources import read_rows
from mtl.tasks.stored import StoredExamples, divide
from mtl.tasks.task import Split, Task
from mtl.tasks.templates import Template


def is_prepared(config: CorpusConfig) -> bool:
    """Whether the documents of a corpus are cleaned, rid of duplicates or stored."""
    clean, deduplicate = config.clean, config.deduplicate
    cleaned = any((clean.c4, clean.gopher_quality, clean.gopher_repetition))
    excludes = bool(config.exclude_domains) and config.url is not None
    return config.kind == "files" or cleaned or deduplicate.exact or deduplicate.near or excludes


def recipe(config: CorpusConfig) -> Recipe:
    """What the corpus asks of its documents."""
    domains = tuple(config.exclude_domains) if config.url is not None else ()
    return Recipe(config.clean, config.deduplicate, domains)


def store_files(config: CorpusConfig, data: DataConfig, *, tell: Tell) -> StoredCorpus:
    """The documents of a corpus's files that stay.

    :raises UserError: Files that are not there or damaged, a template without an answer, or nothing is left.
    """
    reading, identity = _reading(config)
    paths = find_files(config.files, data.root)
    files = read_through(paths, reading, identity, root=data.cache, tell=tell)
    return build_corpus(
        groups(files, reading, identity),
        recipe(config),
        name=config.name,
        root=data.cache,
        tell=tell,
        origins=[file.origin for file in files],
    )


def prepare_files(
    config: CorpusConfig, task: TaskConfig, data: DataConfig, *, seed: int, tell: Tell
) -> Task:
    """The corpus of ``kind: files``, divided by the content of its documents.

    :raises UserError: As :func:`store_files`, or too few documents to hold any out.
    """
    store = store_files(config, data, tell=tell)
    different = len(np.unique(store.texts.digests))
    if different < 3:
        raise UserError(
            f"corpus '{config.name}' has {different} different "
            f"{'document' if different == 1 else 'documents'}; 3 are needed: one to train on, "
            "one to select, one to report",
            where=f"corpus={config.name}",
            hints=["a text file is one document unless corpus.text_files says otherwise"],
        )
    positions = divide(store.texts.digests, config.held_out, seed)
    train, selection, report = (
        StoredExamples(store, chosen).split(
            name, f"{len(chosen)} of {len(store.texts)} documents, by content, seed {seed}"
        )
        for name, chosen in zip(("train", "selection", "report"), positions, strict=True)
    )
    return Task(task, train, selection, report)


def prepare_split(config: CorpusConfig, split: Split, data: DataConfig, *, tell: Tell) -> Split:
    """What stays of the documents of a split, stored."""
    store = store_split(config, split, data, tell=tell)
    own = f"{len(store.texts)} of {len(split.examples)} documents after cleaning"
    note = f"{split.note}; {own}" if split.note else own
    return StoredExamples(store, np.arange(len(store.texts))).split(split.name, note)


def store_split(
    config: CorpusConfig, split: Split, data: DataConfig, *, tell: Tell
) -> StoredCorpus:
    """The documents of a split that stay."""

    addresses = _addresses(config, split, data)

    def documents() -> Iterator[Document]:
        for example in split.examples:
            yield Document(example.row, example.references[0], addresses.get(example.row))

    size = sum(len(example.references[0].encode("utf-8")) for example in split.examples)
    content = cache.content_key(split.fingerprint, *addresses.items())
    group = Group(content if addresses else split.fingerprint, documents, size)
    return build_corpus([group], recipe(config), name=config.name, root=data.cache, tell=tell)


def _addresses(config: CorpusConfig, split: Split, data: DataConfig) -> dict[str, str]:
    """The address of each row of a source's split that has one."""
    if config.url is None or config.source is None:
        return {}
    if config.source.documents != "rows":
        raise UserError(
            f"documents joined from lines ({config.source.documents}) have no addresses",
            where=f"corpus.url={config.url}",
        )
    rows = read_rows(config.source, split.name, data, task=config.name)
    if config.url not in rows.columns:
        raise UserError(
            f"no column '{config.url}' in {rows.where}",
            where=f"corpus.url={config.url}",
            hints=[f"columns there: {', '.join(rows.columns)}"],
        )
    return {
        f"{split.name}:{position}": str(row[config.url])
        for position, row in enumerate(rows.rows)
        if row.get(config.url) is not None
    }


def check_files(config: CorpusConfig, data: DataConfig) -> None:
    """Refuse files that are not there, without reading any.

    :raises UserError: All of them in one message.
    """
    _reading(config)
    find_files(config.files, data.root)


def _reading(config: CorpusConfig) -> tuple[Reading, str]:
    """How the files are read, and a name for it."""
    template = Template(config.text, field="corpus.text", verbatim=True)
    how = config.text_files
    divide_lines: Callable[[Sequence[str]], Sequence[str]] | None = None
    if how == "lines":
        divide_lines = tuple
    elif how != "file":
        divide_lines = partial(join_lines, how=how)
    reading = Reading(template, divide_lines, config.url)
    return reading, json.dumps([config.text, how, config.url])
