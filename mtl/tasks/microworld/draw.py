"""Reproducible chance, and which split a piece of meaning belongs to.

Both depend on strings alone, so that the same rows come out on every machine and Python version.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

SPLITS = ("train", "validation", "test")

Row = dict[str, Any]
"""One row as a dataset would hold it: column name to value."""

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.1


def stream(*parts: object) -> random.Random:
    """A stream of chance named by ``parts``; a string seed is hashed by SHA-512 inside ``random``."""
    return random.Random("/".join(str(part) for part in parts))


@lru_cache(maxsize=1 << 18)
def home(seed: int, *meaning: str) -> str:
    """The only split in which ``meaning`` may be spoken of: 80 % train, 10 % validation, 10 % test.

    What is assigned is a combination such as (who, did what, to what kind of thing), never a wording, so
    that no paraphrase of an evaluated combination stands in the training rows.
    """
    digest = hashlib.blake2b("/".join((str(seed), *meaning)).encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    if share < VALIDATION_SHARE:
        return "validation"
    return "test" if share < VALIDATION_SHARE + TEST_SHARE else "train"


def other(chance: random.Random, options: Sequence[str], *taken: str) -> str:
    """One of ``options`` that is none of ``taken``."""
    while True:
        option = chance.choice(options)
        if option not in taken:
            return option


def words(text: str) -> tuple[str, ...]:
    """The words of a text: a word list that reads like one."""
    return tuple(text.split())
