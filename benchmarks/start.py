"""What starting costs: seconds of ``--help``, of a mistake, and from the command to the first training step.

    python benchmarks/start.py
    python benchmarks/start.py repeats=9

- *help* and *mistake*: ``python -m mtl.fit --help``, and with a strategy that does not exist.
- *hydra*: the part of both that is not ours, ``python -c "import hydra.main, hydra.compose"``.
- *first step*: ``python -m mtl.fit decoder=tiny`` on the microworld until metrics.jsonl has a line, with tokenised data
  in the cache: the first run fills it and is left out.

The commands take turns. Two clocks: wall time, and processor time of the process (user and system), which neighbours
on a shared machine disturb far less.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _measuring import ROOT, Clocks, machine, write
from _options import read_options
from _options import run as run_benchmark

DEFAULTS = {"repeats": "5", "out": ""}
SHORT = {
    "hydra": ["-c", "import hydra, hydra.compose, hydra.main"],
    "help": ["-m", "mtl.fit", "--help"],
    "mistake": ["-m", "mtl.fit", "strategy=task_singal"],
}
STATUS = {"hydra": 0, "help": 0, "mistake": 2}
FIT = ["-m", "mtl.fit", "decoder=tiny", "trainer.threads=1"]


def timed(words: Sequence[str], status: int, cwd: Path) -> Clocks:
    """One command from its start to its end."""
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=_environment(), capture_output=True
    )
    after = os.times()
    assert done.returncode == status, done.stderr.decode()
    return Clocks(
        time.perf_counter() - started,
        after.children_user + after.children_system - before.children_user - before.children_system,
    )


def first_step(cwd: Path) -> Clocks:
    """From the command to the first line of metrics.jsonl, which is written when the first step is over."""
    run = Path(tempfile.mkdtemp(dir=cwd)) / "run"
    words = [*FIT, "record.every=1", f"run_dir={run}"]
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        metrics = run / "metrics.jsonl"
        while not (metrics.is_file() and metrics.stat().st_size):
            assert process.poll() is None, f"the run ended without a step: {' '.join(words)}"
            time.sleep(0.005)
        found = Clocks(time.perf_counter() - started, _processor_seconds(process.pid))
        process.terminate()
    return found


def _processor_seconds(pid: int) -> float:
    """User and system time of a process that runs; nan where the system does not tell."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def summary(clocks: Sequence[Clocks]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each clock."""
    values = {name: [getattr(c, name) for c in clocks] for name in ("processor", "wall")}
    return {
        name: {"low": min(of), "median": statistics.median(of), "high": max(of)}
        for name, of in values.items()
    }


def line(name: str, found: Mapping[str, Mapping[str, float]]) -> str:
    """One line of the table."""
    cells = [
        f"{found[clock]['median']:6.2f} ({found[clock]['low']:.2f} to {found[clock]['high']:.2f})"
        for clock in ("processor", "wall")
    ]
    return f"{name:<12} {cells[0]:<26} {cells[1]}"


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    repeats = int(options["repeats"])
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/start.py", *words]),
        "options": options,
        "machine": machine(1, "torch", "pytorch-lightning", "hydra-core"),
        "seconds": {},
    }
    print(f"load {result['machine']['load_before']}")
    print(f"{'':<12} {'processor s':<26} wall s   median (lowest to highest)")
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-", ignore_cleanup_errors=True) as folder:
        cwd = Path(folder)
        first_step(cwd)  # fills the cache
        found: dict[str, list[Clocks]] = {name: [] for name in (*SHORT, "first step")}
        for _ in range(repeats):
            for name, command in SHORT.items():
                found[name].append(timed(command, STATUS[name], cwd))
            found["first step"].append(first_step(cwd))
        for name, clocks in found.items():
            result["seconds"][name] = summary(clocks)
            print(line(name, result["seconds"][name]), flush=True)
    write(result, "start", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
