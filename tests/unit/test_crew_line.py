"""What a study says of its workers when it begins."""

from __future__ import annotations

import pytest

from mtl.studying.conducting import crew_line


@pytest.mark.parametrize(
    ("workers", "threads", "said"),
    [
        (2, 1, "2 workers of 1 thread each"),
        (2, 4, "2 workers of 4 threads each"),
        (1, 1, "1 worker of 1 thread"),
    ],
)
def test_workers_in_words(workers: int, threads: int, said: str) -> None:
    assert crew_line(workers, threads) == said
