"""Sides of a benchmark that take turns, each in a process of its own which stays alive between its turns.

For what is set for a whole process (how memory is given back, which libraries are loaded, the highest memory it ever
held) two sides cannot share one.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from _measuring import Clocks

Work = Callable[[], float]
"""One piece of work and a number that comes of it (a loss, a speed)."""
Load = Callable[[], Callable[[Any], Work]]
"""Imports what a side needs, and returns what builds its work from a setting. A function of a module, not a closure:
it is sent to another process by name."""


@dataclass(frozen=True)
class Turn:
    """What a side did in its turn."""

    seconds: Clocks
    results: tuple[float, ...]
    """Of each piece of work."""
    peak_bytes: int
    """The most memory the process held until now, all of it: interpreter, libraries, model, training."""
    imported_bytes: int
    """The same before the side was built: interpreter and libraries."""


class Side:
    """A process that works when it is told to, and waits otherwise."""

    def __init__(self, load: Load, setting: Any, threads: int):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, load, setting, threads), daemon=True
        )
        self._process.start()
        theirs.close()

    def turn(self, pieces: int) -> Turn:
        """``pieces`` pieces of work.

        :raises RuntimeError: with what went wrong in the process.
        """
        self._pipe.send(pieces)
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"the process of a side ended with status {self._process.exitcode}"
            ) from None
        if isinstance(answer, Turn):
            return answer
        raise RuntimeError(str(answer))

    def end(self) -> None:
        """Let the process go."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()


@contextmanager
def sides(made: Mapping[str, tuple[Load, Any]], threads: int) -> Iterator[dict[str, Side]]:
    """The sides by name, each from what it loads and its setting, in its process until the block ends."""
    with ExitStack() as stack:
        started = {}
        for name, (load, setting) in made.items():
            started[name] = Side(load, setting, threads)
            stack.callback(started[name].end)
        yield started


def take_turns(
    started: Mapping[str, Side], pieces: Mapping[str, int], rounds: int
) -> dict[str, list[Turn]]:
    """``rounds`` turns of each side after one that warms up, which is left out.

    Whoever begins a round begins none of the following ones until all others have, so that a machine that grows slower
    or faster favours no side.
    """
    names = list(started)
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turn = started[name].turn(pieces[name])
            if number:
                turns[name].append(turn)
    return turns


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"low": min(values), "median": statistics.median(values), "high": max(values)}


def over(ours: Sequence[Turn], theirs: Sequence[Turn], clock: str) -> dict[str, float]:
    """How many times faster we are at the same work, round by round."""
    return spread(
        [
            getattr(b.seconds, clock) / getattr(a.seconds, clock)
            for a, b in zip(ours, theirs, strict=True)
        ]
    )


def _serve(pipe: Connection, load: Load, setting: Any, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        build = load()
        imported = _peak_bytes()
        work = build(setting)
        while True:
            pieces = pipe.recv()
            start = Clocks.now()
            results = tuple(work() for _ in range(pieces))
            seconds = Clocks.now().since(start)
            pipe.send(Turn(seconds, results, _peak_bytes(), imported))
    except (EOFError, BrokenPipeError):
        return  # the one who measures has gone
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _peak_bytes() -> int:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
