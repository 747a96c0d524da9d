"""Which precision ``auto`` is on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from mtl.config.schema import TrainerConfig

LEAST_WIDTH = 256
"""Narrower decoders gain little on a CPU: a product of a shape that was not seen before is prepared first, and packed
batches are of ever new shapes (docs/log.md, 2026-11-27)."""


def settled(trainer: TrainerConfig, width: int) -> TrainerConfig:
    """The same with ``auto`` replaced by ``bf16`` where that is faster here, else by ``32``.

    :param width: Width D of the decoder.
    """
    if trainer.precision != "auto":
        return trainer
    if trainer.accelerator != "cpu" and torch.cuda.is_available():
        device = "cuda"
    elif trainer.accelerator != "cpu" and torch.backends.mps.is_available():
        device = "mps"
    else:
        device = "cpu"
    return replace(trainer, precision=fastest(torch.device(device), width))


def fastest(device: torch.device, width: int) -> Literal["32", "bf16"]:
    """The precision in which a decoder of this width D is fastest there."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and width >= LEAST_WIDTH and _multiplies_bfloat16()
    return "bf16" if fast else "32"


def _multiplies_bfloat16() -> bool:
    """Whether the processor has products of bfloat16; without them oneDNN still computes them, three times slower
    than float32, and calls them supported."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) is True for name in ("avx512_bf16", "amx_bf16"))
