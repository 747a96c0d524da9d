"""SIGINT and SIGTERM as a run takes them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mtl.config.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def interrupt(number: int, frame: FrameType | None = None) -> None:
    """The handler where nothing has to be finished first.

    :raises Interrupted: always.
    """
    raise Interrupted(number)


@contextmanager
def interruptions(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within it SIGINT and SIGTERM go to ``handler``; afterwards to whoever had them before.

    A signal that was ignored stays so, as for a command that is started in the background. Outside the main thread,
    where Python takes no handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    install(handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def install(handler: Callable[[int, FrameType | None], None]) -> None:
    """Give SIGINT and SIGTERM to ``handler``, but for one that is ignored."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)
