"""Flat arrays on disk, one file each; their sizes are written down, so that a damaged folder is not read as whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from mtl.config.errors import UserError

DESCRIPTION = "arrays.json"


class ArrayWriter:
    """Appends to named arrays piece by piece, so that memory does not grow with them. A context manager.

    :param types: Element type of each array.
    """

    def __init__(self, folder: Path, types: Mapping[str, np.dtype[Any]]):
        self._folder, self._types = folder, dict(types)
        self._files = {name: (folder / f"{name}.bin").open("wb") for name in types}

    def __enter__(self) -> Self:
        return self

    def add(self, name: str, values: Any) -> None:
        """Append to one array: raw bytes, or anything that numpy reads as an array."""
        data = values if isinstance(values, bytes) else np.asarray(values, self._types[name])
        self._files[name].write(data if isinstance(data, bytes) else data.tobytes())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()
        if error is None:
            sizes = {name: (self._folder / f"{name}.bin").stat().st_size for name in self._files}
            types = {name: kind.str for name, kind in self._types.items()}
            text = json.dumps({"types": types, "bytes": sizes}, indent=2)
            (self._folder / DESCRIPTION).write_text(text)


def read_arrays(folder: Path, *, what: str) -> dict[str, np.ndarray]:
    """The arrays of a folder, memory-mapped and read-only.

    :param what: What they are, for messages: ``cached encodings``.
    :raises UserError: A file is missing or has another size than was written.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        return {
            name: _map(folder / f"{name}.bin", np.dtype(kind), description["bytes"][name])
            for name, kind in description["types"].items()
        }
    except (OSError, ValueError) as error:
        raise UserError(
            f"the {what} are damaged: {error}",
            where=str(folder),
            hints=["remove this folder; it is made again"],
        ) from error


def _map(path: Path, kind: np.dtype[Any], size: int) -> np.ndarray:
    if (found := path.stat().st_size) != size:
        raise ValueError(f"{path.name} has {found} bytes where {size} were written")
    # An empty file cannot be mapped. A plain view: indexing numpy's memory maps is several times slower.
    return np.asarray(np.memmap(path, dtype=kind, mode="r")) if size else np.zeros(0, dtype=kind)
