"""What learning many tasks together costs: real tokens/s of each strategy's step, against single_task on the same rows.

    python benchmarks/strategies.py
    python benchmarks/strategies.py decoder=tiny tasks=2,8 strategy=mt_dnn turns=7

A step is the strategy's losses, the backward pass, clipping and AdamW, on the batches that the program's plan gives the
strategy. A strategy that trains a copy for each task (single_task, the fine-tuning of pretrain_finetune) takes turns
over its tasks, a step of each. The sides take turns in one process: ``steps`` steps of one, then as many of the other.
Batches are built beforehand; what building them and the loop around costs is the question of ``whole_loop.py``.

Tasks are those of the microworld; beyond eight they are copies of them under other names. zero_shot trains on running
text, so that its ratio is one to other rows.

Beside real tokens/s stand the operations a token (:func:`mtl.learning.ledger.cost`) in those of single_task, and the
ratio of operations/s: what is left of a difference when each strategy's own arithmetic is allowed for.

Times are processor time of the training thread, which neighbours on a shared machine disturb far less than wall time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from _material import Material, make_config, prepare
from _measuring import ROOT, machine, write
from _options import read_options
from _options import run as run_benchmark
from _turns import spread

from mtl.config import schema
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch
from mtl.data.loader import TrainLoader
from mtl.data.vocabulary import Vocabulary
from mtl.learning.ledger import cost
from mtl.learning.reduction import reduction
from mtl.learning.schedule import adamw
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Task

BASELINE = "single_task"
DEFAULTS = {
    "decoder": "tiny",
    "strategy": "hard_sharing,mt_dnn,mixed_batch,task_signal,pretrain_finetune,soft_sharing,zero_shot",
    "tasks": "2,4,8,16",
    "rows": "500",
    "tokens": "2048",
    "steps": "16",
    "turns": "5",
    "out": "",
}


def copies(tasks: Sequence[Task], wanted: int) -> list[Task]:
    """The first ``wanted`` of the tasks; where there are fewer, again under other names."""
    found = []
    for i in range(wanted):
        task = tasks[i % len(tasks)]
        again = i // len(tasks)
        name = f"{task.name}_{again + 1}" if again else task.name
        found.append(replace(task, config=replace(task.config, name=name)))
    return found


@dataclass(frozen=True)
class Model:
    """One model and the batches it trains on."""

    strategy: Strategy
    optimizer: torch.optim.Optimizer
    steps: list[tuple[Batch, ...]]
    clip: float | None
    operations: float
    """Of a token, on average over the steps."""

    def step(self, number: int) -> int:
        """Train on the batches of one step; its tokens."""
        batches = self.steps[number % len(self.steps)]
        self.optimizer.zero_grad()
        loss = sum((self.strategy.losses(b).float() * b.weight).sum() for b in batches)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        if self.clip is not None:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip)
        self.optimizer.step()
        self.strategy.after_step(1e-3)
        return sum(b.real_tokens for b in batches)


def models(
    name: str, tasks: Sequence[Task], material: Material, config: schema.FitConfig, steps: int
) -> list[Model]:
    """The models that a strategy's first stage trains: one for all tasks, or one for each."""
    kind = load_strategy_class(name)
    if kind().reads == "corpus":
        return [_model(kind(), [material.corpus], material.vocabulary, config, steps)]
    groups = [[task] for task in tasks] if kind().stages()[0].each else [list(tasks)]
    return [_model(kind(), group, material.vocabulary, config, steps) for group in groups]


def _model(
    strategy: Strategy,
    tasks: Sequence[Task],
    vocabulary: Vocabulary,
    config: schema.FitConfig,
    steps: int,
) -> Model:
    prepared = prepare(strategy, tasks, vocabulary, config)
    loader = TrainLoader(
        prepared.stores,
        prepared.plan,
        steps=steps,
        weigh=reduction(strategy.reduction),
        arrangement="apart" if strategy.apart else "together",
        tight=strategy.reads == "corpus",
    )
    optimizer = adamw(strategy.train(), config.optimizer)
    ledger = cost(strategy, prepared.stores, prepared.plan, steps=steps, seconds=0.0, pieces=1)
    operations = ledger["flops"] / ledger["tokens"]
    return Model(strategy, optimizer, list(loader), config.optimizer.clip, operations)


