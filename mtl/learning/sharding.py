"""Parameters split over devices: each holds a part of every one, and of its gradient and of the optimizer's moments.

FSDP2 (``fully_shard``): a block's parameters are gathered when it computes, and let go again; what lies outside the
blocks (embeddings, heads) is gathered once a step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from mtl.decoder.gpt import Block
from mtl.learning.strategy import Strategy


class ShardedDevices(ModelParallelStrategy):
    """Lightning's strategy for modules that split themselves, here over all devices; one file holds a checkpoint."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()


def shard(strategy: Strategy, mesh: DeviceMesh) -> None:
    """Split a strategy's parameters over the devices of a mesh, in place; from then on only ``losses`` may be called.

    Gradients are averaged over the devices. A device whose rows do not reach a parameter counts as a zero there, see
    :func:`drop_gradients_of_nothing`.
    """
    for module in strategy.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(strategy, mesh=mesh)
    register_fsdp_forward_method(strategy, "losses")
    split: Any = strategy
    split.set_reduce_scatter_unused_params(True)


def can_shard() -> bool:
    """Whether this torch counts a zero where a device's rows do not reach a parameter."""
    return hasattr(FSDPModule, "set_reduce_scatter_unused_params")


def is_sharded(module: nn.Module) -> bool:
    """Whether :func:`shard` was called on it."""
    return isinstance(module, FSDPModule)


@torch.no_grad()
def drop_gradients_of_nothing(strategy: Strategy) -> None:
    """Take away gradients that are 0 in every number, on all devices: of the heads of tasks that a step has not, where
    devices or pieces without an example passed through them.

    Without them there is no gradient there, and AdamW leaves such a parameter alone; at a gradient of 0 it would decay.
    """
    parameters = [p for p in strategy.parameters() if p.grad is not None]
    reached = torch.stack([_own_part(p.grad).any() for p in parameters]).float()
    if is_sharded(strategy):  # otherwise all devices have the same gradients by now
        torch.distributed.all_reduce(reached, torch.distributed.ReduceOp.MAX)
    for parameter, some in zip(parameters, reached.tolist(), strict=True):
        if not some:
            parameter.grad = None


def copy_of(strategy: Strategy) -> Strategy:
    """One with weights of its own, which reads the same rows."""
    kept = (*strategy.tasks, strategy.vocabulary)
    return copy.deepcopy(strategy, {id(one): one for one in kept})


@contextmanager
def whole_weights(split: Strategy, whole: Strategy) -> Iterator[None]:
    """Inside, ``whole`` lies on the device and has the weights of ``split``; afterwards it lies on the CPU again.

    What is scored reads parameters outside of ``losses``, and not equally often on each device, so it cannot gather
    them while it computes. Does nothing where the two are one. To be entered on all devices.
    """
    if whole is split:
        yield
        return
    whole.to(split.decoder.device)
    with torch.no_grad():
        for source, target in zip(
            [*split.parameters(), *split.buffers()],
            [*whole.parameters(), *whole.buffers()],
            strict=True,
        ):
            target.copy_(whole_value(source))
    try:
        yield
    finally:
        whole.to("cpu")


def whole_value(tensor: Tensor) -> Tensor:
    """A tensor as it is without being split; to be called on all devices."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _own_part(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
