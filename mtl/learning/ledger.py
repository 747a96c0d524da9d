"""What a run cost: every figure is counted from the plan or measured, none is typed in."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import Any

import torch

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
