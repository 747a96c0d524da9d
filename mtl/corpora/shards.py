"""Cleaning, shard by shard: what was killed goes on behind the last whole shard.

A shard is an entry of the cache, named by the content it was made of and the rules it went through. So two processes
that prepare one corpus at once share what either has finished, a file that is added costs only its own shards, and
another threshold for duplicates costs no cleaning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtl.config.schema import CleaningConfig, DeduplicationConfig
from mtl.corpora.account import Account
from mtl.corpora.cleaning import clean
from mtl.corpora.duplicates import SEED, Signer
from mtl.corpora.reading import Document
from mtl.storage import cache
from mtl.storage.arrays import ArrayWriter, read_arrays
from mtl.storage.texts import StoredTexts, write_texts

VERSION = 1
"""Changes when a rule gives another answer: shards of an older version are made again."""
SHARD_BYTES = 64 << 20
"""UTF-8 bytes of documents after which a shard ends."""
DESCRIPTION = "shard.json"
COLUMNS: dict[str, np.dtype[Any]] = {"source": np.dtype(np.int32), "row": np.dtype(np.int64)}
"""Of each document: position of its source among the shard's, and its row there."""

Tell = Callable[[str, int, int], None]
"""Told what is being done, to how many more bytes of documents, and of how many in all; 0 where nobody knows."""
Done = Callable[[int], None]
"""Told to how many more bytes of documents it was done."""


@dataclass(frozen=True)
class Group:
    """Documents that are cleaned one behind the other."""

    fingerprint: str
    """Content hash of what they come from."""
    documents: Callable[[], Iterator[Document]]
    """Reads them from the beginning."""
    bytes: int
    """UTF-8 bytes of all of them."""


@dataclass(frozen=True)
class Shard:
    """Cleaned documents."""

    key: str
    texts: StoredTexts
    sources: tuple[str, ...]
    """Names that rows begin with."""
    account: Account
    last: bool
    """Whether its group ends with it."""

    def row(self, index: int) -> str:
        """Name of a document's row."""
        columns = self.texts.columns
        return f"{self.sources[columns['source'][index]]}:{columns['row'][index]}"


def cleaned(
    group: Group,
    rules: CleaningConfig,
    excluded: tuple[str, ...],
    *,
    root: str | None,
    shard_bytes: int,
    done: Done,
) -> Iterator[Shard]:
    """The shards of a group: those that are there already, and then those that are made now.

    :param excluded: Domains that are left out.
    :param root: The cache folder, see :func:`mtl.storage.cache.cache_root`.
    """
    stream = _Stream(group.documents)
    position = number = 0
    while True:
        rules_key = json.dumps([asdict(rules), sorted(excluded)], sort_keys=True)
        key = cache.content_key(
            "cleaned", VERSION, group.fingerprint, rules_key, shard_bytes, number
        )
        made: list[int] = []

        def make(folder: Path, made: list[int] = made, begin: int = position) -> None:
            stream.skip_to(begin)
            _write_shard(folder, stream, rules, excluded, shard_bytes, done)
            made.append(stream.position)

        shard = read_shard(cache.build(f"cleaned-{key}", make, root), key)
        if not made:
            done(shard.account.bytes)
        yield shard
        if shard.last:
            return
        position += shard.account.documents
        number += 1


def read_shard(folder: Path, key: str) -> Shard:
    """A shard that was made."""
    found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    account = Account.from_plain(found["account"])
    return Shard(key, StoredTexts(folder), tuple(found["sources"]), account, found["last"])


def signatures(
    shard: Shard, settings: DeduplicationConfig, *, root: str | None, done: Done
) -> np.ndarray:
    """(n, bands * rows) uint32: the MinHash signature of each document of a shard, memory-mapped."""
    from datasketch import __version__ as version

    values = settings.bands * settings.rows
    key = cache.content_key("signatures", VERSION, shard.key, settings.ngram, values, SEED, version)
    made: list[bool] = []

    def make(folder: Path) -> None:
        sign = Signer(settings.ngram, values)
        with ArrayWriter(folder, {"signature": np.dtype(np.uint32)}) as out:
            for index in range(len(shard.texts)):
                out.add("signature", sign(shard.texts[index]))
                done(int(shard.texts.lengths[index]))
        made.append(True)

    found = read_arrays(cache.build(f"signatures-{key}", make, root), what="stored signatures")
    if not made:
        done(shard.texts.bytes_total)
    return found["signature"].reshape(-1, values)


class _Stream:
    """Documents with a look at the next one, opened when the first is needed."""

    def __init__(self, read: Callable[[], Iterator[Document]]):
        self._read = read
        self._documents: Iterator[Document] | None = None
        self._next: Document | None = None
        self.position = 0

    def skip_to(self, position: int) -> None:
        if self._documents is None:
            self._documents = self._read()
            self._next = next(self._documents, None)
        while self.position < position:
            self.take()

    def take(self) -> Document:
        assert self._documents is not None
        assert self._next is not None
        taken, self._next = self._next, next(self._documents, None)
        self.position += 1
        return taken

    @property
    def ended(self) -> bool:
        return self._next is None


def _write_shard(
    folder: Path,
    stream: _Stream,
    rules: CleaningConfig,
    excluded: tuple[str, ...],
    shard_bytes: int,
    done: Done,
) -> None:
    account = Account()
    sources: dict[str, int] = {}

    def kept() -> Iterable[tuple[bytes, dict[str, Any]]]:
        while not stream.ended and account.bytes < shard_bytes:
            document, before = stream.take(), account.bytes
            text = clean(document, rules, excluded, account)
            done(account.bytes - before)
            if text is not None:
                source, _, row = document.row.rpartition(":")
                values = {"source": sources.setdefault(source, len(sources)), "row": int(row)}
                yield text.encode("utf-8"), values

    write_texts(folder, kept(), COLUMNS)
    found = {"account": account.plain(), "sources": list(sources), "last": stream.ended}
    (folder / DESCRIPTION).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
