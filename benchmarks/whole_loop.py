"""What the whole loop costs over a bare one: tokens/s of training as ``mtl.fit`` does it, against a plain PyTorch loop.

    python benchmarks/whole_loop.py
    python benchmarks/whole_loop.py decoder=tiny strategy=task_signal,zero_shot pairs=20 threads=2 mlflow=true

- *loop*: ``mtl.learning.training.train``, as ``mtl.fit`` calls it: Lightning's trainer, batches planned and packed in
  their thread, the check that every loss is finite, losses per task, gradient clipping, the schedule, the supervisor,
  metrics.jsonl, the progress display's memory (and MLflow with ``mlflow=true``).
- *bare*: the same decoder, strategy losses, AdamW, clipping and schedule in ten lines of PyTorch, over the same
  batches, built beforehand.

Both train in one process and take turns: after every ``steps`` steps the loop pauses and the bare one does the same
steps. A pair is one such block of each; the first pair warms up and is left out. Both start from the same weights,
and their weights must be equal at the end, bit for bit on a CPU: the proof that they did the same work.

Two clocks: wall time, and processor time of the process, which neighbours on a shared machine disturb far less (it
counts every thread, so with ``threads=1`` it is what the step costs). Checkpoints and scoring are left out: they
happen a few times in a run. Each block holds one log, also where it is shorter than the 20 steps between two logs of
a run, so the overhead of short blocks is an upper bound.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _material import Material, make_config, prepare
from _measuring import ROOT, Clocks, machine, write
from _options import read_options
from _options import run as run_benchmark

from mtl.config import schema
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch
from mtl.data.loader import TrainLoader, planned_totals
from mtl.data.plan import Plan
from mtl.data.store import EncodedSplit
from mtl.learning.reduction import reduction
from mtl.learning.schedule import adamw, multiplier
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import Scored
from mtl.learning.training import Listener, train
from mtl.record.folder import RunFolder
from mtl.record.progress import Progress
from mtl.record.recorder import Recorder
from mtl.record.tracking import make_tracker

SHAPES = {"tiny": (2048, 20), "small": (4096, 4)}
"""Tokens of a step (32 rows of 64 tokens, 16 of 256) and steps of a block, where they are not given."""
DEFAULTS = {
    "decoder": "tiny,small",
    "strategy": "task_signal,hard_sharing,zero_shot",
    "tasks": "all",
    "rows": "2000",
    "tokens": "",
    "steps": "",
    "pairs": "5",
    "threads": "1",
    "precision": "32",
    "device": "cpu",
    "mlflow": "false",
    "out": "",
}


def summarise(
    loop: Sequence[float], bare: Sequence[float], *, steps: int, tokens: Sequence[int]
) -> dict[str, Any]:
    """What blocks that took turns say.

    :param loop: (pairs,) seconds of each block of the whole loop.
    :param bare: (pairs,) seconds of the bare block that follows it.
    :param steps: Steps of a block.
    :param tokens: (pairs,) tokens of a block.
    :return: Medians over the blocks; ``ratio`` is tokens/s of the loop over tokens/s of the bare one, pair by pair.
    """
    ratios = [b / a for a, b in zip(loop, bare, strict=True)]
    overheads = [1000 * (a - b) / steps for a, b in zip(loop, bare, strict=True)]
    return {
        "loop_ms": 1000 * statistics.median(loop) / steps,
        "bare_ms": 1000 * statistics.median(bare) / steps,
        "overhead_ms": statistics.median(overheads),
        "loop_tokens_per_second": statistics.median(
            n / seconds for n, seconds in zip(tokens, loop, strict=True)
        ),
        "bare_tokens_per_second": statistics.median(
            n / seconds for n, seconds in zip(tokens, bare, strict=True)
        ),
        "ratio": {
            "low": min(ratios),
            "median": statistics.median(ratios),
            "high": max(ratios),
        },
    }


class Bare:
    """The plain loop: a strategy's losses, their weighted sum, AdamW. Nothing is checked, counted or logged."""

    def __init__(self, strategy: Strategy, config: schema.FitConfig, tokens_after: np.ndarray):
        self.device = "cpu" if config.trainer.accelerator == "cpu" else "cuda"
        self.strategy = strategy.to(self.device).train()
        self.optimizer = adamw(strategy, config.optimizer)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.config = config
        self.shares = tokens_after / tokens_after[-1]
        self.done = 0

    def steps(self, batches: Sequence[Batch]) -> None:
        """One step on each batch."""
        optimizer, clip = self.config.optimizer, self.config.optimizer.clip
        bf16 = self.config.trainer.precision == "bf16"
        for batch in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = optimizer.learning_rate * multiplier(
                    float(self.shares[self.done]), optimizer
                )
            with torch.autocast(self.device, dtype=torch.bfloat16) if bf16 else nullcontext():
                loss = (self.strategy.losses(batch).float() * batch.weight).sum()
            self.optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, clip)
            self.optimizer.step()
            self.done += 1


