"""New decoders of every trunk, and decoders of which only the first blocks are kept."""

from __future__ import annotations

import torch

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder.gpt import Decoder
from mtl.decoder.lstm import LstmDecoder

TRUNKS: dict[str, type[Decoder]] = {"transformer": Decoder, "lstm": LstmDecoder}
"""Class of a decoder by ``decoder.trunk``."""


def new_decoder(
    config: DecoderConfig,
    vocabulary_size: int,
    *,
    base_vocabulary: int | None = None,
    seed: int = 0,
) -> Decoder:
    """A decoder with new weights; see :class:`mtl.decoder.gpt.Decoder`."""
    return TRUNKS[config.trunk](config, vocabulary_size, base_vocabulary=base_vocabulary, seed=seed)


@torch.no_grad()
def keep_layers(decoder: Decoder, layers: int, seed: int) -> None:
    """Keep the embeddings and the first ``layers`` blocks; draw the rest as a new decoder with this seed does.

    The rest includes what follows the last block (final layer norm, projection), unless every block is kept. "Improving
    Language Understanding by Generative Pre-Training", section 5: 0 transfers the embeddings alone.

    :raises UserError: where the decoder has fewer blocks.
    """
    if layers > len(decoder.blocks):
        raise UserError(
            f"only {len(decoder.blocks)} layers are there to keep, got {layers}",
            where=f"decoder {decoder.config.name}",
        )
    if layers == len(decoder.blocks):
        return
    new = new_decoder(decoder.config, 1, seed=seed)
    for name, parameter in decoder.named_parameters():
        scope, number, *_ = name.split(".")
        kept = scope == "blocks" and int(number) < layers
        if not (kept or scope.endswith("_embedding")):
            parameter.copy_(new.get_parameter(name))
