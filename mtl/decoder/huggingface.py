"""Decoders from and to Hugging Face folders: GPT-2 (``norm="pre"``) and OpenAI GPT (``norm="post"``).

Only ``config.json`` and safetensors are read and written: no pickle, and none of a repository's code, is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder.gpt import NORM_EPSILON, Decoder

# What must stand in config.json for our decoder to compute the same; a missing key has the first value.
_REQUIRED: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "openai-gpt": {"afn": ("gelu",)},
}
_TOP_NAMES = {
    "gpt2": {
        "token_embedding": "wte",
        "position_embedding": "wpe",
        "final_norm": "ln_f",
    },
    "openai-gpt": {
        "token_embedding": "tokens_embed",
        "position_embedding": "positions_embed",
    },
}
_BLOCK_NAMES = {
    "attention_norm": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.output": "mlp.c_proj",
}
# What must stand in the run's config as in config.json.
_SHAPE = ("trunk", "layers", "width", "heads", "context", "norm")
# Constants that old files carry beside the weights.
_BUFFERS = (".attn.bias", ".attn.masked_bias", "position_ids")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
_WEIGHT_FILES = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")


def pretrained_config(name_or_folder: str) -> DecoderConfig:
    """The shape of the decoder in a local folder or a repository on the hub, to train without dropout.

    :raises UserError: as :func:`load_pretrained`.
    """
    return _describe(local_folder(name_or_folder), name_or_folder)[0]


def load_pretrained(config: DecoderConfig) -> tuple[Decoder, int]:
    """A decoder with the weights of a local folder or of a repository on the hub, in float32.

    :param config: Shape of the decoder, which must be the one of ``config.pretrained``: a folder with ``config.json``
        and ``model.safetensors`` (or its shards), else a hub name. The dropout in ``config.json`` is not used.
    :returns: The decoder and its vocabulary size V.
    :raises UserError: where it cannot be found or read, is of another architecture or shape, or has pickled weights
        only.
    """
    name = config.pretrained
    if name is None:
        raise ValueError("`config` should name what to load in its field `pretrained`.")
    folder = local_folder(name)
    there, kind, vocabulary_size = _describe(folder, name)
    _check_shape(there, config, name)
    with torch.device("meta"):
        decoder = Decoder(config, vocabulary_size)
    weights = _read_weights(folder, name)
    decoder.load_state_dict(_rename(weights, decoder, kind, name), assign=True)
    return decoder, vocabulary_size


@dataclass(frozen=True)
class Writing:
    """How text is begun, ended and continued with an exported decoder."""

    beginning: int
    """Token that sequences begin with."""
    end: int
    """Token that ends a text, and pads."""
    unspoken: tuple[int, ...] = ()
    """Tokens that no text contains, and that are never written."""


def check_exportable(decoder: Decoder) -> None:
    """:raises UserError: transformers has no causal language model that computes what the decoder does."""
    config = decoder.config
    if config.trunk != "transformer":
        raise UserError(
            f"transformers has no causal language model with the trunk '{config.trunk}'",
            where=f"decoder {config.name}",
            hints=[
                "only decoders with decoder.trunk=transformer can be written as a Hugging Face folder"
            ],
        )
    if type(decoder) is not Decoder:
        raise UserError(
            "transformers has no causal language model whose blocks read other decoders",
            where=f"decoder {config.name}",
            hints=["only decoders that compute alone can be written as a Hugging Face folder"],
        )


def save_pretrained(decoder: Decoder, folder: str | Path, writing: Writing | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``, which ``AutoModelForCausalLM.from_pretrained`` loads.

    The head is tied to the token embedding and not stored.

    :param writing: Adds ``generation_config.json``, so that ``generate`` begins and ends texts as we do.
    :raises UserError: as :func:`check_exportable`.
    """
    check_exportable(decoder)
    config = decoder.config
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = "gpt2" if config.norm == "pre" else "openai-gpt"
    ids = {
        # transformers would otherwise fill in GPT-2's own 50256.
        "bos_token_id": writing.beginning if writing else None,
        "eos_token_id": writing.end if writing else None,
        **({"pad_token_id": writing.end} if writing else {}),
    }
    written = {
        "architectures": ["GPT2LMHeadModel" if kind == "gpt2" else "OpenAIGPTLMHeadModel"],
        "model_type": kind,
        "activation_function" if kind == "gpt2" else "afn": "gelu_new"
        if kind == "gpt2"
        else "gelu",
        "vocab_size": decoder.vocabulary_size,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "layer_norm_epsilon": NORM_EPSILON,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": True,
        **ids,
        "dtype": str(decoder.token_embedding.weight.dtype).removeprefix("torch."),
    }
    _write_json(folder / "config.json", written)
    if writing is not None:
        banned = {"suppress_tokens": list(writing.unspoken)} if writing.unspoken else {}
        _write_json(folder / "generation_config.json", {**ids, **banned})
    weights = {}
    for ours, theirs in _names(decoder, kind):
        tensor = decoder.get_parameter(ours).detach()
        oriented = tensor.t() if _is_transposed(theirs) else tensor
        weights[f"transformer.{theirs}"] = oriented.cpu().contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _describe(folder: Path, name: str) -> tuple[DecoderConfig, str, int]:
    """Shape, architecture and vocabulary size V that ``config.json`` tells."""
    found = _read_json(folder / "config.json", name)
    kind = _kind(found, name)
    config = DecoderConfig(
        name=Path(name).name,
        layers=_size(found, "n_layer", name),
        width=_size(found, "n_embd", name),
        heads=_size(found, "n_head", name),
        context=_size(found, "n_positions", name),
        norm="pre" if kind == "gpt2" else "post",
        pretrained=name,
    )
    if config.width % config.heads:
        raise UserError(
            f"n_head must divide n_embd, got {config.heads} and {config.width}",
            where=f"{name}, config.json",
        )
    return config, kind, _size(found, "vocab_size", name)


def _check_shape(there: DecoderConfig, here: DecoderConfig, name: str) -> None:
    differing = [key for key in _SHAPE if getattr(there, key) != getattr(here, key)]
    if differing:
        wanted = " ".join(f"decoder.{key}={getattr(there, key)}" for key in differing)
        raise UserError(
            f"the pretrained decoder has another shape than decoder={here.name}",
            where=name,
            hints=[
                *(
                    f"decoder.{key}={getattr(there, key)} there, {getattr(here, key)} here"
                    for key in differing
                ),
                f"give it its own shape: {wanted}",
            ],
        )


def local_folder(name_or_folder: str) -> Path:
    """The folder itself, or where the hub client keeps its copy of a repository: config, safetensors, tokenizer.

    :raises UserError: neither a folder nor a repository that the hub gave.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name_or_folder.startswith((".", "~")) or len(folder.parts) > 2:
        raise UserError(f"no such folder: {name_or_folder}", where="decoder.pretrained")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        patterns = ["config.json", *_TOKENIZER_FILES, *_WEIGHT_FILES]
        return Path(snapshot_download(name_or_folder, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"neither a folder nor a repository that the hub gave: {name_or_folder}",
            where="decoder.pretrained",
            hints=[f"the hub said: {reason}"],
        ) from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.name} is missing", where=name) from error
    except ValueError as error:
        raise UserError(f"{path.name} is not JSON: {error}", where=name) from error
    if not isinstance(found, dict):
        raise UserError(f"{path.name} must hold a JSON object", where=name)
    return found


def _kind(found: dict[str, Any], name: str) -> str:
    """``gpt2`` or ``openai-gpt``, after checking that our decoder computes what the config describes."""
    kind = found.get("model_type")
    if kind not in _REQUIRED:
        raise UserError(
            f"decoder architecture '{kind}' is not supported",
            where=f"{name}, config.json",
            hints=[f"supported: {', '.join(_REQUIRED)}"],
        )
    required = {
        **_REQUIRED[kind],
        "tie_word_embeddings": (True,),
        "layer_norm_epsilon": (NORM_EPSILON,),
    }
    if isinstance(found.get("n_embd"), int):
        required["n_inner"] = (None, 4 * found["n_embd"])
    for key, values in required.items():
        value = found.get(key, values[0])
        if value not in values:
            raise UserError(
                f"{key}={value} is not supported",
                where=f"{name}, config.json",
                hints=[f"supported: {' or '.join(map(str, values))}"],
            )
    return str(kind)


def _size(found: dict[str, Any], key: str, name: str) -> int:
    if key not in found:
        raise UserError(f"config.json has no key '{key}'", where=name)
    if not isinstance(found[key], int) or found[key] < 1:
        raise UserError(
            f"{key} must be a whole number above 0, got {found[key]}", where=f"{name}, config.json"
        )
    return int(found[key])


def _read_weights(folder: Path, name: str) -> dict[str, Tensor]:
    index = folder / "model.safetensors.index.json"
    files: list[str] = []
    if index.is_file():
        placed = _read_json(index, name).get("weight_map")
        if not isinstance(placed, dict):
            raise UserError(f"{index.name} has no weight_map", where=name)
        files = sorted(set(placed.values()))
    if not files and not (folder / "model.safetensors").is_file():
        if list(folder.glob("pytorch_model*.bin")):
            raise UserError(
                "the weights are there as a pickle only (pytorch_model.bin), which can run code when it is read",
                where=name,
                hints=[
                    "only model.safetensors is read; convert it where you trust it: "
                    "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                ],
            )
        raise UserError("model.safetensors is missing", where=name)
    weights: dict[str, Tensor] = {}
    for file in files or ["model.safetensors"]:
        try:
            with safe_open(folder / file, framework="pt") as stored:
                names = list(stored.keys())
                # Copied: what safetensors returns may still be mapped to the file.
                weights |= {
                    key: stored.get_tensor(key).to(torch.float32, copy=True) for key in names
                }
        except FileNotFoundError as error:
            raise UserError(f"{file} is missing, but {index.name} names it", where=name) from error
        except SafetensorError as error:
            raise UserError(f"{file} cannot be read: {error}", where=name) from error
    return weights


def _names(decoder: Decoder, kind: str) -> Iterator[tuple[str, str]]:
    """Our name and theirs (without ``transformer.``) of each parameter."""
    for ours, _ in decoder.named_parameters():
        module, leaf = ours.rsplit(".", 1)
        if module.startswith("blocks."):
            _, layer, rest = module.split(".", 2)
            yield ours, f"h.{layer}.{_BLOCK_NAMES[rest]}.{leaf}"
        else:
            yield ours, f"{_TOP_NAMES[kind][module]}.{leaf}"


def _is_transposed(theirs: str) -> bool:
    """Their Conv1D keeps (in, out) where nn.Linear keeps (out, in)."""
    return theirs.endswith(".weight") and ".c_" in theirs


def _rename(
    weights: dict[str, Tensor], decoder: Decoder, kind: str, name: str
) -> dict[str, Tensor]:
    """The weights under our names; every one must be there, in its shape, and nothing else."""
    weights = {
        key.removeprefix("transformer."): tensor
        for key, tensor in weights.items()
        if not key.endswith(_BUFFERS)
    }
    names = dict(_names(decoder, kind))
    head = weights.pop("lm_head.weight", None)
    unexpected = sorted(weights.keys() - names.values())
    missing = sorted(names.values() - weights.keys())
    for problem, keys in (("lacks", missing), ("has unexpected", unexpected)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(f"the file {problem} weights: {', '.join(keys[:3])}{more}", where=name)
    renamed = {}
    for ours, theirs in names.items():
        tensor = weights[theirs]
        expected = decoder.get_parameter(ours).shape
        if _is_transposed(theirs):
            expected = expected[::-1]
        if tensor.shape != expected:
            raise UserError(
                f"{theirs} must have the shape that config.json says, {list(expected)}, got {list(tensor.shape)}",
                where=name,
            )
        renamed[ours] = tensor.t().contiguous() if _is_transposed(theirs) else tensor
    if head is not None and not torch.equal(head, renamed["token_embedding.weight"]):
        raise UserError(
            "lm_head.weight differs from the token embedding it should be tied to", where=name
        )
    return renamed
