"""Where the seconds of a run go: importing, reading, training, scoring, and the rest.

    python benchmarks/default_run.py
    python benchmarks/default_run.py strategy=mt_dnn decoder=small budget.tokens=4000000

Without settings it is the default run, whole. The settings are those of ``mtl.fit``. Parts are timed in this process,
by the functions they are; each is wall time, with its share of the whole, imports included. *selecting* is scoring the
selection rows during training, *reporting* scoring the reported rows at its end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

STARTED = time.perf_counter()

from _measuring import machine, write  # noqa: E402
from _options import run as run_benchmark  # noqa: E402

from mtl import execution, fit  # noqa: E402
from mtl.answering import Scorer  # noqa: E402
from mtl.ending import Ending  # noqa: E402
from mtl.learning import training  # noqa: E402

PARTS: dict[str, tuple[Any, str]] = {
    "reading data": (execution, "load_data"),
    "training": (execution, "train"),
    "selecting": (Scorer, "select"),
    "reporting": (Ending, "score"),
    "curves": (execution, "draw_curves"),
}


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Let the functions of ``PARTS`` add their time to ``seconds``."""
    with ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            inner = getattr(owner, name)
            stack.callback(setattr, owner, name, inner)
            setattr(owner, name, _timed(inner, part, seconds))
        yield


def _timed(inner: Callable[..., Any], part: str, seconds: dict[str, float]) -> Callable[..., Any]:
    @wraps(inner)
    def outer(*positional: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return inner(*positional, **named)
        finally:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - begun

    return outer


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    seconds = {"importing": time.perf_counter() - STARTED}
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/default_run.py", *words]),
        "machine": machine(training.torch.get_num_threads(), "torch", "pytorch-lightning"),
    }
    print(f"load {result['machine']['load_before']}")
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder, timed(seconds):
        own = [f"run_dir={folder}/run", f"record.tracking_uri=sqlite:///{folder}/mlflow.db"]
        fit.run([*words, *own])
    whole = time.perf_counter() - STARTED
    seconds["training"] -= seconds.get("selecting", 0.0)
    seconds["the rest"] = whole - sum(seconds.values())
    result["seconds"] = {**seconds, "whole": whole}
    for part, found in result["seconds"].items():
        print(f"{part:<14} {found:8.1f} s  {found / whole:6.1%}")
    write(result, "default-run", "")
    return result


if __name__ == "__main__":
    run_benchmark(main)
