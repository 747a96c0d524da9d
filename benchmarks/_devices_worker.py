"""One training for ``devices.py``, on one process or several; Lightning starts the others by this same command.

Prints, from the first process alone, a line of JSON: the seconds of each block of steps on both clocks, and its tokens.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from _material import Material, make_config, prepare
from _measuring import Clocks
from _options import read_options
from _options import run as run_benchmark

from mtl.config.strategies import load_strategy_class
from mtl.data.loader import planned_totals
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import Scored
from mtl.learning.training import Listener, train

DEFAULTS = {
    "decoder": "tiny",
    "strategy": "hard_sharing",
    "tasks": "microworld_sentiment,microworld_translation,microworld_similarity",
    "rows": "500",
    "tokens": "4096",
    "steps": "10",
    "pairs": "5",
    "processes": "1",
}


def main(words: Sequence[str]) -> None:
    """Train, and print what each block took."""
    options = read_options(words, DEFAULTS)
    torch.set_num_threads(1)
    processes, block, tokens = (int(options[key]) for key in ("processes", "steps", "tokens"))
    material = Material.load(options["tasks"].split(","), int(options["rows"]))
    strategy: Strategy = load_strategy_class(options["strategy"])()
    config = make_config(
        options["decoder"],
        options["strategy"],
        {"precision": "32", "threads": "1", "pairs": options["pairs"], "mlflow": "false"},
        tokens=tokens,
        block=block,
    )
    several = replace(
        config.trainer, devices=processes, strategy="ddp" if processes > 1 else "auto"
    )
    config = replace(config, trainer=several)
    prepared = prepare(strategy, material.read_by(strategy), material.vocabulary, config)
    stores, plan = prepared.stores, prepared.plan
    tokens_after = planned_totals(plan, config.budget).cumulative
    ends = [Clocks.now()]

    def step_done(step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        if step % block == 0:
            ends.append(Clocks.now())

    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder:
        train(
            strategy,
            stores,
            plan,
            tokens_after,
            config,
            Path(folder),
            Listener(score=_unscored, log=lambda *_: None, step_done=step_done),
            resume=False,
        )
    if len(ends) == 1:
        return  # not the first process
    seconds = [end.since(start) for start, end in itertools.pairwise(ends)]
    reached = [0, *tokens_after[block - 1 :: block].tolist()]
    timed = slice(1, -1)  # the first block warms up, the last holds the final checkpoint
    print(
        json.dumps(
            {
                "wall": [one.wall for one in seconds][timed],
                "processor": [one.processor for one in seconds][timed],
                "tokens": [b - a for a, b in itertools.pairwise(reached)][timed],
            }
        )
    )
    sys.stdout.flush()


def _unscored() -> Scored:
    raise AssertionError("nothing is scored here")


if __name__ == "__main__":
    run_benchmark(main)
