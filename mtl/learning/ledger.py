"""What a run cost: every figure is counted from the plan or measured, none is typed in."""

from __future__ import annotations

import itertools
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtl.data.cutting import shard
from mtl.data.loader import read_alone
from mtl.data.plan import Plan, Step
from mtl.data.replay import Replay
from mtl.data.store import EncodedSplit
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Task

FORWARD_AND_BACKWARD = 3
"""Operations of both passes, in those of the forward pass: each product has a gradient for each of its two factors."""


def parameters(strategy: Strategy, tasks: Sequence[Task]) -> dict[str, Any]:
    """Trainable parameters: shared by all tasks, of each task alone, and in total.

    For a strategy that reads no tasks (plain language modelling) all are shared.
    """
    total = sum(p.numel() for p in strategy.parameters() if p.requires_grad)
    per_task = {task.name: strategy.task_parameters(task) for task in tasks}
    return {"shared": total - sum(per_task.values()), "per_task": per_task, "total": total}


def peak_memory_bytes() -> int:
    """Peak memory: of the device where there is one, otherwise of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cost(
    strategy: Strategy,
    stores: Sequence[EncodedSplit],
    plan: Plan | Replay,
    *,
    steps: int,
    seconds: float,
    pieces: int,
    by_task: bool = False,
    one_pass: bool = False,
) -> dict[str, Any]:
    """The ledger of a training, as ``summary.json`` holds it.

    Tokens, rows and target tokens are counted over the rows of every step that was made. Operations are those of the
    losses' matrix products and of their gradients, see :meth:`mtl.decoder.gpt.Decoder.flops`. Neither padding counts
    nor what a mask hides, though kernels may multiply both; nor does what a balance computes beside (another backward
    pass through a row that tasks share, a look back).

    :param steps: Optimizer steps made.
    :param seconds: Wall time of training.
    :param pieces: Pieces of a step, over all devices.
    :param by_task: Each task of a piece has a backward pass of its own; otherwise a piece has one.
    :param one_pass: With ``by_task``: but for examples of the same rows, all tasks of a piece have one together.
    """
    names = [task.name for task in strategy.tasks]
    tokens, examples, targets = (np.zeros(len(names), dtype=np.int64) for _ in range(3))
    seen = read = added = passes = 0
    rows = _Rows.of(strategy, stores)
    for step in itertools.islice(plan.steps(), steps):
        if by_task:
            passes += sum(_passes(step, piece, one_pass) for piece in _pieces(step, pieces))
        own = rows.starts[step.tasks] + step.rows
        np.add.at(tokens, step.tasks, step.lengths)
        np.add.at(examples, step.tasks, 1)
        np.add.at(targets, step.tasks, rows.labels[own])
        added += int(rows.added[own].sum())
        seen += _once_a_draw(step, rows.seen[own])
        read += _once_a_draw(step, rows.read[own])
    total = int(tokens.sum())
    of_decoder = strategy.decoder.flops(total, seen / max(total, 1), int(targets.sum()), read=read)
    return {
        "tokens": total,
        "tokens_by_task": dict(zip(names, tokens.tolist(), strict=True)),
        "examples_by_task": dict(zip(names, examples.tolist(), strict=True)),
        "target_tokens_by_task": dict(zip(names, targets.tolist(), strict=True)),
        "steps": steps,
        "flops": of_decoder + FORWARD_AND_BACKWARD * added,
        "backward_passes": passes if by_task else steps * pieces,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "parameters": parameters(strategy, strategy.tasks),
        "pretraining_tokens": 0,
    }


@dataclass(frozen=True)
class _Rows:
    """What N rows bring, those of all tasks one after the other."""

    starts: np.ndarray
    """(K,) int64: where the rows of each task begin."""
    labels: np.ndarray
    """(N,) int64: labelled tokens."""
    seen: np.ndarray
    """(N,) int64: tokens that each of their tokens sees, added up."""
    read: np.ndarray
    """(N,) int64: tokens whose last states are computed."""
    added: np.ndarray
    """(N,) int64: forward operations beside the decoder's."""

    @classmethod
    def of(cls, strategy: Strategy, stores: Sequence[EncodedSplit]) -> _Rows:
        sizes = [len(store) for store in stores]
        read_by = list(zip(strategy.tasks, stores, strict=True))
        return cls(
            starts=np.cumsum(sizes) - sizes,
            labels=np.concatenate([store.label_counts for store in stores]),
            seen=np.concatenate([store.seen_counts for store in stores]),
            read=np.concatenate([strategy.states_read(*one) for one in read_by]),
            added=np.concatenate([strategy.added_operations(*one) for one in read_by]),
        )


def _once_a_draw(step: Step, values: np.ndarray) -> int:
    """Sum over the rows of a step; of examples that share one the highest value counts, which has the others' in it."""
    if step.draws is None:
        return int(values.sum())
    highest = np.zeros(int(step.draws[-1]) + 1, dtype=np.int64)
    np.maximum.at(highest, step.draws, values)
    return int(highest.sum())


def _passes(step: Step, piece: np.ndarray, one_pass: bool) -> int:
    together = read_alone(step, piece) if one_pass else np.zeros(len(piece), dtype=np.bool_)
    return int(together.any()) + len(np.unique(step.tasks[piece[~together]]))


def _pieces(step: Step, pieces: int) -> Iterator[np.ndarray]:
    """The examples of each piece, as the loader deals them."""
    for draws in shard(step.row_lengths, pieces):
        yield draws if step.draws is None else np.flatnonzero(np.isin(step.draws, draws))
