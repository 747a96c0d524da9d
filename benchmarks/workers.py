"""Many training runs on one machine: N workers of one thread each, or one process of N threads?

    python benchmarks/workers.py
    python benchmarks/workers.py decoder=small tokens=50000 runs=4 processes=4

N is the number of processors. Both sides do the same runs of ``mtl.fit`` (strategy, decoder, tokens; a seed each) in
processes as ``mtl.study`` starts them: a worker imports once, and then does one run after the other. The sides take
turns, ``rounds`` times. What counts is the wall time from the start of the processes to the end of the last run, so
it wants a quiet machine; the load stands beside it.

Beside runs an hour stand the wall seconds of a worker's first run, its imports included, and of its later ones.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _measuring import machine, write
from _options import read_options
from _options import run as run_benchmark

from mtl.studying.crew import THREADS

DEFAULTS = {
    "decoder": "tiny,small",
    "strategy": "hard_sharing",
    "tokens": "20000",
    "runs": "4",
    "rounds": "2",
    "processes": "",
    "out": "",
}
COMMON = ("suite=microworld", "trainer=cpu", "evaluation.times=1", "evaluation.rows=100")
WORKER = """
import json, sys, time
started = time.time()
from mtl import fit
for line in sys.stdin:
    fit.run(json.loads(line))
    print(json.dumps(time.time() - started), flush=True)
    started = time.time()
"""


def dealt(runs: Sequence[Any], workers: int) -> list[list[Any]]:
    """The runs of each worker, one after the other in turn."""
    return [list(runs[worker::workers]) for worker in range(workers)]


def summarise(rounds: Sequence[Mapping[str, Any]], runs: int) -> dict[str, Any]:
    """What rounds say of both sides.

    :param rounds: Wall seconds of ``workers`` and of ``process`` in each, and ``seconds`` of each run of each worker.
    :param runs: Runs of a side in a round.
    """
    ratios = [one["process"] / one["workers"] for one in rounds]
    of_workers = [seconds for one in rounds for seconds in one["seconds"]]
    return {
        "workers_runs_per_hour": 3600 * runs / statistics.median(one["workers"] for one in rounds),
        "process_runs_per_hour": 3600 * runs / statistics.median(one["process"] for one in rounds),
        "ratio": {"low": min(ratios), "median": statistics.median(ratios), "high": max(ratios)},
        "first_run_seconds": statistics.median(seconds[0] for seconds in of_workers),
        "later_run_seconds": statistics.median(
            [later for seconds in of_workers for later in seconds[1:]] or [float("nan")]
        ),
    }


def side(
    arguments: Sequence[Sequence[str]], workers: int, threads: int, folder: str
) -> tuple[float, Any]:
    """All runs in so many processes, which leave what they write in ``folder``: wall seconds, and those of each run of
    each process."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    started = time.perf_counter()
    processes = []
    for own in dealt(arguments, workers):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=folder,
        )
        assert process.stdin is not None
        process.stdin.write("".join(json.dumps(list(one)) + "\n" for one in own))
        process.stdin.close()
        processes.append(process)
    seconds = []
    for process in processes:
        assert process.stdout is not None
        seconds.append([json.loads(line) for line in process.stdout])
        if process.wait():
            raise RuntimeError(f"a worker ended with status {process.returncode}")
    return time.perf_counter() - started, seconds


def measure(decoder: str, options: Mapping[str, str], processes: int) -> dict[str, Any]:
    """Both sides in turn on one decoder."""
    runs = int(options["runs"])
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder:

        def arguments(name: str) -> list[list[str]]:
            return [
                [
                    *COMMON,
                    f"strategy={options['strategy']}",
                    f"decoder={decoder}",
                    f"budget.tokens={options['tokens']}",
                    f"seed={seed}",
                    f"record.tracking_uri=sqlite:///{folder}/mlflow.db",
                    f"run_dir={Path(folder, name, str(seed))}",
                ]
                for seed in range(runs)
            ]

        side(
            arguments("caches"), 1, 1, folder
        )  # both sides find data and vocabularies in the cache
        for number in range(int(options["rounds"])):
            of_workers, seconds = side(arguments(f"workers{number}"), processes, 1, folder)
            of_process, _ = side(arguments(f"process{number}"), 1, processes, folder)
            rounds.append({"workers": of_workers, "process": of_process, "seconds": seconds})
    return {"decoder": decoder, "rounds": rounds, **summarise(rounds, runs)}


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    processes = int(options["processes"] or len(os.sched_getaffinity(0)))
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/workers.py", *words]),
        "options": options,
        "machine": machine(processes, "torch", "pytorch-lightning"),
        "cases": [],
    }
    print(
        f"{processes} workers of 1 thread, 1 process of {processes}; {options['tokens']} tokens a run"
    )
    print(f"load {result['machine']['load_before']}")
    print("decoder  workers runs/h  process runs/h  ratio (lowest to highest)  first s  later s")
    for decoder in options["decoder"].split(","):
        case = measure(decoder, options, processes)
        result["cases"].append(case)
        ratio = case["ratio"]
        print(
            f"{decoder:<7} {case['workers_runs_per_hour']:>15.0f} {case['process_runs_per_hour']:>15.0f}"
            f"  {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
            f"        {case['first_run_seconds']:>7.1f} {case['later_run_seconds']:>8.1f}",
            flush=True,
        )
    write(result, "workers", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
