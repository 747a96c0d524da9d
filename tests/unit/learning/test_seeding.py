"""What a step draws follows from the seed alone, as with ``torch.manual_seed``."""

from __future__ import annotations

import torch

from mtl.learning.seeding import reseed


def test_draws_as_manual_seed() -> None:
    torch.manual_seed(7)
    expected = torch.rand(5)
    torch.rand(3)
    reseed(7, torch.device("cpu"))
    assert torch.rand(5).equal(expected)
    assert torch.initial_seed() == 7
