"""The encodings of one split, kept flat: a few arrays for any number of rows, memory-mapped where cached.

Legend: N rows (encodings), L all their tokens, M all their branches.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mtl.data.encoding import Encoded
from mtl.data.flat import Flat
from mtl.storage import cache
from mtl.storage.arrays import read_arrays
from mtl.tasks.task import Example

FORMAT = 1
"""Changes when the arrays on disk change."""
CHUNK, CHUNK_CHARACTERS = 2048, 1 << 24
"""Examples encoded at once, and the characters beyond which fewer are: a corpus may be of whole books."""

TYPES: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype(np.uint32),
    "labelled": np.dtype(np.uint8),
    "lengths": np.dtype(np.int64),
    "terms": np.dtype(np.int64),
    "branches": np.dtype(np.int32),
    "branch_counts": np.dtype(np.int64),
    "target": np.dtype(np.float32),
    "cut": np.dtype(np.int32),
    "examples": np.dtype(np.int64),
}
"""The arrays of a split; tokens are stored as uint16 where all ids fit."""


class EncodedSplit(Sequence[Encoded]):
    """The encodings of a split's examples, in order. Made by :meth:`build`.

    An example may have several encodings (a document longer than the context); then ``len`` counts encodings.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        # Views as plain arrays: indexing numpy's memory maps is several times slower.
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self._arrays = arrays
        self.lengths: np.ndarray = arrays["lengths"]
        """(N,) int64: tokens of each encoding."""
        self.terms: np.ndarray = arrays["terms"]
        """(N,) int64: terms of each encoding's loss (see ``Encoded.terms``)."""
        self.examples: np.ndarray = arrays["examples"]
        """(N,) int64, ascending: position of the example each encoding is of."""
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._branch_offsets = np.concatenate([[0], np.cumsum(arrays["branch_counts"])])
        begins = {"starts": self._offsets[:-1], "branch_starts": self._branch_offsets[:-1]}
        self.flat = Flat(
            **{field.name: (arrays | begins)[field.name] for field in fields(Flat)},
        )
        """The same arrays, as batches are built of them."""

    @property
    def label_counts(self) -> np.ndarray:
        """(N,) int64: labelled tokens of each encoding."""
        summed = np.concatenate([[0], np.cumsum(self._arrays["labelled"], dtype=np.int64)])
        return np.asarray(summed[self._offsets[1:]] - summed[self._offsets[:-1]])

    @property
    def end_counts(self) -> np.ndarray:
        """(N,) int64: last tokens of branches, of an encoding without branches its own (``Batch.branch_ends``)."""
        return np.maximum(self._arrays["branch_counts"], 1)

    @property
    def seen_counts(self) -> np.ndarray:
        """(N,) int64: tokens that each token of an encoding sees, itself included, added up over all of its tokens."""
        counts, branches = self._arrays["branch_counts"], self._arrays["branches"].astype(np.int64)
        owners = np.repeat(np.arange(len(self)), counts)
        prefixes = self.lengths.copy()
        np.subtract.at(prefixes, owners, branches)
        seen = _triangle(prefixes)
        np.add.at(seen, owners, branches * prefixes[owners] + _triangle(branches))
        return seen

    @property
    def tokens_total(self) -> int:
        """All tokens of the split, each encoding once."""
        return int(self._offsets[-1])

    @property
    def cut_rows(self) -> int:
        """Encodings that lost tokens because they were longer than the context."""
        return int(np.count_nonzero(self._arrays["cut"]))

    @property
    def cut_tokens(self) -> int:
        """Tokens that were lost so."""
        return int(self._arrays["cut"].sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]  # one row, no slices
        i = int(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"`index` should be below {len(self)} rows. Found {i}.")
        i %= len(self)
        here = slice(self._offsets[i], self._offsets[i + 1])
        branches = self._arrays["branches"][self._branch_offsets[i] : self._branch_offsets[i + 1]]
        return Encoded(
            tokens=self._arrays["tokens"][here].astype(np.int32),
            labelled=self._arrays["labelled"][here].astype(np.bool_),
            branches=tuple(branches.tolist()),
            target=float(self._arrays["target"][i]),
            cut=int(self._arrays["cut"][i]),
        )

    @classmethod
    def build(
        cls,
        examples: Iterable[Example],
        encode: Callable[[Example], Encoded | Sequence[Encoded]],
        *,
        key: str | None = None,
        root: str | os.PathLike[str] | None = None,
        prefetch: Callable[[Iterable[str]], None] | None = None,
    ) -> EncodedSplit:
        """Encode ``examples``, each to one encoding or to several.

        :param key: Names all that the encodings depend on (rows, vocabulary, context, strategy); with it they
            are built once and read from the cache after that. Null keeps them in memory.
        :param root: The cache folder, see :func:`mtl.storage.cache.cache_root`.
        :param prefetch: Receives the texts of the examples before they are encoded, see
            :meth:`mtl.data.vocabulary.Vocabulary.prefetch`.
        """
        if key is None:
            parts: dict[str, list[np.ndarray]] = {name: [] for name in TYPES}
            for block in _blocks(examples, encode, prefetch):
                for name, values in block.items():
                    parts[name].append(values)
            arrays = {
                name: np.concatenate(values) if values else np.zeros(0, dtype=TYPES[name])
                for name, values in parts.items()
            }
            return cls(arrays | {"tokens": _narrow(arrays["tokens"])})

        def make(folder: Path) -> None:
            _write(folder, _blocks(examples, encode, prefetch))

        entry = f"encoded-{cache.content_key(FORMAT, key)}"
        return cls(read_arrays(cache.build(entry, make, root), what="cached encodings"))


