"""What is happening right now, on a terminal; silence anywhere else."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mtl.record.numbers import count, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESHES_PER_SECOND = 4
WINDOW_SECONDS = 20.0
"""Tokens per second are those of this last stretch."""
WORTH_A_LINE_SECONDS = 2.0
"""A stage that took longer leaves a line behind."""
SHORTEST_NAME = 4
"""Task names are cut down to this length before tasks are left out."""


@dataclass(frozen=True, slots=True)
class _Moment:
    step: int
    total_steps: int
    tokens: int
    total_tokens: int
    losses: Mapping[str, float]
    learning_rate: float


class Progress:
    """A bar with tokens per second, the loss of each task and the time left.

    ``update`` only keeps what it is given, so that a step costs microseconds; a thread of the display draws it a
    few times a second. Use as a context manager. Everything goes to stderr, so that stdout stays for results.

    :param title: Stands before the bar, such as the strategy's name.
    :param shown: Whether to draw; None is whether stderr is a terminal.
    """

    def __init__(self, title: str = "", *, shown: bool | None = None):
        self.title = title
        """Stands before the bar: what is being trained."""
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._moment: _Moment | None = None
        self._speeds: deque[tuple[float, int]] = deque()
        self._stage: tuple[str, float] | None = None
        self._portion: tuple[int, int] | None = None
        self._spinner: Any = None
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True),
                get_renderable=self._renderable,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # a redirected stdout keeps its lines
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(
        self,
        step: int,
        total_steps: int,
        tokens: int,
        total_tokens: int,
        losses: Mapping[str, float],
        learning_rate: float,
    ) -> None:
        """Remember where training is.

        :param step: Optimizer steps done, of ``total_steps``.
        :param tokens: Tokens consumed, of ``total_tokens``.
        :param losses: Latest loss of each task, in nats.
        """
        self._moment = _Moment(step, total_steps, tokens, total_tokens, losses, learning_rate)

    @contextmanager
    def stage(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show what takes a while (``loading tasks``); one that took over two seconds leaves a line with its time.

        Yields a function that shows how far it is, such as ``16 of 48``, behind the text.
        """
        outer, began = self._stage, time.monotonic()
        self._stage, self._portion = (text, began), None

        def reached(place: str) -> None:
            self._stage = (f"{text} {place}", began)

        try:
            yield reached
        finally:
            self._stage, self._portion = outer, None
            seconds = time.monotonic() - began
            if self._live is not None and seconds > WORTH_A_LINE_SECONDS:
                self._live.console.print(
                    f"{text}: {duration(seconds)}", markup=False, highlight=False
                )
            if outer is None:
                self._speeds.clear()  # time spent elsewhere must not count as slow training

    def portion(self, done: int, total: int) -> None:
        """Show how many bytes of the present stage are done, of ``total``; 0 where nobody knows."""
        self._portion = (done, total)

    def _renderable(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        moment, now = self._moment, time.monotonic()
        if moment is not None:
            bar = Table.grid(padding=(0, 2), expand=True)
            bar.add_column(no_wrap=True)
            bar.add_column(ratio=1, min_width=8)
            bar.add_column(no_wrap=True, justify="right")
            bar.add_row(
                Text(f"{self.title} {moment.step / max(moment.total_steps, 1):4.0%}".strip()),
                ProgressBar(total=max(moment.total_steps, 1), completed=moment.step),
                Text(progress_line(moment, self._speed(now, moment.tokens))),
            )
            width = self._live.console.width if self._live is not None else 80
            losses = losses_line(moment.losses, width)
            parts += [bar, Text(losses, style="dim", no_wrap=True)]
        if self._stage is not None:
            text, began = self._stage
            self._spinner = self._spinner or Spinner("dots")
            done = portion_line(self._portion, now - began)
            self._spinner.update(text=Text(f"{text} {duration(now - began)}  {done}".rstrip()))
            if self._portion is not None and self._portion[1]:
                parts.append(ProgressBar(total=self._portion[1], completed=self._portion[0]))
            parts.append(self._spinner)
        return Group(*parts)

    def _speed(self, now: float, tokens: int) -> float | None:
        """Tokens per second over the last stretch; None before there is one."""
        if self._stage is None:
            self._speeds.append((now, tokens))
        while len(self._speeds) > 2 and now - self._speeds[0][0] > WINDOW_SECONDS:
            self._speeds.popleft()
        if len(self._speeds) < 2:
            return None
        (before, had), (after, has) = self._speeds[0], self._speeds[-1]
        return (has - had) / (after - before) if after > before and has > had else None


def progress_line(moment: _Moment, speed: float | None) -> str:
    """``step 430/1000  0.86 M/2.00 M tokens  18.4 k tokens/s  1:02 left  lr 9.1e-04``."""
    parts = [
        f"step {moment.step}/{moment.total_steps}",
        f"{count(moment.tokens)}/{count(moment.total_tokens)} tokens",
    ]
    if speed:
        left = max(moment.total_tokens - moment.tokens, 0) / speed
        parts += [f"{count(speed)} tokens/s", f"{duration(left)} left"]
    parts.append(f"lr {moment.learning_rate:.1e}")
    return "  ".join(parts)


def portion_line(portion: tuple[int, int] | None, seconds: float) -> str:
    """``12.3 M/50.5 M bytes  1.80 M bytes/s  0:21 left``."""
    if portion is None or not portion[0]:
        return ""
    done, total = portion
    parts = [f"{count(done)}/{count(total)} bytes" if total else f"{count(done)} bytes"]
    if seconds > 0:
        parts.append(f"{count(done / seconds)} bytes/s")
        if total > done:
            parts.append(f"{duration((total - done) * seconds / done)} left")
    return "  ".join(parts)


def losses_line(losses: Mapping[str, float], width: int) -> str:
    """Loss of each task on one line of at most ``width`` characters.

    Names are cut alike until the line fits; where even short ones do not, the first tasks stay (always the same
    ones, so that the line can be read while it changes) and the rest is counted.
    """
    values = {task: float(loss) for task, loss in losses.items()}
    if not values:
        return ""
    for longest in range(max(map(len, values)), SHORTEST_NAME - 1, -1):
        line = _joined(values, longest)
        if len(line) <= width:
            return line
    for kept in range(len(values) - 1, 0, -1):
        shown = {task: values[task] for task in list(values)[:kept]}
        line = f"{_joined(shown, SHORTEST_NAME)}  +{len(values) - kept} more"
        if len(line) <= width:
            return line
    return f"loss of {len(values)} tasks"[:width]


def _joined(losses: Mapping[str, float], longest: int) -> str:
    pairs = (f"{_short(task, longest)} {loss:.3f}" for task, loss in losses.items())
    return "loss  " + "  ".join(pairs)


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "."
