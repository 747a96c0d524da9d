"""Hidden states of some tokens only are those that all tokens' would hold there."""

from __future__ import annotations

import pytest
import torch

from mtl.config.schema import DecoderConfig
from mtl.decoder.building import new_decoder
from mtl.decoder.gpt import Decoder
from mtl.learning.towers import Stitched, initial_stitches, number_layers

ROWS, TOKENS, V = 3, 10, 30
READ = torch.randint(V, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
KINDS = pytest.mark.parametrize("kind", ["pre", "post", "lstm", "projected", "stitched"])
ONLY = pytest.mark.parametrize("only", [[29, 0, 7, 7, 15], []], ids=["some", "none"])


def make(kind: str, seed: int = 0) -> Decoder:
    if kind == "stitched":
        towers = [make("pre", seed=s) for s in range(2)]
        number_layers(towers)
        return Stitched(towers, initial_stitches(2, 2, 0.3), 1).eval()
    changes = {
        "pre": {"norm": "pre"},
        "post": {"norm": "post"},
        "lstm": {"trunk": "lstm"},
        "projected": {"trunk": "lstm", "units": 24},
    }[kind]
    config = DecoderConfig(name="test", layers=2, width=16, heads=2, context=16, **changes)
    return new_decoder(config, V, seed=seed).eval()


@KINDS
@ONLY
@torch.inference_mode()
def test_some_tokens_hidden_states(kind: str, only: list[int]) -> None:
    decoder, wanted = make(kind), torch.tensor(only, dtype=torch.long)
    positions = torch.arange(TOKENS).repeat(ROWS, 1)
    mask = torch.ones(ROWS, 1, TOKENS, TOKENS, dtype=torch.bool).tril()
    expected = decoder(READ).flatten(0, 1)[wanted]
    assert expected.shape == (len(only), 16)
    torch.testing.assert_close(decoder(READ, only=wanted), expected)
    torch.testing.assert_close(decoder(READ, positions, mask, only=wanted), expected)


@KINDS
@torch.inference_mode()
def test_a_cache_takes_up_all_tokens(kind: str) -> None:
    decoder, wanted = make(kind), torch.tensor([1])
    expected = decoder(READ)[:, -1]
    cache = decoder.new_cache(ROWS, TOKENS)
    decoder(READ[:, :6], cache=cache, only=wanted)
    cache.advance([6] * ROWS)
    last = torch.arange(1, ROWS + 1) * 4 - 1
    torch.testing.assert_close(decoder(READ[:, 6:], cache=cache, only=last), expected)
