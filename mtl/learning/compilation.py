"""Compiled blocks for training, where a run is long enough to repay the compilation.

Each block of the decoder is compiled, in place and for the time of the training: blocks of one shape have one graph
between them, and names of weights stay as they are. On a CPU, and where a batch is of one task, a graph is for batches
of any shape. On a GPU batches of all tasks come in few shapes (:mod:`mtl.data.grid`), with a graph for each; and where
a step is so small that the GPU waits for the host, what a block asks of it is recorded and replayed as a whole (CUDA
graphs, by torch's compiler).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from mtl.config.schema import TrainerConfig
from mtl.decoder.gpt import Block
from mtl.learning.strategy import Strategy

BACKEND = "inductor"
MOST_GRAPHS = 64
"""Shapes that a block is compiled for; in any further one it runs uncompiled. torch's own limit is 8."""
COMPILING_SECONDS = 60.0
"""What all graphs of a training take to compile: more than the 11 to 48 s of a first call on a CPU."""
SAVED = 0.25
"""Share of a step's time that compiled blocks save on a GPU; published figures for GPT-2 sizes and larger go from 0.14
(torchtitan) to 0.46 (nanoGPT)."""
OPERATIONS_PER_SECOND = 1e14
"""Of a GPU at an uncompiled step in bfloat16, about a third of what its data sheet promises for an A100."""
LEAST_STEP_SECONDS = 0.005
"""Of a step so small that a GPU waits for the host."""


@dataclass(frozen=True)
class Decision:
    """Whether the decoder's blocks are compiled for a training, and why."""

    compiled: bool
    reason: str
    fixed: bool = False
    """Whether they are compiled for each of few shapes, of which batches are to be; otherwise for any shape."""
    recorded: bool = False
    """Whether what a block compiled so asks of a GPU is recorded, and replayed as a whole."""

    def __str__(self) -> str:
        how = "compiled" if self.compiled else "not compiled"
        shapes = " for few shapes" if self.fixed else ""
        graphs = " with CUDA graphs" if self.recorded else ""
        return f"blocks {how}{shapes}{graphs}: {self.reason}"


def decide(
    config: TrainerConfig,
    strategy: Strategy,
    *,
    steps: int,
    tokens: int,
    pieces: int = 1,
    balanced: bool = False,
    one_pass: bool = False,
) -> Decision:
    """What ``trainer.compile`` says; ``auto`` is whether a GPU is expected to save more than compiling takes.

    The constants of this module are estimates, none of them measured on a GPU by us; they only decide what ``auto`` is,
    and whether a GPU is expected to wait for the host.

    :param strategy: Built.
    :param steps: Optimizer steps of the training.
    :param tokens: Tokens of the training, over all devices.
    :param pieces: Of a step, on a device. Gradients that lie in a recording do not outlive the next.
    :param balanced: Losses are balanced, for which each task may have a batch and a backward pass of its own.
    :param one_pass: The gradients of all tasks come from one pass, unless blocks are compiled.
    """
    if config.compile == "never":
        return Decision(False, "trainer.compile=never")
    if not any(isinstance(module, Block) for module in strategy.modules()):
        return Decision(False, "the decoder has no transformer blocks")
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    devices = torch.cuda.device_count() if config.devices == "auto" else config.devices
    # Batches of one task alone have four times as many shapes, and emptier ones (docs/scale.md).
    mixed = not (strategy.apart or strategy.composition == "one_task" or balanced)
    fixed = on_gpu and mixed
    small = step_seconds(strategy, tokens=tokens / steps) < LEAST_STEP_SECONDS
    recorded = fixed and small and pieces == 1 and devices * config.nodes == 1
    if config.compile == "always":
        return Decision(True, "trainer.compile=always", fixed, recorded)
    if not on_gpu:
        return Decision(False, "on a CPU it saves less than it costs")
    if one_pass:
        return Decision(False, "the gradients of all tasks come from one pass")
    if config.strategy == "fsdp":
        return Decision(False, "their parameters are split over devices")
    saved = expected_saving(strategy, steps=steps, tokens=tokens // devices)
    worth = saved > COMPILING_SECONDS
    return Decision(
        worth,
        f"expected to save {saved:.0f} s of {steps} steps, and to take {COMPILING_SECONDS:.0f} s",
        worth and fixed,
        worth and recorded,
    )


def expected_saving(strategy: Strategy, *, steps: int, tokens: int) -> float:
    """Seconds that compiled blocks are expected to save on a GPU.

    :param tokens: Of all steps, on one device.
    """
    seconds = step_seconds(strategy, tokens=tokens / steps)
    return SAVED * steps * max(LEAST_STEP_SECONDS, seconds)


def step_seconds(strategy: Strategy, *, tokens: float) -> float:
    """Seconds that a GPU is expected to compute for, in a step of that many tokens of its own.

    A step that computes for less than ``LEAST_STEP_SECONDS`` waits for the host.
    """
    decoder = strategy.decoder
    operations = decoder.flops(1, (decoder.context + 1) / 2, 0) * tokens
    return operations / OPERATIONS_PER_SECOND


@contextmanager
def compiled(strategy: Strategy, decision: Decision) -> Iterator[None]:
    """Inside, the blocks are compiled, if that is the decision; a copy of the strategy never is."""
    if not decision.compiled:
        yield
        return
    blocks = [module for module in strategy.modules() if isinstance(module, Block)]
    records = decision.recorded and BACKEND == "inductor"
    how: dict[str, Any] = {"mode": "reduce-overhead"} if records else {}
    for block in blocks:
        block.compile(backend=BACKEND, dynamic=not decision.fixed, **how)
    try:
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
            yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None
        if decision.recorded:
            # Recordings hold their memory, and are of no use to weights that lie elsewhere.
            torch.compiler.reset()


def before_pass(decision: Decision) -> None:
    """Called before the forward pass of a step: what recordings returned in the last one is no longer needed."""
    if decision.recorded:
        torch.compiler.cudagraph_mark_step_begin()


def eager(decision: Decision) -> AbstractContextManager[object]:
    """Inside, blocks that are compiled run uncompiled: a score does not depend on how its model was trained."""
    return torch.compiler.set_stance("force_eager") if decision.compiled else nullcontext()
