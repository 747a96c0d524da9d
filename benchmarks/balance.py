"""What each way to balance tasks costs beside adding their losses: step time over that of ``balance=sum``.

    python benchmarks/balance.py
    python benchmarks/balance.py balance=pcgrad,upgrad tasks=8 strategy=mixed_batch decoder=small tokens=8192 pairs=5

Every balance trains as ``mtl.fit`` trains it (:func:`mtl.learning.training.train`: Lightning, batches built in their
thread, clipping, AdamW), from the same weights on the same rows of the microworld, in a thread of its own; one thread
works at a time. They take turns in one process: a block of steps under ``sum``, a block under the balance, which
together are a pair. The first pair warms up and is left out.

Beside the time stand the backward passes of a step and the memory of the gradients that are kept side by side. A
balance whose solvers are not installed is left out, and named.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from _material import Material, make_config, prepare
from _measuring import ROOT, Clocks, machine, write
from _options import read_options
from _options import run as run_benchmark

from mtl.config.errors import unknown_name
from mtl.config.schema import BalanceConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.loader import planned_totals
from mtl.learning.balance.methods import METHODS, missing_solvers, separate_gradients
from mtl.learning.balance.one_pass import can_pass_once
from mtl.learning.balance.rows import shared_parameters
from mtl.learning.ledger import cost
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import Scored
from mtl.learning.training import Listener, train

STEPS = {"tiny": 8, "small": 1}
"""Steps of a block, where they are not given: a block should take about half a second."""
DEFAULTS = {
    "balance": "all",
    "tasks": "2,4,8",
    "strategy": "hard_sharing,mixed_batch",
    "decoder": "tiny,small",
    "rows": "2000",
    "tokens": "2048",
    "steps": "",
    "pairs": "5",
    "threads": "1",
    "precision": "32",
    "out": "",
}


class Turns:
    """A training in a thread of its own, which works only while it is told to.

    :param work: Trains, and calls what it is given after every step.
    :param block: Steps of a turn.
    """

    def __init__(self, work: Callable[[Callable[[], None]], None], block: int):
        self._block = block
        self._steps = 0
        self._turn = threading.Semaphore(0)
        self._over = threading.Semaphore(0)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(work,), daemon=True)
        self._thread.start()

    def take(self) -> Clocks:
        """One turn: a block of steps, and with the last one whatever follows it. The time it took.

        :raises BaseException: What the training raised.
        """
        started = Clocks.now()
        self._turn.release()
        self._over.acquire()
        if self._error is not None:
            raise self._error
        return Clocks.now().since(started)

    def _work(self, work: Callable[[Callable[[], None]], None]) -> None:
        self._turn.acquire()
        try:
            work(self._step_done)
        except BaseException as error:
            self._error = error
        self._over.release()

    def _step_done(self) -> None:
        self._steps += 1
        if self._steps % self._block == 0:
            self._over.release()
            self._turn.acquire()


def summarise(pairs: Sequence[tuple[float, float]], steps: int) -> dict[str, Any]:
    """What pairs of blocks say.

    :param pairs: Seconds of a block under ``sum``, and of the block under a balance that follows it.
    :param steps: Steps of a block.
    """
    ratios = [balanced / plain for plain, balanced in pairs]
    return {
        "ms": 1000 * statistics.median(balanced for _, balanced in pairs) / steps,
        "sum_ms": 1000 * statistics.median(plain for plain, _ in pairs) / steps,
        "ratio": {"low": min(ratios), "median": statistics.median(ratios), "high": max(ratios)},
    }


class Case:
    """One decoder, one strategy, K tasks: everything the balances have in common."""

    def __init__(
        self,
        material: Material,
        decoder: str,
        strategy: str,
        tasks: int,
        options: Mapping[str, str],
    ):
        self.block = int(options["steps"] or STEPS.get(decoder, STEPS["tiny"]))
        self.pairs = int(options["pairs"])
        # The last turn holds the final checkpoint, and is not timed.
        self.steps = self.block * (self.pairs + 2)
        self.tasks = material.tasks[:tasks]
        config = make_config(
            decoder,
            strategy,
            {**options, "mlflow": "false"},
            tokens=int(options["tokens"]),
            block=self.block,
        )
        self.config = replace(config, budget=replace(config.budget, steps=self.steps))
        kind: type[Strategy] = load_strategy_class(strategy)
        prepared = prepare(kind(), self.tasks, material.vocabulary, self.config)
        self.strategy, self.stores, self.plan = prepared.strategy, prepared.stores, prepared.plan
        self.budgeted = planned_totals(self.plan, self.config.budget)

    def turns(self, balance: BalanceConfig, folder: Path) -> Turns:
        """A training under a balance."""
        strategy = copy.deepcopy(self.strategy)
        return Turns(partial(_train, self, strategy, balance, folder), self.block)

    def costs(self, balance: BalanceConfig) -> dict[str, float]:
        """What is counted rather than timed."""
        separate = separate_gradients(balance, 1)
        ledger = cost(
            self.strategy,
            self.stores,
            self.plan,
            steps=self.steps,
            seconds=0.0,
            pieces=1,
            by_task=separate,
            one_pass=can_pass_once(self.strategy),
        )
        shared = sum(p.numel() for p in shared_parameters(self.strategy))
        return {
            "backward_passes": ledger["backward_passes"] / self.steps,
            "rows_mebibytes": len(self.tasks) * shared * 4 / 2**20 if separate else 0.0,
        }


def _train(
    case: Case,
    strategy: Strategy,
    balance: BalanceConfig,
    folder: Path,
    step_done: Callable[[], None],
) -> None:
    def unscored() -> Scored:
        raise AssertionError("nothing is scored here")

    train(
        strategy,
        case.stores,
        case.plan,
        case.budgeted.cumulative,
        case.config,
        folder,
        Listener(
            score=unscored,
            log=lambda step, tokens, values: None,
            step_done=lambda step, losses, rate: step_done(),
        ),
        resume=False,
        balance=balance,
    )


def measure(case: Case, balance: BalanceConfig) -> dict[str, Any]:
    """One balance beside ``sum``."""
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder:
        plain = case.turns(BalanceConfig(name="sum"), Path(folder, "sum"))
        balanced = case.turns(balance, Path(folder, "balanced"))
        pairs = [(plain.take(), balanced.take()) for _ in range(case.pairs + 2)][1:-1]
    return {
        "balance": balance.name,
        **case.costs(balance),
        **{
            clock: summarise([(getattr(a, clock), getattr(b, clock)) for a, b in pairs], case.block)
            for clock in ("processor", "wall")
        },
    }


def balances(names: str, tasks: Sequence[str]) -> list[BalanceConfig]:
    """The balances of that name as their files have them, equal weights where weights are wanted; ``sum`` beside
    itself shows what the measurement scatters by.

    :raises UserError: There is no balance of a name.
    """
    wanted = list(METHODS) if names == "all" else names.split(",")
    found = []
    for name in wanted:
        if name not in METHODS:
            raise unknown_name("balance", name, METHODS, where=f"balance={names}")
        given = yaml.safe_load((ROOT / f"configs/balance/{name}.yaml").read_text(encoding="utf-8"))
        weights = dict.fromkeys(tasks, 1.0) if name == "static" else {}
        found.append(BalanceConfig(**given, weights=weights))
    return found


TITLES = (
    "decoder strategy     tasks balance         passes  rows MiB   sum ms      ms"
    "   processor time beside sum (lowest to highest pair)"
)


def line(case: Mapping[str, Any]) -> str:
    """One line of the table."""
    found = case["processor"]
    ratio = found["ratio"]
    return (
        f"{case['decoder']:<7} {case['strategy']:<12} {case['tasks']:>5} {case['balance']:<15}"
        f" {case['backward_passes']:>6.1f} {case['rows_mebibytes']:>9.1f}"
        f" {found['sum_ms']:>8.1f} {found['ms']:>7.1f}"
        f"   {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
    )


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    threads = int(options["threads"])
    torch.set_num_threads(threads)
    balances(options["balance"], ())
    result = {
        "command": " ".join(["python benchmarks/balance.py", *words]),
        "options": options,
        "machine": machine(threads, "torch", "pytorch-lightning", "torchjd", "numpy"),
        "cases": [],
    }
    print(
        f"{threads} thread(s), load {result['machine']['load_before']}, torch {torch.__version__};"
        f" steps of {options['tokens']} tokens"
    )
    counts = [int(count) for count in options["tasks"].split(",")]
    names = sorted(path.stem for path in (ROOT / "configs/task").glob("microworld_*.yaml"))
    material = Material.load(names[: max(counts)], int(options["rows"]))
    missing = {name: packages for name in METHODS if (packages := missing_solvers(name))}
    for name, packages in missing.items():
        print(f"left out: {name} ({', '.join(packages)} not installed)")
    print(TITLES)
    for decoder in options["decoder"].split(","):
        for strategy in options["strategy"].split(","):
            for count in counts:
                case = Case(material, decoder, strategy, count, options)
                for balance in balances(options["balance"], [task.name for task in case.tasks]):
                    if balance.name not in missing:
                        about = {"decoder": decoder, "strategy": strategy, "tasks": count}
                        result["cases"].append(about | measure(case, balance))
                        print(line(result["cases"][-1]), flush=True)
    write(result, "balance", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
