"""What a run cost: every figure is counted from the plan or measured, none is typed in."""

from __future__ import annotations

import itertools
import resource
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from mtl.data.cutting import shard
from mtl.data.plan import Plan, Step
from mtl.data.replay import Replay
from mtl.data.store import EncodedSplit
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Task


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
) -> dict[str, Any]:
    """The ledger of a training, as ``summary.json`` holds it.

    Tokens, rows and target tokens are counted over the rows of every step that was made. Operations are those of
    the model's matrix products (see :meth:`mtl.decoder.gpt.Decoder.flops`) for real tokens, padding aside.

    :param steps: Optimizer steps made.
    :param seconds: Wall time of training.
    :param pieces: Pieces of a step, over all devices.
    :param by_task: Each task of a piece has a backward pass of its own; otherwise a piece has one.
    """
    names = [task.name for task in strategy.tasks]
    tokens, examples, targets = (np.zeros(len(names), dtype=np.int64) for _ in range(3))
    seen = 0.0
    passes = 0
    labels = [store.label_counts for store in stores]
    for step in itertools.islice(plan.steps(), steps):
        if by_task:
            passes += sum(len(np.unique(tasks)) for tasks in _tasks_of_pieces(step, pieces))
        for task in np.unique(step.tasks).tolist():
            own = step.tasks == task
            tokens[task] += step.lengths[own].sum()
            examples[task] += own.sum()
            targets[task] += labels[task][step.rows[own]].sum()
        seen += float((step.row_lengths * (step.row_lengths + 1) / 2).sum())
    total = int(tokens.sum())
    return {
        "tokens": total,
        "tokens_by_task": dict(zip(names, tokens.tolist(), strict=True)),
        "examples_by_task": dict(zip(names, examples.tolist(), strict=True)),
        "target_tokens_by_task": dict(zip(names, targets.tolist(), strict=True)),
        "steps": steps,
        "flops": strategy.decoder.flops(total, seen / max(total, 1), int(targets.sum())),
        "backward_passes": passes if by_task else steps * pieces,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "parameters": parameters(strategy, strategy.tasks),
        "pretraining_tokens": 0,
    }


def _tasks_of_pieces(step: Step, pieces: int) -> Iterator[np.ndarray]:
    """The task of each example of each piece, as the loader deals them."""
    for draws in shard(step.row_lengths, pieces):
        yield step.tasks[draws if step.draws is None else np.isin(step.draws, draws)]
