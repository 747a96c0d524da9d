"""Another layout of the same numbers: the same results up to rounding, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch

from mtl.decoder.generation import generate
from mtl.decoder.layout import laid_out_for_writing, next_token_logits

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13], [4], [14, 15, 16, 17, 18]]


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 32, 33])
def test_logits_of_few_rows(make, rows) -> None:
    decoder = make(scale=10)
    hidden = torch.randn(rows, 32)
    with torch.no_grad():
        found = next_token_logits(decoder, hidden)
        torch.testing.assert_close(found, decoder.logits(hidden), atol=1e-4, rtol=1e-5)


def test_the_same_text_in_either_layout(make) -> None:
    decoder = make(scale=10)
    for options in ({}, {"temperature": 1.0, "seed": 3}):
        expected = generate(decoder, PROMPTS, max_new_tokens=20, **options)
        with laid_out_for_writing(decoder):
            assert not decoder.blocks[0].feed_forward.expand.weight.is_contiguous()
            assert generate(decoder, PROMPTS, max_new_tokens=20, **options) == expected


def test_the_weights_come_back_as_they_were(make) -> None:
    """After an error too, and inside itself; a decoder can be trained afterwards."""
    decoder = make()
    before = {name: p.data_ptr() for name, p in decoder.named_parameters()}
    values = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}

    def broken() -> None:
        with torch.inference_mode(), laid_out_for_writing(decoder), laid_out_for_writing(decoder):
            state = decoder.state_dict()
            assert all(torch.equal(state[name], values[name]) for name in values)
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        broken()
    assert {name: p.data_ptr() for name, p in decoder.named_parameters()} == before
    assert all(p.is_contiguous() for p in decoder.parameters())
    with laid_out_for_writing(decoder):
        decoder(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(torch.equal(decoder.state_dict()[name], values[name]) for name in values)


@pytest.mark.parametrize("trunk", ["transformer", "lstm"])
def test_bfloat16_writes_what_autocast_writes_from_rounded_embeddings(make, trunk) -> None:
    decoder = make(scale=10, trunk=trunk)
    rounded = copy.deepcopy(decoder)
    with torch.no_grad():
        embedding = rounded.token_embedding.weight
        embedding.copy_(embedding.bfloat16().float())
    before = {name: p.data_ptr() for name, p in decoder.named_parameters()}
    with torch.autocast("cpu", torch.bfloat16):
        expected = generate(rounded, PROMPTS, max_new_tokens=20)
    with laid_out_for_writing(decoder, "bf16"):
        assert decoder.token_embedding.weight.dtype == torch.bfloat16
        assert generate(decoder, PROMPTS, max_new_tokens=20) == expected
    assert generate(decoder, PROMPTS, max_new_tokens=20) != expected
    assert {name: p.data_ptr() for name, p in decoder.named_parameters()} == before
    assert all(p.dtype == torch.float32 for p in decoder.parameters())
    assert not torch.is_autocast_enabled("cpu")
