"""A corpus from its documents: cleaned in shards, rid of duplicates, and joined into one store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtl.config.errors import UserError
from mtl.config.schema import CleaningConfig, DeduplicationConfig
from mtl.corpora.account import Account
from mtl.corpora.duplicates import buckets, exact_duplicates, near_duplicates
from mtl.corpora.shards import (
    COLUMNS,
    SHARD_BYTES,
    VERSION,
    Group,
    Shard,
    Tell,
    cleaned,
    signatures,
)
from mtl.storage import cache
from mtl.storage.texts import StoredTexts, write_texts

DESCRIPTION = "corpus.json"


@dataclass(frozen=True)
class Recipe:
    """What documents must be like to stay."""

    clean: CleaningConfig
    deduplicate: DeduplicationConfig
    exclude_domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """A file that documents come from."""

    name: str
    """What its rows are called by: its path below the folder that all files share."""
    fingerprint: str
    """sha256 of its bytes, 16 hexadecimal digits."""
    documents: int
    bytes: int
    """UTF-8 bytes of its documents."""


class StoredCorpus:
    """The documents that stayed, memory-mapped, and the account of those that did not."""

    def __init__(self, folder: Path):
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        self.folder = folder
        self.texts = StoredTexts(folder)
        self.account = Account.from_plain(found["account"])
        self.fingerprint: str = found["fingerprint"]
        """Content hash of the documents in their order (sha256, 16 hexadecimal digits)."""
        self.origins = [Origin(**origin) for origin in found["origins"]]
        self._sources: list[str] = found["sources"]

    def row(self, index: int) -> str:
        """``<source>:<row>`` of a document."""
        columns = self.texts.columns
        return f"{self._sources[columns['source'][index]]}:{columns['row'][index]}"


def no_tell(stage: str, done: int, total: int) -> None:
    """Tells nobody."""


def build_corpus(
    groups: Sequence[Group],
    recipe: Recipe,
    *,
    name: str,
    root: str | None = None,
    tell: Tell = no_tell,
    shard_bytes: int = SHARD_BYTES,
    origins: Sequence[Origin] = (),
) -> StoredCorpus:
    """The corpus of these documents: found where it was built before, otherwise built.

    The order of the documents stays theirs. Of documents that repeat each other the first stays.

    :param name: Name of the corpus, for messages.
    :param root: The cache folder, see :func:`mtl.storage.cache.cache_root`.
    :param origins: What the documents come from, kept with the corpus.
    :raises UserError: No document is left; the account is in the message.
    """
    content = json.dumps([asdict(recipe), shard_bytes], sort_keys=True)
    key = cache.content_key("corpus", VERSION, content, *(group.fingerprint for group in groups))
    entry = f"corpus-{key}"
    if not (cache.cache_root(root) / entry).is_dir():
        total = sum(group.bytes for group in groups)
        shards = [
            shard
            for group in groups
            for shard in cleaned(
                group,
                recipe.clean,
                recipe.exclude_domains,
                root=root,
                shard_bytes=shard_bytes,
                done=lambda size: tell("cleaning", size, total),
            )
        ]
        account = Account()
        for shard in shards:
            account.add(shard.account)
        _refuse_nothing(account, name)
        settings = recipe.deduplicate
        left = account.kept_bytes
        signed = [
            signatures(shard, settings, root=root, done=lambda size: tell("signing", size, left))
            for shard in shards
            if settings.near
        ]
        kept = _without_duplicates(shards, signed, settings, account, tell)
        cache.build(entry, lambda folder: _join(folder, shards, kept, account, origins), root)
    return StoredCorpus(cache.cache_root(root) / entry)


def _refuse_nothing(account: Account, name: str) -> None:
    if account.kept_documents:
        return
    hints = [
        f"{removal.documents} removed by {rule}, such as {removal.row}: {removal.example!r}"
        for rule, removal, _ in account.rows()
        if removal.documents
    ]
    raise UserError(
        f"no document of corpus '{name}' is left: {account.documents} read, all removed",
        where=f"corpus={name}",
        hints=[*hints, "a rule is switched off by null, such as corpus.clean.c4=null"],
    )


def _without_duplicates(
    shards: Sequence[Shard],
    signed: Sequence[np.ndarray],
    settings: DeduplicationConfig,
    account: Account,
    tell: Tell,
) -> np.ndarray:
    """(N,) bool over the documents of all shards: whether it stays."""
    begins = np.cumsum([0, *(len(shard.texts) for shard in shards)])
    kept = np.ones(begins[-1], dtype=np.bool_)

    def place(document: int) -> tuple[Shard, int]:
        number = int(np.searchsorted(begins, document, side="right")) - 1
        return shards[number], int(document - begins[number])

    def text(document: int) -> str:
        shard, index = place(document)
        return shard.texts[index]

    def drop(rule: str, document: int) -> None:
        kept[document] = False
        shard, index = place(document)
        account.document(rule, shard.row(index), text(document), int(shard.texts.lengths[index]))

    if settings.exact:
        first = exact_duplicates(np.concatenate([shard.texts.digests for shard in shards]))
        for document in np.flatnonzero(first != np.arange(len(first))).tolist():
            drop("duplicate: exact", document)
    if settings.near:
        tell("comparing", 0, 0)
        shared = buckets(signed, settings.bands, settings.rows)
        for document, _ in near_duplicates(
            shared,
            text,
            ngram=settings.ngram,
            threshold=settings.threshold,
            leave_out=np.flatnonzero(~kept).tolist(),
        ):
            drop("duplicate: near", document)
    return kept


def _join(
    folder: Path,
    shards: Sequence[Shard],
    kept: np.ndarray,
    account: Account,
    origins: Sequence[Origin],
) -> None:
    sources: dict[str, int] = {}
    content = hashlib.sha256()

    def texts() -> Iterator[tuple[bytes, dict[str, Any]]]:
        documents = iter(kept.tolist())
        for shard in shards:
            columns = shard.texts.columns
            for index in range(len(shard.texts)):
                if not next(documents):
                    continue
                text = shard.texts.raw(index)
                content.update(len(text).to_bytes(8, "little") + text)
                source = shard.sources[columns["source"][index]]
                yield (
                    text,
                    {
                        "source": sources.setdefault(source, len(sources)),
                        "row": int(columns["row"][index]),
                    },
                )

    write_texts(folder, texts(), COLUMNS)
    found = {
        "fingerprint": content.hexdigest()[:16],
        "sources": list(sources),
        "account": account.plain(),
        "origins": [asdict(origin) for origin in origins],
    }
    (folder / DESCRIPTION).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