def chunks(tokens: Sequence[int] | np.ndarray, context: int, first: int) -> list[Encoded]:
    """A document as encodings of at most ``context`` tokens in which each of its tokens is predicted once.

    The first chunk begins with the token ``first``, each later one with the last token of the chunk before it,
    so that no token of the document is lost. Only what follows the beginning is labelled.
    """
    if context < 2:
        raise ValueError(f"`context` should be at least 2 tokens. Found {context}.")
    whole = np.concatenate([[first], np.asarray(tokens)]).astype(np.int32)
    pieces = []
    for begin in range(0, len(whole) - 1, context - 1):
        piece = whole[begin : begin + context]
        labelled = np.ones(len(piece), dtype=np.bool_)
        labelled[0] = False
        pieces.append(Encoded(tokens=piece, labelled=labelled))
    return pieces


def _triangle(tokens: np.ndarray) -> np.ndarray:
    """Pairs in which each of so many tokens sees itself and those before it."""
    pairs: np.ndarray = tokens * (tokens + 1) // 2
    return pairs


def _blocks(
    examples: Iterable[Example],
    encode: Callable[[Example], Encoded | Sequence[Encoded]],
    prefetch: Callable[[Iterable[str]], None] | None,
) -> Iterable[dict[str, np.ndarray]]:
    """The arrays of a chunk of examples at a time."""
    for chunk in _chunks(examples):
        if prefetch is not None:
            prefetch(text for _, example in chunk for text in _texts(example))
        encodings, origins = [], []
        for position, example in chunk:
            result = encode(example)
            for one in [result] if isinstance(result, Encoded) else result:
                _check(one, example)
                encodings.append(one)
                origins.append(position)
        if encodings:
            yield _flatten(encodings, origins)


def _chunks(examples: Iterable[Example]) -> Iterable[list[tuple[int, Example]]]:
    chunk: list[tuple[int, Example]] = []
    characters = 0
    for position, example in enumerate(examples):
        chunk.append((position, example))
        characters += sum(map(len, example.references))
        if len(chunk) == CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _flatten(encodings: Sequence[Encoded], origins: Sequence[int]) -> dict[str, np.ndarray]:
    columns: dict[str, Any] = {
        "tokens": np.concatenate([e.tokens for e in encodings]),
        "labelled": np.concatenate([e.labelled for e in encodings]),
        "lengths": [len(e.tokens) for e in encodings],
        "terms": [e.terms for e in encodings],
        "branches": [n for e in encodings for n in e.branches],
        "branch_counts": [len(e.branches) for e in encodings],
        "target": [e.target for e in encodings],
        "cut": [e.cut for e in encodings],
        "examples": origins,
    }
    return {name: np.asarray(values, dtype=TYPES[name]) for name, values in columns.items()}


def _texts(example: Example) -> Iterable[str]:
    return itertools.chain(
        example.segments, example.prompt, example.answers, example.choices, example.references
    )


def _check(encoded: Encoded, example: Example) -> None:
    if len(encoded.tokens) == 0 or len(encoded.tokens) != len(encoded.labelled):
        raise ValueError(
            f"An encoding should have tokens, and a label mark for each. Found {len(encoded.tokens)} tokens "
            f"and {len(encoded.labelled)} marks for row {example.row}."
        )


def _narrow(tokens: np.ndarray) -> np.ndarray:
    small = np.dtype(np.uint16)
    fits = len(tokens) == 0 or int(tokens.max()) <= np.iinfo(small).max
    return tokens.astype(small) if fits else tokens


def _write(folder: Path, blocks: Iterable[dict[str, np.ndarray]]) -> None:
    """Write blocks one by one, so that memory does not grow with the split."""
    files: dict[str, BinaryIO] = {name: (folder / f"{name}.bin").open("wb") for name in TYPES}
    largest = 0
    try:
        for block in blocks:
            largest = max(largest, int(block["tokens"].max()))
            for name, values in block.items():
                files[name].write(values.tobytes())
    finally:
        for file in files.values():
            file.close()
    types = {name: kind.str for name, kind in TYPES.items()}
    if largest <= np.iinfo(np.uint16).max:
        _rewrite(folder / "tokens.bin", TYPES["tokens"], np.dtype(np.uint16))
        types["tokens"] = np.dtype(np.uint16).str
    sizes = {name: (folder / f"{name}.bin").stat().st_size for name in TYPES}
    (folder / "arrays.json").write_text(json.dumps({"types": types, "bytes": sizes}, indent=2))


def _rewrite(path: Path, old: np.dtype, new: np.dtype) -> None:
    narrow = path.with_suffix(".narrow")
    with path.open("rb") as source, narrow.open("wb") as target:
        while data := source.read(old.itemsize << 20):
            target.write(np.frombuffer(data, dtype=old).astype(new).tobytes())
    narrow.replace(path)
