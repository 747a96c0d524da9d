"""What a second process adds: tokens/s of training on two CPU processes (``trainer=ddp``) against one, one thread each.

    python benchmarks/devices.py
    python benchmarks/devices.py strategy=task_signal decoder=small tokens=2048 steps=2 turns=5

Each side is ``mtl.learning.training.train`` in processes of its own; sides take turns, and a pair is a turn of each.
*same step*: two processes share the step that one does, as ``batch.tokens`` says. *twice the step*: each of the two has
as many tokens as the one.

- *speed-up*: tokens/s of two processes over those of one, by wall time. It needs two processors that nobody else uses.
- *efficiency*: half of that.
- *processor*: processor time that one process spends on a token, over what two spend on it together (twice that of
  the first). Neighbours hardly touch it. It counts what several processes add in work (gradients that are averaged,
  smaller products of matrices), and not the time they wait for each other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _devices_worker import DEFAULTS as OF_WORKER
from _measuring import machine, write
from _options import read_options
from _options import run as run_benchmark
from _turns import spread

WORKER = Path(__file__).with_name("_devices_worker.py")
DEFAULTS = {
    **{name: value for name, value in OF_WORKER.items() if name != "processes"},
    "strategy": "hard_sharing,task_signal",
    "turns": "3",
    "out": "",
}
KINDS = {"same step": 1, "twice the step": 2}
"""Tokens of a step of two processes, over those of one."""
Blocks = Mapping[str, Sequence[float]]
"""Of a turn: seconds of its blocks on both clocks, and their tokens."""


def turn(processes: int, strategy: str, tokens: int, options: Mapping[str, str]) -> Blocks:
    """One training, in processes of its own.

    :raises RuntimeError: with what it said, where it failed.
    """
    words = [f"{name}={options[name]}" for name in ("decoder", "tasks", "rows", "steps", "pairs")]
    words += [f"strategy={strategy}", f"tokens={tokens}", f"processes={processes}"]
    done = subprocess.run(
        [sys.executable, str(WORKER), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    blocks: Blocks = json.loads(done.stdout.splitlines()[-1])
    return blocks


def summarise(one: Sequence[Blocks], two: Sequence[Blocks]) -> dict[str, Any]:
    """What turns of one process and of two say, pair by pair.

    :return: ``speed_up``, ``efficiency`` and ``processor_efficiency``, each with its lowest, median and highest.
    """
    pairs = list(zip(one, two, strict=True))
    speed_up = [rate(b, "wall") / rate(a, "wall") for a, b in pairs]
    return {
        "one_tokens_per_second": spread([rate(a, "wall") for a in one]),
        "two_tokens_per_second": spread([rate(b, "wall") for b in two]),
        "speed_up": spread(speed_up),
        "efficiency": spread([gain / 2 for gain in speed_up]),
        "processor_efficiency": spread(
            [rate(b, "processor") / rate(a, "processor") / 2 for a, b in pairs]
        ),
    }


def rate(blocks: Blocks, clock: str) -> float:
    """Tokens a second of all blocks together; of the processor time of the first process."""
    return sum(blocks["tokens"]) / sum(blocks[clock])


def shown(values: Mapping[str, float]) -> str:
    """Median (lowest to highest)."""
    return f"{values['median']:.2f} ({values['low']:.2f} to {values['high']:.2f})"


def main(words: Sequence[str]) -> None:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    about = machine(1, "torch", "pytorch-lightning")
    print(f"one thread a process, load {about['load_before']:.1f}")
    print("| strategy | two processes do | speed-up, wall | efficiency, wall | processor |")
    print("|---|---|---|---|---|")
    cases = []
    tokens = int(options["tokens"])
    for strategy in options["strategy"].split(","):
        turns: dict[str, list[Blocks]] = {"one": [], **{kind: [] for kind in KINDS}}
        for _ in range(int(options["turns"])):
            turns["one"].append(turn(1, strategy, tokens, options))
            for kind, times in KINDS.items():
                turns[kind].append(turn(2, strategy, times * tokens, options))
        for kind in KINDS:
            found = summarise(turns["one"], turns[kind])
            cases.append({"strategy": strategy, "two_processes_do": kind, **found})
            columns = (found[key] for key in ("speed_up", "efficiency", "processor_efficiency"))
            print(f"| {strategy} | {kind} | {' | '.join(map(shown, columns))} |", flush=True)
    result = {
        "command": " ".join(["python benchmarks/devices.py", *words]),
        "options": options,
        "machine": about,
        "cases": cases,
    }
    write(result, "devices", options["out"])


if __name__ == "__main__":
    run_benchmark(main)
