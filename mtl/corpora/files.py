"""Which files a corpus is read from, and what they hold; each is read through once before anything is made of it."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtl.config.errors import UserError, nearest, raise_all
from mtl.corpora.building import Origin
from mtl.corpora.reading import ENDINGS, Document, Reading, read_documents
from mtl.corpora.shards import SHARD_BYTES, Group, Tell
from mtl.storage import cache


@dataclass(frozen=True)
class SourceFile:
    """A file that was read through."""

    path: Path
    origin: Origin


def find_files(patterns: Sequence[str], root: str | None) -> list[Path]:
    """The files that paths and patterns name, each once, in the order of the patterns and then of their names.

    :param root: Folder that relative ones lie below; null is the working directory.
    :raises UserError: All that name nothing or a file of no known format, in one message; the nearest name is given.
    """
    base = Path(root).expanduser() if root is not None else Path()
    found: dict[Path, None] = {}
    errors = []
    for pattern in patterns:
        whole = base / Path(pattern).expanduser()
        if _is_pattern(pattern):
            names = glob.glob(str(Path(pattern).expanduser()), root_dir=base, recursive=True)
            paths = sorted(path for path in (base / name for name in names) if path.is_file())
        else:
            paths = [whole] if whole.is_file() else []
        where = f"corpus.files=[{pattern}]"
        if not paths:
            problem = "no file matches" if _is_pattern(pattern) else "there is no file"
            errors.append(UserError(f"{problem} {whole}", where=where, hints=_nearby(whole)))
        for path in paths:
            if path.name.endswith(ENDINGS):
                found[path.absolute()] = None
            else:
                problem = f"the format of {path} is not known"
                hint = f"a file of documents ends in one of {', '.join(ENDINGS)}"
                errors.append(UserError(problem, where=where, hints=[hint]))
    raise_all(errors)
    return list(found)


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in ("*", "?", "["))


def _nearby(missing: Path) -> list[str]:
    """What is there beside a path or pattern that names nothing."""
    folder = missing.absolute().parent
    while _is_pattern(str(folder)) or not folder.is_dir():
        child, folder = folder.name, folder.parent
        if folder.is_dir():
            names = sorted(path.name for path in folder.iterdir() if path.is_dir())
            guess = nearest(child, names)
            hints = [f"did you mean: {folder / guess}"] if guess else []
            return [*hints, f"folders in {folder}: {_few(names)}"]
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(ENDINGS))
    guess = nearest(missing.name, names)
    hints = [f"did you mean: {folder / guess}"] if guess else []
    return [*hints, f"files in {folder}: {_few(names)}"]


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:20], *(["..."] if len(names) > 20 else [])]) or "none"


def read_through(
    paths: Sequence[Path], reading: Reading, identity: str, *, root: str | None, tell: Tell
) -> list[SourceFile]:
    """What each file holds. A file that has not changed since is not read again.

    :param identity: Names ``reading``: the template, the column, the division into documents.
    :raises UserError: All damaged files in one message; then nothing was written.
    """
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    new: dict[str, dict[str, object]] = {}
    files, errors = [], []
    for path in paths:
        status = path.stat()
        key = "file-" + cache.content_key(
            path,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            identity,
        )
        known = cache.cache_root(root) / key / "file.json"
        name = str(path.relative_to(shared))
        try:
            if known.is_file():
                facts = json.loads(known.read_text())
            else:
                facts = new[key] = _facts(path, reading, name, tell)
        except UserError as error:
            errors.append(error)
            continue
        files.append(SourceFile(path, Origin(name, **facts)))
    raise_all(errors)
    for key, facts in new.items():
        text = json.dumps(facts)
        cache.build(key, lambda folder, text=text: _write(folder, text), root)  # type: ignore[misc]
    return files


def _write(folder: Path, text: str) -> None:
    (folder / "file.json").write_text(text)


def _facts(path: Path, reading: Reading, name: str, tell: Tell) -> dict[str, object]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    documents = size = 0
    for document in read_documents(path, reading, name=name):
        documents += 1
        length = len(document.text.encode("utf-8"))
        size += length
        tell("reading through", length, 0)
    return {"fingerprint": digest.hexdigest()[:16], "documents": documents, "bytes": size}


def groups(files: Sequence[SourceFile], reading: Reading, identity: str) -> list[Group]:
    """Files in groups of at least a shard, so that many small ones do not make as many shards."""
    made: list[Group] = []
    current: list[SourceFile] = []
    size = 0
    for file in files:
        current.append(file)
        size += file.origin.bytes
        if size >= SHARD_BYTES or file is files[-1]:
            content = cache.content_key(
                identity, *(f"{one.origin.name} {one.origin.fingerprint}" for one in current)
            )
            read = partial(_documents, tuple(current), reading)
            made.append(Group(content, read, size))
            current, size = [], 0
    return made


def _documents(files: Sequence[SourceFile], reading: Reading) -> Iterator[Document]:
    for file in files:
        yield from read_documents(file.path, reading, name=file.origin.name)
