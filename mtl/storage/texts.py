"""Texts on disk: their UTF-8 bytes end to end and where each begins, memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from mtl.storage.arrays import ArrayWriter, read_arrays

TYPES: dict[str, np.dtype[Any]] = {
    "text": np.dtype(np.uint8),
    "length": np.dtype(np.int64),
    "digest": np.dtype("S16"),
}
"""Bytes of all texts, bytes of each, and the digest of each."""


def digest(text: bytes) -> bytes:
    """Identity of a text: 16 bytes of blake2b, none of them the last and zero.

    numpy drops zeros at the end of a byte string, so that the last byte is kept from being one.
    """
    found = hashlib.blake2b(text, digest_size=16).digest()
    return found[:-1] + bytes([found[-1] | 1])


class StoredTexts(Sequence[str]):
    """The texts of a folder in their order; each is read from disk when it is asked for.

    :param columns: What :func:`write_texts` was given beside the texts, by name.
    """

    def __init__(self, folder: Path):
        arrays = read_arrays(folder, what="stored texts")
        self.folder = folder
        self._bytes = arrays["text"]
        self.lengths: np.ndarray = arrays["length"]
        """(N,) int64: bytes of each text."""
        self.digests: np.ndarray = arrays["digest"]
        """(N,) 16 bytes each: equal where the texts are equal."""
        self.columns = {name: array for name, array in arrays.items() if name not in TYPES}
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def bytes_total(self) -> int:
        """UTF-8 bytes of all texts."""
        return len(self._bytes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.raw(index).decode("utf-8")

    def raw(self, index: int) -> bytes:
        """The UTF-8 bytes of one text."""
        i = int(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"`index` should be below {len(self)} texts. Found {i}.")
        end = self._ends[i % len(self)]
        return self._bytes[end - self.lengths[i % len(self)] : end].tobytes()


def write_texts(
    folder: Path,
    texts: Iterable[tuple[bytes, Mapping[str, int]]],
    columns: Mapping[str, np.dtype[Any]],
) -> None:
    """Write texts one by one, each with its whole numbers by column, for :class:`StoredTexts` to read."""
    with ArrayWriter(folder, {**TYPES, **columns}) as out:
        for text, values in texts:
            out.add("text", text)
            out.add("length", [len(text)])
            out.add("digest", digest(text))
            for name in columns:
                out.add(name, [values[name]])
