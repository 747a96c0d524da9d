"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl.config.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8) in one step: a killed process leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path, where: str) -> None:
    """Refuse a file that cannot be written, before the work is done.

    :raises UserError: it is a folder, or lies in none.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder", where=where, hints=["name a file in it"])
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.parent}", where=where)


def plain(value: Any) -> Any:
    """``value`` as JSON can say it: numbers of arrays become Python's, and a number that is not finite becomes None.

    :raises TypeError: for what has no JSON form.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):  # a number of numpy or torch
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON: never ``NaN`` or ``Infinity``, which other programs refuse."""
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False, indent=indent)
