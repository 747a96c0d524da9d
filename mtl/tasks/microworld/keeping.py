"""What the microworld generates, kept in the cache: drawing all its rows takes seconds, reading them a moment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from mtl.storage.cache import build, content_key
from mtl.tasks.microworld.documents import documents
from mtl.tasks.microworld.draw import Row
from mtl.tasks.microworld.generation import rows

Root = str | os.PathLike[str] | None
"""The cache folder, see :func:`mtl.storage.cache.cache_root`."""


def kept_rows(task: str, split: str, root: Root = None) -> list[Row]:
    """As :func:`rows` of the world that every run reads."""
    return _kept(("rows", task, split), lambda: rows(task, split), root)


def kept_documents(
    *, demonstrations: float, permuted: bool, split: str, count: int | None, root: Root = None
) -> list[str]:
    """As :func:`documents` of the world that every run reads."""

    def make() -> list[str]:
        return documents(demonstrations=demonstrations, permuted=permuted, split=split, count=count)

    return _kept(("documents", demonstrations, permuted, split, count), make, root)


def _kept(what: tuple[object, ...], make: Callable[[], list[Any]], root: Root) -> list[Any]:
    def write(folder: Path) -> None:
        (folder / "generated.json").write_text(json.dumps(make()), encoding="utf-8")

    folder = build(f"microworld-{content_key(_sources(), *what)}", write, root)
    kept: list[Any] = json.loads((folder / "generated.json").read_bytes())
    return kept


@cache
def _sources() -> str:
    """What the generator's code says, so that a changed one is never answered from the cache."""
    return content_key(*(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))
