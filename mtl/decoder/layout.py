"""How a decoder's matrices lie in memory while it writes: a few rows at a time are multiplied by all of them.

The usual matrix product (MKL's, which torch calls on a CPU) streams a float32 weight that lies row by row at half speed
where it meets 4 to 16 rows, and one that lies column by column at full speed. That is so on processors of Intel; on
others the rows are as fast or faster (benchmarks/generation.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.decoder.gpt import Decoder

FEW_ROWS = range(4, 33)
"""Rows for which the other order of a product is faster on a CPU; one row alone is another kernel."""


@contextmanager
def laid_out_for_writing(
    decoder: Decoder, precision: Literal["32", "bf16"] = "32"
) -> Iterator[None]:
    """Inside, the decoder's matrices lie as they are multiplied fastest by a few rows.

    Worth it around many tokens, as a copy of them is made, and kept beside the original, which comes back at the end
    untouched. Inside itself it does nothing more.

    :param precision: ``32``: on a CPU the blocks' matrices lie column by column: the same numbers, and the same results
        up to rounding; elsewhere nothing is done. ``bf16``: the blocks' matrices and the embedding, which is also the
        output, are bfloat16, and products are taken in it as under autocast; what is added up stays float32.
    """
    layers = (layer for layer in decoder.modules() if isinstance(layer, nn.Linear))
    if precision == "bf16":
        halved = [weight for layer in layers for weight in layer.parameters()]
        with (
            _replaced([*halved, decoder.token_embedding.weight], Tensor.bfloat16),
            torch.autocast(decoder.device.type, torch.bfloat16),
        ):
            yield
        return
    weights = [
        layer.weight
        for layer in layers
        if layer.weight.device.type == "cpu" and layer.weight.is_contiguous()
    ]
    with _replaced(weights, lambda weight: weight.t().contiguous().t()):
        yield


def next_token_logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    """(B, D) -> (B, V), as :meth:`Decoder.logits`, in the order that is faster for few rows."""
    weight = decoder.token_embedding.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or len(hidden) not in FEW_ROWS:
        return decoder.logits(hidden)
    return F.linear(weight, hidden).t()


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
