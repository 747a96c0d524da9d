"""Partial transfer: the first blocks are kept, the rest is what a new decoder has."""

from __future__ import annotations

import copy

import pytest
import torch

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder.building import keep_layers, new_decoder
from mtl.decoder.gpt import Decoder

SHAPES = {
    "pre": {},
    "post": {"norm": "post"},
    "lstm": {"trunk": "lstm", "units": 12},
}
KINDS = pytest.mark.parametrize("kind", SHAPES)


def trained(kind: str) -> Decoder:
    """A decoder of three blocks, every weight moved from where it began."""
    config = DecoderConfig(name="mine", layers=3, width=8, heads=2, context=10, **SHAPES[kind])
    decoder = new_decoder(config, 23, base_vocabulary=20, seed=1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.5
    return decoder


@KINDS
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_the_first_blocks_are_kept_and_the_rest_is_new(kind: str, layers: int) -> None:
    source, decoder = trained(kind), trained(kind)
    new = new_decoder(source.config, 23, base_vocabulary=20, seed=7)
    keep_layers(decoder, layers, seed=7)
    kept = tuple(f"blocks.{layer}." for layer in range(layers))
    for name, parameter in decoder.named_parameters():
        expected = source if name.startswith((*kept, "token_", "position_")) else new
        assert torch.equal(parameter, expected.get_parameter(name)), name
        assert not torch.equal(source.get_parameter(name), new.get_parameter(name)), name


@KINDS
def test_keeping_every_block_keeps_everything(kind: str) -> None:
    source, decoder = trained(kind), trained(kind)
    keep_layers(decoder, 3, seed=7)
    for name, parameter in decoder.named_parameters():
        assert torch.equal(parameter, source.get_parameter(name)), name


@KINDS
def test_a_drawn_block_computes_and_learns(kind: str) -> None:
    """The weights a pass reads are those that were drawn, and still take a gradient."""
    decoder = trained(kind)
    keep_layers(decoder, 1, seed=7)
    tokens = torch.arange(10)[None]
    assembled = copy.deepcopy(trained(kind))
    assembled.load_state_dict(decoder.state_dict())
    assert torch.equal(decoder(tokens), assembled(tokens))
    decoder(tokens).square().sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_more_layers_than_there_are_is_refused_and_changes_nothing() -> None:
    decoder = trained("pre")
    with pytest.raises(UserError) as raised:
        keep_layers(decoder, 4, seed=7)
    assert str(raised.value) == "only 3 layers are there to keep, got 4 (decoder mine)"
    assert all(
        torch.equal(a, b)
        for a, b in zip(decoder.parameters(), trained("pre").parameters(), strict=True)
    )
