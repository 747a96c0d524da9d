"""How a decoder's matrices lie in memory while it writes: a few rows at a time are multiplied by all of them.

The usual matrix product (MKL's, which torch calls on a CPU) streams a weight that lies row by row at half speed where
it meets 4 to 16 rows, and one that lies column by column at full speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.decoder.gpt import Decoder

FEW_ROWS = range(4, 33)
"""Rows for which the other order of a product is faster on a CPU; one row alone is another kernel."""


@contextmanager
def laid_out_for_writing(decoder: Decoder) -> Iterator[None]:
    """Inside, the matrices of the decoder's blocks lie column by column: the same numbers, and the same results up to
    rounding.

    Worth it around many tokens, as a copy of the blocks is made, and kept beside the original, which comes back at the
    end untouched. Does nothing on another device than the CPU, or inside itself.
    """
    layers = (layer for layer in decoder.modules() if isinstance(layer, nn.Linear))
    weights = [
        layer.weight
        for layer in layers
        if layer.weight.device.type == "cpu" and layer.weight.is_contiguous()
    ]
    original = [weight.data for weight in weights]
    try:
        # An inference tensor would refuse to be trained later.
        with torch.inference_mode(False), torch.no_grad():
            for weight in weights:
                weight.data = weight.data.t().contiguous().t()
        yield
    finally:
        for weight, data in zip(weights, original, strict=True):
            weight.data = data


def next_token_logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    """(B, D) -> (B, V), as :meth:`Decoder.logits`, in the order that is faster for few rows."""
    if hidden.device.type != "cpu" or len(hidden) not in FEW_ROWS:
        return decoder.logits(hidden)
    return F.linear(decoder.token_embedding.weight, hidden).t()
