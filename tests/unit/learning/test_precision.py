"""``trainer.precision=auto`` on machines that are not here."""

from __future__ import annotations

import pytest
import torch

from mtl.config.schema import TrainerConfig
from mtl.learning.precision import LEAST_WIDTH, settled

HAS, LACKS = {"avx512_bf16": True, "amx_bf16": False}, {"avx512_bf16": False, "avx512_f": True}


@pytest.mark.parametrize(
    ("capabilities", "width", "precision"),
    [
        (HAS, LEAST_WIDTH, "bf16"),
        (HAS, LEAST_WIDTH - 1, "32"),
        (LACKS, 768, "32"),
        ({"amx_bf16": True}, 768, "bf16"),
        ({}, 768, "32"),
    ],
)
def test_on_a_processor(monkeypatch, capabilities, width, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert settled(TrainerConfig(name="cpu", accelerator="cpu"), width).precision == precision


def test_an_older_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert settled(TrainerConfig(name="cpu", accelerator="cpu"), 768).precision == "32"


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "32")])
def test_on_a_gpu_the_width_does_not_matter(monkeypatch, native, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation
    )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: LACKS, raising=False)
    assert settled(TrainerConfig(name="auto"), 64).precision == precision
    assert settled(TrainerConfig(name="cpu", accelerator="cpu"), 768).precision == "32"


@pytest.mark.parametrize("asked", ["32", "bf16"])
def test_what_is_asked_for_stands(monkeypatch, asked):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: HAS, raising=False)
    trainer = TrainerConfig(name="cpu", accelerator="cpu", precision=asked)
    assert settled(trainer, 768) == trainer
