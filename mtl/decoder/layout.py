"""How a decoder's matrices lie in memory while it writes: a few rows at a time are multiplied by all of them.

Then a product takes as long as its matrix takes to be read, and torch's float32 product reads 4 to 16 rows' matrix at
half the speed that memory has or less. What reads it faster on a processor, by what it is (benchmarks/generation.py):

- packed into the blocks that oneDNN reads one after the other: bfloat16, and float32 from a width of 512 on;
- column by column: narrower float32 ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.decoder.gpt import Decoder

FEW_ROWS = range(4, 33)
"""Rows for which the other order of a product is faster on a CPU; one row alone is another kernel."""
LEAST_PACKED_WIDTH = 512
"""Of float32: at half of it packed matrices are read half as fast on one of two processors tried, a sixth faster on the
other."""


@contextmanager
def laid_out_for_writing(
    decoder: Decoder, precision: Literal["32", "bf16"] = "32"
) -> Iterator[None]:
    """Inside, the decoder's matrices lie as they are multiplied fastest by a few rows. It can write but not be trained.

    Worth it around many tokens, as a copy of them is made, and kept beside the original, which comes back at the end
    untouched. Inside itself it does nothing more.

    :param precision: ``32``: the same numbers, and the same results up to rounding; nothing is done elsewhere than on a
        CPU. ``bf16``: the blocks' matrices and the embedding, which is also the output, are bfloat16, and products are
        taken in it as under autocast; what is added up stays float32.
    """
    if "logits" in vars(decoder):
        yield
        return
    layers = [layer for layer in decoder.modules() if isinstance(layer, nn.Linear)]
    on_cpu = decoder.device.type == "cpu"
    with ExitStack() as stack:
        if on_cpu and _packing_is_faster(decoder.width, precision):
            if precision == "bf16":
                stack.enter_context(_replaced([decoder.token_embedding.weight], Tensor.bfloat16))
            stack.enter_context(_packed(decoder, layers, precision))
        elif precision == "bf16":
            rounded = (p for layer in layers for p in layer.parameters())
            embedding = decoder.token_embedding.weight
            stack.enter_context(_replaced([*rounded, embedding], Tensor.bfloat16))
        elif on_cpu:
            weights = [layer.weight for layer in layers]
            stack.enter_context(_replaced(weights, lambda weight: weight.t().contiguous().t()))
            stack.enter_context(_attributes([(decoder, "logits", _Turned(decoder))]))
        if precision == "bf16":
            stack.enter_context(torch.autocast(decoder.device.type, torch.bfloat16))
        yield


class _Turned:
    """(..., D) -> (..., V), as :meth:`Decoder.logits`, in the order of the product that is faster for few rows."""

    def __init__(self, decoder: Decoder):
        self.weight = decoder.token_embedding.weight

    def __call__(self, hidden: Tensor) -> Tensor:
        if hidden.dim() != 2 or len(hidden) not in FEW_ROWS:
            return F.linear(hidden, self.weight)
        return F.linear(self.weight, hidden).t()


class _Packed:
    """A linear map whose matrix is packed: (..., D) -> (..., V)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype):
        self.dtype = dtype
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype))
        self.bias = None if bias is None else bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        product = torch.ops.mkldnn._linear_pointwise
        found: Tensor = product(x.to(self.dtype), self.weight, self.bias, "none", [], "")
        return found


@contextmanager
def _packed(
    decoder: Decoder, layers: Iterable[nn.Linear], precision: Literal["32", "bf16"]
) -> Iterator[None]:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with torch.inference_mode(False):
        packed: list[tuple[nn.Module, str, Any]] = [
            (layer, "forward", _Packed(layer.weight, layer.bias, dtype)) for layer in layers
        ]
        packed.append((decoder, "logits", _Packed(decoder.token_embedding.weight, None, dtype)))
    with _attributes(packed):
        yield


def _packing_is_faster(width: int, precision: Literal["32", "bf16"]) -> bool:
    # These operators are torch's own, for what its compiler makes; they are not promised to anyone.
    if not (
        torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    if precision == "bf16":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return width >= LEAST_PACKED_WIDTH


@contextmanager
def _attributes(values: Iterable[tuple[nn.Module, str, Any]]) -> Iterator[None]:
    """Inside, each module has that attribute in place of its class's."""
    values = list(values)
    try:
        for module, name, value in values:
            setattr(module, name, value)
        yield
    finally:
        for module, name, _ in values:
            vars(module).pop(name, None)


@contextmanager
def _replaced(parameters: Iterable[Tensor], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    original = [(parameter, parameter.data) for parameter in parameters]
    try:
        # An inference tensor would refuse to be trained later.
        with torch.inference_mode(False), torch.no_grad():
            for parameter, data in original:
                parameter.data = change(data)
        yield
    finally:
        for parameter, data in original:
            parameter.data = data
