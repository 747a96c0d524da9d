from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mtl.config.schema import DecoderConfig
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
