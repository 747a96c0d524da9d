"""A folder of things that cost time to make, each found again by its content.

An entry is built in a temporary folder beside its final place and renamed when it is whole. So a reader never
sees half an entry, a killed builder leaves nothing that is taken for whole, and of two processes that build the
same entry at once the later one uses the earlier one's.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from mtl.config.errors import UserError

STALE_SECONDS = 24 * 3600
"""Age after which the remains of a killed builder are removed."""
LOOK_SECONDS = 0.2
"""Between two looks whether another process is done."""


def cache_root(configured: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: as configured (``data.cache``), else ``$MTL_CACHE``, else the user's cache folder."""
    if configured is not None:
        return Path(configured).expanduser()
    if chosen := os.environ.get("MTL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mtl"


def content_key(*parts: object) -> str:
    """A key that differs wherever one of ``parts`` does (sha256, 32 hexadecimal digits).

    Parts are told apart by their length, so ``("ab", "c")`` and ``("a", "bc")`` have different keys.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:32]


def build(
    key: str,
    make: Callable[[Path], None],
    root: str | os.PathLike[str] | None = None,
) -> Path:
    """The folder of entry ``key``; ``make`` fills it where it does not exist yet.

    :param key: Names the content, see :func:`content_key`; letters, digits and ``.-_`` only.
    :param make: Called with an empty folder at most once. What it raises is passed on, and nothing stays.
    :param root: The cache folder, see :func:`cache_root`.
    :raises UserError: Where the cache folder cannot be written.
    """
    if not key or key.startswith(".") or not all(c.isalnum() or c in ".-_" for c in key):
        raise ValueError(f"`key` should be of letters, digits and `.-_`. Found {key!r}.")
    base = cache_root(root)
    entry = base / key
    if entry.is_dir():
        return entry
    try:
        base.mkdir(parents=True, exist_ok=True)
        _remove_stale(base)
        temporary = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=base))
    except OSError as error:
        raise UserError(
            f"the cache folder cannot be written: {error.strerror}",
            where=str(base),
            hints=["name another one with data.cache=FOLDER or the environment variable MTL_CACHE"],
        ) from error
    try:
        make(temporary)
        try:
            temporary.rename(entry)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not entry.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return entry


@contextmanager
def lock(
    key: str,
    root: str | os.PathLike[str] | None = None,
    *,
    waiting: AbstractContextManager[object] | None = None,
) -> Iterator[None]:
    """Only one process of the machine at a time is inside for a key: what takes minutes is not made twice at once.

    A process that dies leaves. Where the file system knows no locks, nobody waits.

    :param waiting: Entered while another process is inside.
    """
    base = cache_root(root)
    base.mkdir(parents=True, exist_ok=True)
    with (base / f".{key}.lock").open("w") as held:
        if not _acquired(held.fileno()):
            with waiting or nullcontext():
                while not _acquired(held.fileno()):
                    time.sleep(LOOK_SECONDS)
        yield


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


def _remove_stale(base: Path) -> None:
    oldest = time.time() - STALE_SECONDS
    for folder in base.glob(".*"):
        try:
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue
