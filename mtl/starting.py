"""Where the weights of a run begin: drawn anew, a Hugging Face folder, or a finished run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtl.assembly import Loaded, make_vocabulary, read_checkpoint, written
from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig, FitConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.building import keep_layers, new_decoder
from mtl.decoder.gpt import Decoder
from mtl.learning.strategy import Strategy
from mtl.record.folder import RunFolder
from mtl.record.summary import read_summary

SHAPE = ("trunk", "layers", "units", "width", "heads", "context", "norm")
"""What two decoders must have in common for one to start from the other."""


@dataclass(frozen=True)
class Start:
    """The weights a run begins with.

    Every model of the run is given a decoder of its own by :meth:`decoder_for`, equal to the last bit in all that the
    models have in common.
    """

    base: Vocabulary
    """The vocabulary before a strategy adds tokens."""
    decoder: Decoder
    """With one embedding for each token of ``base``."""
    seed: int
    tokens: int = 0
    """Tokens the decoder was trained on before this run."""
    layers: int | None = None
    """Blocks that are kept, see ``pretrain.layers``; None keeps all."""
    added: Mapping[str, Tensor] = field(default_factory=dict)
    """(D,) embeddings of tokens that an earlier run's strategy added, by token."""
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights an earlier run had beside its decoder, by their name in the strategy."""

    def decoder_for(self, vocabulary: Vocabulary) -> Decoder:
        """A decoder with these weights, and new embeddings for what the vocabulary has beyond ``base``."""
        decoder = copy.deepcopy(self.decoder)
        decoder.resize_vocabulary(vocabulary.size, self.seed)
        with torch.no_grad():
            for token, embedding in self.added.items():
                if token in vocabulary.added:
                    decoder.token_embedding.weight[vocabulary.special(token)] = embedding
        if self.layers is not None:
            keep_layers(decoder, self.layers, self.seed)
        return decoder

    def build(self, strategy: Strategy, tasks: Any, vocabulary: Vocabulary) -> None:
        """Build a strategy around a decoder of its own; heads of the same name and shape are taken over."""
        strategy.build(self.decoder_for(vocabulary), tasks, vocabulary, seed=self.seed)
        own = strategy.state_dict()
        known = {
            name: weight
            for name, weight in self.beside.items()
            if name in own and own[name].shape == weight.shape
        }
        strategy.load_state_dict(known, strict=False)


def base_decoder(config: DecoderConfig, base: Vocabulary, seed: int) -> Decoder:
    """A decoder with an embedding for each token of ``base``: drawn, or from a pretrained folder of that vocabulary.

    :raises UserError: A pretrained decoder of another vocabulary or shape.
    """
    if config.pretrained is None:
        return new_decoder(config, base.size, seed=seed)
    return pretrained_decoder(config, base, seed)[0]


def pretrained_decoder(
    config: DecoderConfig, base: Vocabulary, seed: int
) -> tuple[Decoder, dict[str, Tensor]]:
    """The decoder of a pretrained folder with an embedding for each token of ``base``, and the (D,) embeddings of the
    tokens that the strategy of an exported run had added.

    A decoder that knows the text's tokens alone gets new embeddings for the special tokens it lacks.

    :raises UserError: A decoder of another vocabulary or shape.
    """
    from mtl.decoder.huggingface import load_pretrained, local_folder

    name = str(config.pretrained)
    where = f"decoder.pretrained={name}"
    with written(where, name):
        decoder, size = load_pretrained(config)
        folder = local_folder(name)
        there = Vocabulary.load(folder) if Vocabulary.is_in(folder) else None
    known = {} if there is None else there.added
    right = (
        f"give the tokenizer it was trained with: tokenizer=folder tokenizer.folder="
        f"{'DIR' if there is None else folder}"
    )
    if size not in (base.base_size, base.size, base.size + len(known)):
        raise UserError(
            f"the pretrained decoder knows {size} tokens, the tokenizer {base.base_size}"
            f" ({base.size} with special tokens)",
            where=where,
            hints=[right],
        )
    if there is not None and not there.reads_like(base):
        raise UserError(
            f"the tokenizer is not the one of the pretrained decoder, though both know {base.base_size} tokens",
            where=where,
            hints=[right],
        )
    rows = decoder.token_embedding.weight.detach()
    added = {token: rows[i].clone() for token, i in known.items() if i < size}
    if size > base.size:
        decoder.token_embedding = nn.Embedding.from_pretrained(
            rows[: base.size].clone(), freeze=False
        )
    else:
        decoder.resize_vocabulary(base.size, seed)
    return decoder, added


def starting_point(config: FitConfig, loaded: Loaded, *, pretrains: bool = False) -> Start:
    """The starting point a config names.

    :param pretrains: Whether a language-model stage follows.

    :raises UserError: Two starting points, a run that is not finished or has no single decoder, another shape, or
        ``pretrain.layers`` without anything to keep.
    """
    given = {
        "init_from": config.init_from,
        "decoder.pretrained": config.decoder.pretrained,
        "pretrain.tokens": config.pretrain.tokens or None,
    }
    named = [f"{key}={value}" for key, value in given.items() if value is not None]
    if len(named) > 1:
        raise UserError("a run has one starting point", where=" ".join(named))
    if config.pretrain.layers is not None and not (named or pretrains):
        raise UserError(
            "the decoder is drawn anew, so there are no layers to keep",
            where=f"pretrain.layers={config.pretrain.layers}",
            hints=["give it something to start from: pretrain.tokens=N, init_from=RUN_DIR"],
        )
    if config.init_from is not None:
        return _of_run(config, config.init_from)
    base = make_vocabulary(config, loaded)
    added: dict[str, Tensor] = {}
    if config.decoder.pretrained is None:
        decoder = base_decoder(config.decoder, base, config.seed)
    else:
        decoder, added = pretrained_decoder(config.decoder, base, config.seed)
    return Start(base, decoder, config.seed, layers=config.pretrain.layers, added=added)


def _of_run(config: FitConfig, path: str) -> Start:
    where = f"init_from={path}"
    folder = RunFolder.open(path, where=where)
    with written(where, path):
        ledger = read_summary(folder)["ledger"]
    best = config.evaluation.checkpoint == "best" and folder.best_checkpoint.is_file()
    saved = read_checkpoint(folder.best_checkpoint if best else folder.last_checkpoint)
    weights = {
        key.removeprefix("strategy."): value
        for key, value in saved["state_dict"].items()
        if key.startswith("strategy.")
    }
    own = {
        key.removeprefix("decoder."): value
        for key, value in weights.items()
        if key.startswith("decoder.")
    }
    if not own:
        raise UserError(
            "that run has a decoder for each task, so there is no one decoder to start from",
            where=where,
            hints=["name a run in which all tasks share a decoder"],
        )
    _check_shape(DecoderConfig(**saved["decoder"]), config.decoder, where)
    vocabulary = Vocabulary.load(folder.path / "tokenizer")
    decoder = base_decoder(config.decoder, vocabulary.base, config.seed)
    rows = own.pop("token_embedding.weight")
    decoder.load_state_dict(
        {**own, "token_embedding.weight": rows[: decoder.vocabulary_size].clone()}
    )
    return Start(
        vocabulary.base,
        decoder,
        config.seed,
        tokens=ledger["tokens"] + ledger["pretraining_tokens"],
        layers=config.pretrain.layers,
        added={token: rows[i].clone() for token, i in vocabulary.added.items()},
        beside={key: value for key, value in weights.items() if not key.startswith("decoder.")},
    )


def _check_shape(there: DecoderConfig, here: DecoderConfig, where: str) -> None:
    differing = [name for name in SHAPE if getattr(there, name) != getattr(here, name)]
    if differing:
        raise UserError(
            f"the decoder of that run has another shape than decoder={here.name}",
            where=where,
            hints=[
                f"decoder.{name}={getattr(there, name)} there, {getattr(here, name)} here"
                for name in differing
            ],
        )
