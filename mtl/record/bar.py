"""How far a count has come, on a terminal; silence anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(text: str, total: int, *, shown: bool | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with the share done and the time left; it is gone at the end.

    :param text: What is done, such as ``reading gutenberg``.
    :param total: Where the count ends.
    :param shown: Whether to draw; None is whether stderr is a terminal.
    :return: A function to call with what was done since its last call.
    """
    if not (sys.stderr.isatty() if shown is None else shown):
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        stage = progress.add_task(text, total=total)
        yield lambda done: progress.advance(stage, done)
