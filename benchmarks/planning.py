"""What planning costs: seconds and bytes a row of a plan, from ten thousand rows to ten million.

    python benchmarks/planning.py
    python benchmarks/planning.py rows=10000000 tasks=16 composition=mixed

- *plan*: a plan is constructed.
- *budget*: the steps and tokens of one epoch are counted (``mtl.data.loader.planned_totals``).
- *first*: from the plan that was counted to its first step, as a training begins; the epoch is planned already.
- *middle*: from a new plan to a step in the middle of the epoch, as one is resumed; of earlier epochs nothing but their
  sizes is needed, but these follow from how their steps are cut, so that each is planned once.
- *bytes held* a row beside the lengths that are given, and at the peak.

Row lengths are lognormal (mean about 24 tokens), steps hold 4096 tokens. Times are processor time of the thread.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from _measuring import machine, write
from _options import read_options
from _options import run as run_benchmark

from mtl.config.schema import BudgetConfig
from mtl.data.loader import planned_totals
from mtl.data.plan import Composition, Plan

BATCH_TOKENS = 4096
EPOCH = BudgetConfig(epochs=1.0)
DEFAULTS = {
    "rows": "10000,100000,1000000,10000000",
    "tasks": "1,16",
    "composition": "mixed,one_task,every_task",
    "out": "",
}


def lengths_of(rows: int, tasks: int) -> list[np.ndarray]:
    """(rows / tasks,) tokens of each row, for each task."""
    random = np.random.default_rng(0)
    return [
        np.clip(random.lognormal(3, 0.6, rows // tasks).astype(np.int64), 2, 256)
        for _ in range(tasks)
    ]


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a call, and what it returned."""
    started = time.thread_time()
    found = do()
    return time.thread_time() - started, found


def measure(rows: int, tasks: int, composition: Composition) -> dict[str, Any]:
    """One case."""
    lengths = lengths_of(rows, tasks)

    def made() -> Plan:
        return Plan(
            lengths,
            [1 / tasks] * tasks,
            keys=[f"task{k}" for k in range(tasks)],
            composition=composition,
            batch_tokens=BATCH_TOKENS,
            seed=0,
        )

    steps, seconds = _timings(made)
    tracemalloc.start()  # apart from the timings: it makes everything slower
    plan = made()
    planned_totals(plan, EPOCH)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "rows": rows,
        "tasks": tasks,
        "composition": composition,
        "steps": steps,
        "seconds": seconds,
        "bytes_per_row": {"held": held / rows, "peak": peak / rows},
    }


def _timings(made: Callable[[], Plan]) -> tuple[int, dict[str, float]]:
    """Steps of an epoch, and processor seconds by name."""
    construct, plan = timed(made)
    count, budgeted = timed(lambda: planned_totals(plan, EPOCH))
    first, _ = timed(lambda: next(plan.steps()))
    middle = budgeted.steps // 2
    resume, step = timed(lambda: next(made().steps(middle)))
    assert step.index == middle
    return budgeted.steps, {"plan": construct, "budget": count, "first": first, "middle": resume}


def line(case: Mapping[str, Any]) -> str:
    """One line of the table."""
    seconds = " ".join(
        f"{case['seconds'][name]:>8.3f}" for name in ("plan", "budget", "first", "middle")
    )
    bytes_per_row = case["bytes_per_row"]
    return (
        f"{case['rows']:>9} {case['tasks']:>5} {case['composition']:<11} {case['steps']:>6} {seconds}"
        f" {bytes_per_row['held']:>7.1f} {bytes_per_row['peak']:>7.1f}"
    )


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/planning.py", *words]),
        "options": options,
        "machine": machine(1, "numpy"),
        "cases": [],
    }
    print(f"load {result['machine']['load_before']}, processor seconds")
    print("     rows tasks composition  steps     plan   budget    first   middle    held    peak")
    for rows in map(int, options["rows"].split(",")):
        for tasks in map(int, options["tasks"].split(",")):
            for composition in options["composition"].split(","):
                case = measure(rows, tasks, cast("Composition", composition))
                result["cases"].append(case)
                print(line(case), flush=True)
    write(result, "planning", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
