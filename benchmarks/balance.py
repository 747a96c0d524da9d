"""What each way to balance tasks costs beside adding their losses, as the ledger of a run counts it.

    python benchmarks/balance.py
    python benchmarks/balance.py balance=pcgrad,upgrad strategy=mixed_batch decoder=small steps=20 rounds=3

Every round trains once under each method, in turn; the fastest round counts. Memory is that of the tasks' gradients,
kept side by side: shared parameters times tasks, times four bytes.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from _options import read_options
from _options import run as run_benchmark

from mtl import fit
from mtl.config.schema import BalanceConfig
from mtl.learning.balance.methods import separate_gradients

DEFAULTS = {
    "balance": "sum,uncertainty,famo,pcgrad,gradvac,graddrop,aligned,mgda,imtl_g,cagrad,nash,upgrad",
    "strategy": "hard_sharing",
    "decoder": "tiny",
    "tokens": "8192",
    "steps": "12",
    "rounds": "2",
    "threads": "1",
}
COMMON = (
    "suite=microworld",
    "trainer=cpu",
    "budget.tokens=null",
    "evaluation.times=1",
    "evaluation.rows=1",
    "evaluation.selection_rows=1",
    "evaluation.resamples=1",
    "record.mlflow=false",
)


def ledger(balance: str, options: dict[str, str], folder: Path) -> dict[str, float]:
    """The ledger of one training."""
    run = fit.run(
        [
            *COMMON,
            f"strategy={options['strategy']}",
            f"decoder={options['decoder']}",
            f"batch.tokens={options['tokens']}",
            f"budget.steps={options['steps']}",
            f"trainer.threads={options['threads']}",
            f"balance={balance}",
            f"run_dir={folder}",
        ]
    )
    assert run is not None
    found: dict[str, float] = json.loads((run.path / "summary.json").read_text())["ledger"]
    return found


def main(words: list[str]) -> None:
    """Train and print a table."""
    options = read_options(words, DEFAULTS)
    methods = options["balance"].split(",")
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(int(options["rounds"])):
            for name in methods:
                found = ledger(name, options, Path(folder, f"{name}{number}"))
                if name not in best or found["seconds"] < best[name]["seconds"]:
                    best[name] = found
    load = os.getloadavg()[0]
    setting = ", ".join(f"{name}={options[name]}" for name in DEFAULTS if name != "balance")
    print(f"{setting}; load {load:.1f}")
    print(
        "| balance | backward passes a step | ms a step | of the first | gradients side by side, MiB |"
    )
    print("|---|---|---|---|---|")
    steps = int(options["steps"])
    for name, found in best.items():
        parameters: dict[str, float] = found["parameters"]  # type: ignore[assignment]
        tasks = len(found["tokens_by_task"])  # type: ignore[arg-type]
        rows = tasks * parameters["shared"] * 4 / 2**20
        kept = rows if separate_gradients(BalanceConfig(name=name), 1) else 0
        print(
            f"| {name} | {found['backward_passes'] / steps:.1f} | {1000 * found['seconds'] / steps:.0f} "
            f"| {found['seconds'] / best[methods[0]]['seconds']:.2f} | {kept:.0f} |"
        )


if __name__ == "__main__":
    run_benchmark(main)
