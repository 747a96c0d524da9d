"""The generators that a step draws from: dropout, and whatever else a strategy or a balance draws."""

from __future__ import annotations

import torch


def reseed(seed: int, device: torch.device) -> None:
    """Seed the generator of the CPU and that of the device, as ``torch.manual_seed`` does for every device there is.

    That one also keeps a stack trace for each kind of accelerator that is not in use: more than a millisecond a call,
    which is more than everything else the whole loop adds to a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
