"""Compiled blocks for training, where a run is long enough to repay the compilation.

Each block of the decoder is compiled, in place and for the time of the training: blocks of one shape have one graph
between them, batches of any shape too, and names of weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from mtl.config.schema import TrainerConfig
from mtl.decoder.gpt import Block
from mtl.learning.strategy import Strategy

BACKEND = "inductor"
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

    def __str__(self) -> str:
        return f"blocks {'compiled' if self.compiled else 'not compiled'}: {self.reason}"


def decide(config: TrainerConfig, strategy: Strategy, *, steps: int, tokens: int) -> Decision:
    """What ``trainer.compile`` says; ``auto`` is whether a GPU is expected to save more than compiling takes.

    The constants of this module are estimates, none of them measured on a GPU by us; they only decide what ``auto`` is.

    :param strategy: Built.
    :param steps: Optimizer steps of the training.
    :param tokens: Tokens of the training, over all devices.
    """
    if config.compile == "never":
        return Decision(False, "trainer.compile=never")
    if not any(isinstance(module, Block) for module in strategy.modules()):
        return Decision(False, "the decoder has no transformer blocks")
    if config.compile == "always":
        return Decision(True, "trainer.compile=always")
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return Decision(False, "on a CPU it saves less than it costs")
    if config.strategy == "fsdp":
        return Decision(False, "their parameters are split over devices")
    devices = torch.cuda.device_count() if config.devices == "auto" else config.devices
    saved = expected_saving(strategy, steps=steps, tokens=tokens // devices)
    return Decision(
        saved > COMPILING_SECONDS,
        f"expected to save {saved:.0f} s of {steps} steps, and to take {COMPILING_SECONDS:.0f} s",
    )


def expected_saving(strategy: Strategy, *, steps: int, tokens: int) -> float:
    """Seconds that compiled blocks are expected to save on a GPU.

    :param tokens: Of all steps, on one device.
    """
    decoder = strategy.decoder
    operations = decoder.flops(tokens, (decoder.context + 1) / 2, 0) / steps
    return SAVED * steps * max(LEAST_STEP_SECONDS, operations / OPERATIONS_PER_SECOND)


@contextmanager
def compiled(strategy: Strategy, decision: Decision) -> Iterator[None]:
    """Inside, the blocks are compiled, if that is the decision; a copy of the strategy never is."""
    modules = strategy.modules() if decision.compiled else ()
    blocks = [module for module in modules if isinstance(module, Block)]
    for block in blocks:
        block.compile(backend=BACKEND, dynamic=True)
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


def eager(decision: Decision) -> AbstractContextManager[object]:
    """Inside, blocks that are compiled run uncompiled: a score does not depend on how its model was trained."""
    return torch.compiler.set_stance("force_eager") if decision.compiled else nullcontext()
