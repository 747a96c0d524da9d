from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mtl.config.schema import DecoderConfig
from mtl.decoder import generation
from mtl.decoder.building import new_decoder
from mtl.decoder.gpt import Decoder

VOCABULARY = 50


@pytest.fixture
def make() -> Callable[..., Decoder]:
    """A decoder in evaluation mode; large initial weights where ``scale`` says so, so that outputs differ visibly."""

    def build(
        vocabulary_size: int = VOCABULARY,
        *,
        base_vocabulary: int | None = None,
        seed: int = 0,
        scale: float = 1.0,
        **changes: Any,
    ) -> Decoder:
        shape = {"name": "test", "layers": 2, "width": 32, "heads": 4, "context": 48, **changes}
        config = DecoderConfig(**shape)
        decoder = new_decoder(config, vocabulary_size, base_vocabulary=base_vocabulary, seed=seed)
        for name, parameter in decoder.named_parameters():
            if "norm" not in name:
                parameter.data *= scale
        return decoder.eval()

    return build


@pytest.fixture(params=["as it comes", "replayed"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding as on a CPU, and step by step in fixed tensors as on a GPU."""
    if request.param == "replayed":
        monkeypatch.setattr(generation, "can_replay", lambda decoder, new: True)