@dataclass(frozen=True)
class Turn:
    """What a side did in its turn."""

    seconds: float
    """Of the processor."""
    tokens: int
    operations: float


def turn(trained: Sequence[Model], first: int, steps: int) -> Turn:
    """Steps ``first`` to ``first + steps``, over the models in turn."""
    started, tokens, operations = time.thread_time(), 0, 0.0
    for number in range(first, first + steps):
        model = trained[number % len(trained)]
        of_step = model.step(number // len(trained))
        tokens += of_step
        operations += of_step * model.operations
    return Turn(time.thread_time() - started, tokens, operations)


def summarise(other: Sequence[Turn], single: Sequence[Turn]) -> dict[str, Any]:
    """What the turns of a strategy and those of single_task say: tokens/s of each side, and ratios turn by turn."""
    speeds = [[turn.tokens / turn.seconds for turn in side] for side in (other, single)]
    work = [[turn.operations / turn.tokens for turn in side] for side in (other, single)]
    ratios = [a / b for a, b in zip(*speeds, strict=True)]
    costs = [a / b for a, b in zip(*work, strict=True)]
    return {
        "tokens_per_second": statistics.median(speeds[0]),
        "single_tokens_per_second": statistics.median(speeds[1]),
        "ratio": spread(ratios),
        "operations_a_token": statistics.median(costs),
        "ratio_of_operations": spread([r * c for r, c in zip(ratios, costs, strict=True)]),
    }


def measure(
    name: str, tasks: Sequence[Task], material: Material, options: Mapping[str, str]
) -> dict[str, Any]:
    """One case: a strategy on a number of tasks."""
    steps, turns = int(options["steps"]), int(options["turns"])
    config = make_config(
        options["decoder"],
        name,
        {"precision": "32", "threads": "1", "pairs": "0", "mlflow": "false"},
        tokens=int(options["tokens"]),
        block=1,
    )
    sides = [models(each, tasks, material, config, steps) for each in (name, BASELINE)]
    for side in sides:
        turn(side, 0, len(side))  # warms up
    pairs = [[turn(side, t * steps, steps) for side in sides] for t in range(turns)]
    found = summarise([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return {"strategy": name, "tasks": len(tasks), **found}


def line(case: Mapping[str, Any]) -> str:
    """One line of the table."""
    tokens, operations = (
        f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
        for ratio in (case["ratio"], case["ratio_of_operations"])
    )
    return (
        f"{case['strategy']:<18} {case['tasks']:>5} {case['tokens_per_second']:>9.0f}"
        f" {case['single_tokens_per_second']:>9.0f}   {tokens}"
        f" {case['operations_a_token']:>11.3f}   {operations}"
    )


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    torch.set_num_threads(1)
    names = sorted(path.stem for path in (ROOT / "configs/task").glob("microworld_*.yaml"))
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/strategies.py", *words]),
        "options": options,
        "machine": machine(1, "torch", "numpy"),
        "cases": [],
    }
    print(f"load {result['machine']['load_before']}, processor time of the training thread")
    material = Material.load(names, int(options["rows"]))
    print(
        "strategy           tasks  tokens/s  single_t.   ratio: median (lowest to highest turn)"
        "  operations   ratio of operations/s"
    )
    for wanted in map(int, options["tasks"].split(",")):
        tasks = copies(material.tasks, wanted)
        for name in options["strategy"].split(","):
            result["cases"].append(measure(name, tasks, material, options))
            print(line(result["cases"][-1]), flush=True)
    write(result, "strategies", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
