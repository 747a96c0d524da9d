"""Another layout of the same numbers: the same results up to rounding, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch

from mtl.decoder import layout as layouts
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.decoder.layout import laid_out_for_writing

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13], [4], [14, 15, 16, 17, 18]]


@pytest.fixture(params=["packed", "turned"])
def layout(request, monkeypatch) -> str:
    """Each of what a float32 decoder may be laid out in, whatever is faster on this processor."""
    packs = request.param == "packed"
    if packs and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("needs oneDNN")
    monkeypatch.setattr(layouts, "_packing_is_faster", lambda *_: packs)
    return request.param


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 32, 33])
def test_logits_of_few_rows(make, layout, rows) -> None:
    decoder = make(scale=10)
    hidden = torch.randn(rows, 32)
    with torch.no_grad():
        expected = decoder.logits(hidden)
        with laid_out_for_writing(decoder):
            torch.testing.assert_close(decoder.logits(hidden), expected, atol=1e-4, rtol=1e-5)


def test_the_same_text_in_every_layout(make, layout) -> None:
    decoder = make(scale=10)
    for options in ({}, {"temperature": 1.0, "seed": 3}):
        expected = generate(decoder, PROMPTS, max_new_tokens=20, **options)
        with laid_out_for_writing(decoder):
            layer = decoder.blocks[0].feed_forward.expand
            assert (
                layer.weight.is_contiguous() == ("forward" in vars(layer)) == (layout == "packed")
            )
            assert generate(decoder, PROMPTS, max_new_tokens=20, **options) == expected


def test_the_weights_come_back_as_they_were(make, layout) -> None:
    """After an error too, and inside itself; a decoder can be trained afterwards."""
    decoder = make()
    before = {name: p.data_ptr() for name, p in decoder.named_parameters()}
    values = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}

    def broken() -> None:
        with torch.inference_mode(), laid_out_for_writing(decoder):
            with laid_out_for_writing(decoder):
                state = decoder.state_dict()
                assert all(torch.equal(state[name], values[name]) for name in values)
            assert "logits" in vars(decoder)
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        broken()
    assert {name: p.data_ptr() for name, p in decoder.named_parameters()} == before
    assert all(p.is_contiguous() for p in decoder.parameters())
    assert not any({"forward", "logits"} & set(vars(module)) for module in decoder.modules())
    decoder.logits(decoder(torch.tensor([[1, 2, 3]]))).sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
    assert all(torch.equal(decoder.state_dict()[name], values[name]) for name in values)


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("trunk", ["transformer", "lstm"])
def test_bfloat16_is_autocast_from_rounded_embeddings(make, monkeypatch, trunk, packs) -> None:
    monkeypatch.setattr(layouts, "_packing_is_faster", lambda *_: packs)
    decoder = make(scale=10, trunk=trunk, units=24)
    rounded = copy.deepcopy(decoder)
    with torch.no_grad():
        embedding = rounded.token_embedding.weight
        embedding.copy_(embedding.bfloat16().float())
    before = {name: p.data_ptr() for name, p in decoder.named_parameters()}
    tokens = torch.randint(50, (4, 30), generator=torch.Generator().manual_seed(1))

    def read(model: Decoder) -> torch.Tensor:
        with torch.inference_mode():
            return model.logits(model(tokens, cache=model.new_cache(4, 30)))

    exact = read(decoder)
    with torch.autocast("cpu", torch.bfloat16):
        expected = read(rounded)
    with laid_out_for_writing(decoder, "bf16"):
        found = read(decoder)
    assert found.dtype == torch.bfloat16
    scale = exact.abs().mean().item()
    torch.testing.assert_close(found, expected, atol=0.02 * scale, rtol=0.02)
    assert (found - exact).abs().mean() > 1e-4 * scale
    assert torch.equal(read(decoder), exact)
    assert {name: p.data_ptr() for name, p in decoder.named_parameters()} == before
    assert all(p.dtype == torch.float32 for p in decoder.parameters())
    assert not torch.is_autocast_enabled("cpu")
