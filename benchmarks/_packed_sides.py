"""Packed steps of several tasks on one device: in ever new shapes, in few, compiled, and recorded.

All sides train the same strategy from the same weights on the same steps of the microworld, as ``mtl.fit`` packs them,
and take turns in one process; a turn is a step on each batch, the first of which compiles and is left out. They reach
the same losses, which is checked in every turn (at a learning rate so low that they stay together).
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from _material import Material, make_config, prepare
from _measuring import ROOT
from torch._dynamo.utils import counters

from mtl.config.schema import OptimizerConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch
from mtl.data.grid import Grid
from mtl.data.loader import TrainLoader
from mtl.learning.compilation import Decision, before_pass, compiled
from mtl.learning.reduction import reduction
from mtl.learning.schedule import adamw
from mtl.learning.strategy import Strategy

LEARNING_RATE = 1e-7
LEAST_TOKENS = 2048
"""Of a step: it must hold a row of each task."""
SIDES = {
    "as packed": Decision(False, ""),
    "as packed, compiled for any shape": Decision(True, ""),
    "few shapes": Decision(False, "", fixed=True),
    "few shapes, compiled": Decision(True, "", fixed=True),
    "few shapes, recorded": Decision(True, "", fixed=True, recorded=True),
}


class Steps:
    """The same steps of the microworld's tasks, packed in both ways.

    :param tokens: Of a step.
    """

    def __init__(self, decoder: str, strategy: str, *, rows: int, tokens: int, steps: int):
        names = sorted(path.stem for path in (ROOT / "configs/task").glob("microworld_*.yaml"))
        material = Material.load(names, rows)
        words = {"precision": "32", "threads": "1", "pairs": "1", "mlflow": "false"}
        config = make_config(decoder, strategy, words, tokens=tokens, block=1)
        self.strategy: Strategy = load_strategy_class(strategy)()
        prepared = prepare(
            self.strategy, material.read_by(self.strategy), material.vocabulary, config
        )
        self.batches = {
            few: [
                batch
                for pieces in TrainLoader(
                    prepared.stores,
                    prepared.plan,
                    steps=steps,
                    weigh=reduction(self.strategy.reduction),
                    tight=self.strategy.reads == "corpus",
                    arrangement="apart" if self.strategy.apart else "together",
                    grid=Grid.of(prepared.stores) if few else None,
                )
                for batch in pieces
            ]
            for few in (False, True)
        }

    def about(self, few: bool) -> dict[str, float]:
        """How many shapes there are, and how many of the positions computed hold a token."""
        batches = self.batches[few]
        real = sum(batch.real_tokens for batch in batches)
        return {
            "batches": len(batches),
            "shapes": len({(batch.tokens.shape, batch.mask is None) for batch in batches}),
            "real_share": real / sum(batch.tokens.numel() for batch in batches),
        }


class Side:
    """A strategy that trains on one layout."""

    def __init__(
        self, strategy: Strategy, batches: Sequence[Batch], decision: Decision, bf16: bool
    ):
        self.strategy, self.batches, self.decision, self.bf16 = strategy, batches, decision, bf16
        self.optimizer = adamw(strategy, OptimizerConfig(learning_rate=LEARNING_RATE), fused=True)

    def turn(self) -> list[float]:
        """A step on every batch; the loss of each."""
        losses, device = [], self.strategy.decoder.device.type
        for batch in self.batches:
            before_pass(self.decision)
            with torch.autocast(device, dtype=torch.bfloat16) if self.bf16 else nullcontext():
                loss = (self.strategy.losses(batch).float() * batch.weight).sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(float(loss.item()))
        return losses


def measure(decoder: str, device: str, options: Mapping[str, str]) -> dict[str, Any]:
    """What every side does with steps of as many tokens as ``rows`` rows of the context have.

    :param decoder: Name of the decoder.
    """
    steps = Steps(
        decoder,
        options["strategy"],
        rows=int(options["texts"]),
        tokens=max(int(options["rows"]) * int(options["context"]), LEAST_TOKENS),
        steps=int(options["steps"]),
    )
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        sides = {}
        for name, decision in SIDES.items():
            strategy = copy.deepcopy(steps.strategy).to(device).train()
            batches = [batch.to(device) for batch in steps.batches[decision.fixed]]
            sides[name] = Side(strategy, batches, decision, device == "cuda")
            stack.enter_context(compiled(strategy, decision))
            found[name] = {**steps.about(decision.fixed), "seconds": []}
        for turn in range(int(options["pairs"]) + 1):
            expected: list[float] = []
            for name, side in sides.items():
                before, start = counters["stats"]["unique_graphs"], time.perf_counter()
                losses = side.turn()
                spent = time.perf_counter() - start  # each step has waited for its loss
                if turn:
                    found[name]["seconds"].append(spent)
                else:
                    found[name]["first_turn_seconds"] = spent
                    found[name]["graphs"] = counters["stats"]["unique_graphs"] - before
                expected = expected or losses
                apart = max(abs(a / b - 1) for a, b in zip(losses, expected, strict=True))
                found[name]["losses_differ_by"] = max(apart, found[name].get("losses_differ_by", 0))
    tokens = sum(batch.real_tokens for batch in steps.batches[True])
    for one in found.values():
        one["tokens_per_second"] = tokens / statistics.median(one["seconds"])
    return found


def show(decoder: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """The table of a decoder."""
    print(f"| packed, {decoder} | tokens/s | shapes | real positions | graphs | first turn, s |")
    print("|---|---|---|---|---|---|")
    for name, one in found.items():
        print(
            f"| {name} | {one['tokens_per_second']:.0f} | {one['shapes']} | {one['real_share']:.1%} "
            f"| {one['graphs']} | {one['first_turn_seconds']:.1f} |"
        )