def done() -> Clocks:
    """Now, when all that was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Clocks.now()


class Pairs:
    """Lets the bare loop do its block whenever the whole loop has done one."""

    def __init__(self, bare: Bare, batches: Sequence[Batch], block: int):
        self.bare, self.batches, self.block = bare, batches, block
        self.loop_seconds: list[Clocks] = []
        self.bare_seconds: list[Clocks] = []
        self.started = Clocks.now()

    def step_done(self, step: int) -> None:
        """The whole loop has finished ``step`` steps."""
        if step % self.block:
            return
        loop = done().since(self.started)
        started = Clocks.now()
        self.bare.steps(self.batches[step - self.block : step])
        self.bare_seconds.append(done().since(started))
        self.loop_seconds.append(loop)
        self.started = Clocks.now()


def measure(
    material: Material, decoder: str, strategy_name: str, options: Mapping[str, str]
) -> dict[str, Any]:
    """One case: a decoder and a strategy."""
    tokens, block = SHAPES.get(decoder, SHAPES["tiny"])
    tokens, block = int(options["tokens"] or tokens), int(options["steps"] or block)
    config = make_config(decoder, strategy_name, options, tokens=tokens, block=block)
    strategy: Strategy = load_strategy_class(strategy_name)()
    prepared = prepare(strategy, material.read_by(strategy), material.vocabulary, config)
    stores, plan = prepared.stores, prepared.plan
    budgeted = planned_totals(plan, config.budget)
    loader = TrainLoader(
        stores,
        plan,
        steps=budgeted.steps,
        weigh=reduction(strategy.reduction),
        tight=strategy.reads == "corpus",
    )
    bare = Bare(copy.deepcopy(strategy), config, budgeted.cumulative)
    batches = [batch.to(bare.device) for (batch,) in loader]  # one for all tasks: no towers here
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder:
        loop = _train_in_turns(
            strategy, stores, plan, budgeted.cumulative, config, Path(folder), bare, batches
        )
    timed = slice(1, -1)  # the first block warms up, the last holds the final checkpoint
    of_blocks = [
        sum(batch.real_tokens for batch in batches[first : first + block])
        for first in range(0, len(batches), block)
    ]
    clocks = {
        clock: summarise(
            [getattr(seconds, clock) for seconds in loop.loop_seconds[timed]],
            [getattr(seconds, clock) for seconds in loop.bare_seconds[timed]],
            steps=block,
            tokens=of_blocks[timed],
        )
        for clock in ("processor", "wall")
    }
    computed = sum(batch.tokens.numel() for batch in batches)
    return {
        "decoder": decoder,
        "strategy": strategy_name,
        "tokens_per_step": sum(of_blocks) / len(batches),
        "real_share_of_computed_positions": sum(of_blocks) / computed,
        "steps_per_block": block,
        "pairs": len(of_blocks[timed]),
        "weights_differ_by": difference(strategy, bare.strategy),
        **clocks,
    }


def _train_in_turns(
    strategy: Strategy,
    stores: list[EncodedSplit],
    plan: Plan,
    tokens_after: np.ndarray,
    config: schema.FitConfig,
    path: Path,
    bare: Bare,
    batches: Sequence[Batch],
) -> Pairs:
    folder = RunFolder(path)
    tracker = make_tracker(
        folder, enabled=config.record.mlflow, uri=f"sqlite:///{path / 'mlflow.db'}"
    )
    tracker.start(experiment="benchmark", run_name="whole loop", parameters={}, tags={})
    recorder = Recorder(folder, tracker)
    pairs = Pairs(bare, batches, config.record.every)
    total, all_tokens = len(tokens_after), int(tokens_after[-1])
    with Progress("whole loop", shown=False) as progress:

        def step_done(step: int, losses: Mapping[str, float], learning_rate: float) -> None:
            tokens = int(tokens_after[step - 1])
            progress.update(step, total, tokens, all_tokens, losses, learning_rate)
            pairs.step_done(step)

        train(
            strategy,
            stores,
            plan,
            tokens_after,
            config,
            path / "checkpoints",
            Listener(score=_unscored, log=recorder.metrics, step_done=step_done),
            resume=False,
        )
    tracker.finish("finished")
    return pairs


def _unscored() -> Scored:
    raise AssertionError("nothing is scored here")


def difference(one: Strategy, other: Strategy) -> float:
    """Largest absolute difference between two strategies' weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a.cpu() - b.cpu()).detach().abs().max()) for a, b in pairs)


def line(case: Mapping[str, Any], clock: str) -> str:
    """One line of the table."""
    found = case[clock]
    ratio = found["ratio"]
    return (
        f"{case['decoder']:<6} {case['strategy']:<13} {clock:<9} {case['tokens_per_step']:>7.0f}"
        f" {found['bare_ms']:>9.2f} {found['loop_ms']:>9.2f} {found['overhead_ms']:>+9.2f}"
        f" {found['bare_tokens_per_second']:>9.0f} {found['loop_tokens_per_second']:>9.0f}"
        f"   {ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
    )


TITLES = (
    "decoder strategy    clock     tok/step   bare ms   loop ms  overhead  bare t/s  loop t/s"
    "   loop/bare (lowest to highest pair)"
)


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    threads = int(options["threads"])
    torch.set_num_threads(threads)
    names = sorted(path.stem for path in (ROOT / "configs/task").glob("microworld_*.yaml"))
    if options["tasks"] != "all":
        names = options["tasks"].split(",")
    result = {
        "command": " ".join(["python benchmarks/whole_loop.py", *words]),
        "options": options,
        "machine": machine(threads, "torch", "pytorch-lightning", "numpy"),
        "cases": [],
    }
    print(
        f"{threads} thread(s), load {result['machine']['load_before']}, torch {torch.__version__}"
    )
    print("processor time is of all threads of this process; trust it where neighbours are busy")
    material = Material.load(names, int(options["rows"]))
    print(TITLES)
    for decoder in options["decoder"].split(","):
        for strategy in options["strategy"].split(","):
            case = measure(material, decoder, strategy, options)
            result["cases"].append(case)
            for clock in ("processor", "wall"):
                print(line(case, clock), flush=True)
            if case["weights_differ_by"] > 0:
                print(f"  the weights of the two differ by up to {case['weights_differ_by']:.1e}")
    write(result, "whole_loop", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
