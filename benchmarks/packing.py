"""Real tokens a second of a training step on short texts of several tasks: packed rows against padded ones.

    python benchmarks/packing.py
    python benchmarks/packing.py decoder=tiny lengths=20:12 texts=256 pairs=3 threads=2

All sides are the same strategy (hard sharing: a head at the last token of each text, four tasks of two to five
classes), the same texts, the same batches of 64 drawn at random, AdamW; no clipping, no dropout. They differ in how the
texts of a batch are laid:

- *packed*: ``mtl.data.batch.collate`` as ``mtl.fit`` calls it: texts one behind the other in rows as long as the
  longest text, under a block-diagonal mask; the last block computes what heads read;
- *padded*: a text in each row, filled up to the longest of the batch, plain causal attention, all of every block: the
  usual way. *padded, read alone*: the same, with the last block spared as above, so that packing stands alone.

Lengths are log-normal with the given mean and standard deviation, rounded and held between 2 and 256. The sides take
turns in one process, a pass over all batches each; the first pair warms up and is left out. All reach the same losses,
which is checked in every pass (at a learning rate so low that they stay together). Batches are laid beforehand: in
training a thread of its own does that. Share of real tokens: those of texts among all positions computed. Freed memory
is kept (``mtl.decoder.allocator``), which serves all.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import yaml
from _measuring import ROOT, Clocks, machine, write
from _options import read_options
from _options import run as run_benchmark
from _turns import spread
from torch import Tensor
from torch.nn import functional as F

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig, OptimizerConfig
from mtl.config.strategies import load_strategy_class
from mtl.config.task_schema import SourceConfig, TaskConfig
from mtl.data.batch import Batch, collate
from mtl.data.encoding import Encoded
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.allocator import keep_freed_memory
from mtl.decoder.gpt import Decoder
from mtl.learning.readout import hidden_states
from mtl.learning.reduction import reduction
from mtl.learning.schedule import adamw
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Task

CLASSES = (2, 3, 4, 5)
"""Of each task."""
BATCH = 64
"""Texts of a step."""
LONGEST = 256
VOCABULARY = 8192
LEARNING_RATE = 1e-6
TOLERANCE = 1e-4
"""By how much the losses of a step may differ, relative: sums are taken in another order."""
DEFAULTS = {
    "decoder": "small",
    "lengths": "20:12,20:20,60:60",
    "texts": "512",
    "pairs": "5",
    "threads": "1",
    "out": "",
}


def lognormal_lengths(count: int, mean: float, deviation: float, seed: int = 0) -> np.ndarray:
    """(count,) int64 lengths in tokens, 2 to 256."""
    variance = math.log(1 + (deviation / mean) ** 2)
    drawn = np.random.default_rng(seed).lognormal(
        math.log(mean) - variance / 2, math.sqrt(variance), count
    )
    return np.clip(np.rint(drawn), 2, LONGEST).astype(np.int64)


def texts(lengths: np.ndarray) -> tuple[list[Encoded], np.ndarray]:
    """Texts of random tokens with a class each, and (texts,) the task of each."""
    draw = np.random.default_rng(1)
    tasks = draw.integers(len(CLASSES), size=len(lengths))
    return [
        Encoded(
            tokens=draw.integers(VOCABULARY, size=length, dtype=np.int32),
            labelled=np.zeros(length, dtype=np.bool_),
            target=float(draw.integers(CLASSES[task])),
        )
        for length, task in zip(lengths.tolist(), tasks.tolist(), strict=True)
    ], tasks


def packed(encoded: Sequence[Encoded], tasks: np.ndarray, weights: np.ndarray) -> Batch:
    """As training lays a step."""
    return collate(encoded, tasks=tasks, rows=np.arange(len(tasks)), weights=weights)


def padded(encoded: Sequence[Encoded], tasks: np.ndarray, weights: np.ndarray) -> Batch:
    """A row for each text. What stands behind a text is never seen by it, so there is no mask but the causal one."""
    lengths = np.array([len(one.tokens) for one in encoded])
    shape = (len(encoded), int(lengths.max()))
    tokens = np.zeros(shape, dtype=np.int64)
    for row, one in zip(tokens, encoded, strict=True):
        row[: len(one.tokens)] = one.tokens
    ends = np.arange(shape[0]) * shape[1] + lengths - 1
    # All that is not about places is as in the packed one.
    return replace(
        packed(encoded, tasks, weights),
        tokens=torch.from_numpy(tokens),
        positions=torch.arange(shape[1]).expand(shape),
        mask=None,
        branch_ends=torch.from_numpy(ends),
    )


LAYOUTS = {"packed": packed, "padded": padded}


def batches(lengths: np.ndarray) -> dict[str, list[Batch]]:
    """The same texts in both layouts, 64 a batch, in the order of the draw."""
    encoded, tasks = texts(lengths)
    weigh = reduction("task_example_mean")
    made: dict[str, list[Batch]] = {name: [] for name in LAYOUTS}
    for first in range(0, len(encoded), BATCH):
        part = slice(first, first + BATCH)
        own = tasks[part]
        weights = weigh(np.ones(len(own), dtype=np.int64), own)
        for name, lay in LAYOUTS.items():
            made[name].append(lay(encoded[part], own, weights))
    return made


def share(laid: Sequence[Batch]) -> float:
    """Of the positions computed, how many hold a token of a text."""
    return sum(batch.real_tokens for batch in laid) / sum(batch.tokens.numel() for batch in laid)


def strategy_of(shape: DecoderConfig) -> Strategy:
    """Hard sharing of the tasks."""
    vocabulary = Vocabulary.train(["no text"], 300)
    tasks = [
        Task.without_rows(
            TaskConfig(
                name=f"task_{count}",
                kind="classification",
                source=SourceConfig(),
                target="",
                labels=[str(number) for number in range(count)],
            )
        )
        for count in CLASSES
    ]
    strategy: Strategy = load_strategy_class("hard_sharing")()
    strategy.build(Decoder(shape, VOCABULARY), tasks, vocabulary)
    return strategy.train()


class Side:
    """A strategy that trains on one layout."""

    def __init__(self, strategy: Strategy, laid: Sequence[Batch]):
        self.strategy, self.laid = strategy, laid
        self.optimizer = adamw(strategy, OptimizerConfig(learning_rate=LEARNING_RATE))

    def losses(self, batch: Batch) -> Tensor:
        """(B,) losses as the strategy computes them."""
        return self.strategy.losses(batch)

    def turn(self) -> tuple[Clocks, list[float]]:
        """A step on every batch, and the loss of each."""
        start, losses = Clocks.now(), []
        for batch in self.laid:
            loss = (self.losses(batch).float() * batch.weight).sum()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(float(loss.item()))
        return Clocks.now().since(start), losses


class Usual(Side):
    """All of every block is computed, though heads read the last tokens alone."""

    def losses(self, batch: Batch) -> Tensor:
        hidden = hidden_states(self.strategy.decoder, batch)
        losses = hidden.new_zeros(len(batch.task))
        for index, task in enumerate(self.strategy.tasks):
            mine = batch.task == index
            head = self.strategy.heads.head_of(task)
            logits = head(hidden[batch.branch_ends[mine]])
            found = F.cross_entropy(logits, batch.target[mine].long(), reduction="none")
            losses = losses.index_put((mine,), found)
        return losses


def measure(name: str, lengths: str, options: Mapping[str, str]) -> dict[str, Any]:
    """One distribution of lengths, ``mean:deviation``.

    :raises UserError: it is none.
    """
    try:
        mean, deviation = (float(part) for part in lengths.split(":"))
    except ValueError:
        raise UserError(
            f"lengths are mean:deviation, such as 20:12; got {lengths}",
            where="command line: lengths=",
        ) from None
    shape = DecoderConfig(
        **yaml.safe_load((ROOT / f"configs/decoder/{name}.yaml").read_text(encoding="utf-8"))
    )
    laid = batches(lognormal_lengths(int(options["texts"]), mean, deviation))
    first = strategy_of(replace(shape, context=LONGEST))
    sides = {
        "packed": Side(first, laid["packed"]),
        "padded": Usual(copy.deepcopy(first), laid["padded"]),
        "padded, read alone": Side(copy.deepcopy(first), laid["padded"]),
    }
    pairs: dict[str, list[Clocks]] = {side: [] for side in sides}
    differ = 0.0
    for _ in range(int(options["pairs"]) + 1):
        reached = []
        for side, training in sides.items():
            seconds, losses = training.turn()
            pairs[side].append(seconds)
            reached.append(losses)
        differ = max(
            [differ]
            + [
                abs(a - b) / b
                for each in reached[1:]
                for a, b in zip(reached[0], each, strict=True)
            ]
        )
    tokens = sum(batch.real_tokens for batch in laid["packed"])
    return {
        "decoder": name,
        "lengths": lengths,
        "losses_differ_by": differ,
        "share": {layout: share(made) for layout, made in laid.items()},
        **{clock: summarise(pairs, clock, tokens) for clock in ("processor", "wall")},
    }


def summarise(
    pairs: Mapping[str, Sequence[Clocks]], clock: str, tokens: int
) -> dict[str, dict[str, Any]]:
    """Real tokens a second, and how many times as many the packed side has, pair by pair after the first."""
    seconds = {side: [getattr(one, clock) for one in took[1:]] for side, took in pairs.items()}
    return {
        side: {
            "tokens_per_second": tokens / statistics.median(own),
            "packed_over_it": spread([b / a for a, b in zip(seconds["packed"], own, strict=True)]),
        }
        for side, own in seconds.items()
    }


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    torch.set_num_threads(int(options["threads"]))
    keep_freed_memory()
    about = machine(int(options["threads"]), "torch")
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/packing.py", *words]),
        "options": options,
        "machine": about,
        "cases": [],
    }
    print(f"{options['threads']} thread(s), load {about['load_before']:.1f}, float32")
    print(
        "| decoder | lengths: mean, deviation | side | real share | real tokens/s, processor "
        "| packed over it | real tokens/s, wall | packed over it |"
    )
    print("|" + "---|" * 8)
    for name in options["decoder"].split(","):
        for lengths in options["lengths"].split(","):
            case = measure(name, lengths, options)
            result["cases"].append(case)
            for side in case["processor"]:
                cells = [name, lengths.replace(":", ", "), side]
                cells.append(f"{case['share'][side.partition(',')[0]]:.1%}")
                for clock in ("processor", "wall"):
                    found = case[clock][side]
                    cells.append(f"{found['tokens_per_second']:.0f}")
                    low, middle, high = (
                        found["packed_over_it"][key] for key in ("low", "median", "high")
                    )
                    cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
                print("| " + " | ".join(cells) + " |", flush=True)
            if not case["losses_differ_by"] <= TOLERANCE:
                print(f"  the losses differ by {case['losses_differ_by']:.1e}")
    write(result, "packing", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
