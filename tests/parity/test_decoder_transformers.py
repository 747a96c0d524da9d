"""Our decoder against transformers' GPT-2 and OpenAI GPT, weights carried over through folders, both ways."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl.config.schema import DecoderConfig
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import load_pretrained, pretrained_config, save_pretrained

transformers = pytest.importorskip("transformers")


def random_shape(seed: int) -> dict[str, int]:
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 3, 4])
    return {
        "n_layer": draw.randint(1, 4),
        "n_head": heads,
        "n_embd": heads * draw.choice([4, 8, 16]),
        "n_positions": draw.randint(8, 40),
        "vocab_size": draw.randint(10, 90),
    }


def reference(kind: str, seed: int, **changes: Any) -> Any:
    """A transformers model whose weights, biases and norms are all drawn at random and large."""
    classes = {
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
        "openai-gpt": (transformers.OpenAIGPTConfig, transformers.OpenAIGPTLMHeadModel),
    }
    config, model = classes[kind]
    built = model(config(**random_shape(seed), bos_token_id=None, eos_token_id=None, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            centre = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    return built.eval()


def tokens_of(model: Any, seed: int) -> torch.Tensor:
    shape = (3, model.config.n_positions)
    return torch.randint(
        model.config.vocab_size, shape, generator=torch.Generator().manual_seed(seed)
    )


KINDS = pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])


@KINDS
@pytest.mark.parametrize("seed", range(4))
def test_logits_equal_the_reference_it_was_loaded_from(
    kind: str, seed: int, tmp_path: Path
) -> None:
    model = reference(kind, seed)
    model.save_pretrained(tmp_path)
    decoder, vocabulary_size = load_pretrained(pretrained_config(str(tmp_path)))
    tokens = tokens_of(model, seed)

    assert vocabulary_size == model.config.vocab_size == decoder.vocabulary_size
    with torch.no_grad():
        ours, theirs = decoder.logits(decoder(tokens)), model(tokens).logits
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@KINDS
def test_gradients_equal_the_reference(kind: str, tmp_path: Path) -> None:
    model = reference(kind, 7)
    model.save_pretrained(tmp_path)
    decoder, _ = load_pretrained(pretrained_config(str(tmp_path)))
    tokens = tokens_of(model, 7)
    model(tokens, labels=tokens).loss.backward()
    logits = decoder.logits(decoder(tokens))[:, :-1].flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
    theirs = model.get_input_embeddings().weight.grad
    torch.testing.assert_close(decoder.token_embedding.weight.grad, theirs, atol=1e-5, rtol=0)
    projection = model.transformer.h[0].attn.c_attn.weight.grad.T
    ours = decoder.blocks[0].attention.query_key_value.weight.grad
    torch.testing.assert_close(ours, projection, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("seed", range(4))
def test_transformers_loads_what_was_saved(norm: str, seed: int, tmp_path: Path) -> None:
    shape = random_shape(seed)
    config = DecoderConfig(
        name="random",
        layers=shape["n_layer"],
        width=shape["n_embd"],
        heads=shape["n_head"],
        context=shape["n_positions"],
        norm=norm,
        dropout=0.1,
    )
    decoder = Decoder(config, shape["vocab_size"], seed=seed).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    save_pretrained(decoder, tmp_path)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    tokens = tokens_of(model, seed)

    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = "GPT2LMHeadModel" if norm == "pre" else "OpenAIGPTLMHeadModel"
    assert type(model).__name__ == expected
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [expected]
    assert model.config.resid_pdrop == model.config.embd_pdrop == model.config.attn_pdrop == 0.1
    with torch.no_grad():
        ours, theirs = decoder.logits(decoder(tokens)), model.eval()(tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_saving_and_loading_changes_no_bit(norm: str, tmp_path: Path) -> None:
    config = DecoderConfig(name="a", layers=2, width=12, heads=3, context=9, norm=norm)
    decoder = Decoder(config, 20, seed=3)
    save_pretrained(decoder, tmp_path / "new" / "folder")
    folder = str(tmp_path / "new" / "folder")
    again, _ = load_pretrained(replace(config, dropout=0.3, pretrained=folder))

    assert again.config == replace(config, dropout=0.3, pretrained=folder)
    assert pretrained_config(folder) == replace(config, name="folder", pretrained=folder)
    state = again.state_dict()
    assert state.keys() == decoder.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in decoder.state_dict().items())
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_greedy_generation_equals_the_reference(tmp_path: Path) -> None:
    model = reference("gpt2", 5)
    model.save_pretrained(tmp_path)
    decoder, _ = load_pretrained(pretrained_config(str(tmp_path)))
    tokens = tokens_of(model, 5)[:, :4]
    theirs = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=4,
        do_sample=False,
        pad_token_id=0,
    )
    assert generate(decoder, tokens.tolist(), max_new_tokens=4) == theirs[:, 4:].tolist()


@KINDS
def test_sharded_weights_are_loaded(kind: str, tmp_path: Path) -> None:
    model = reference(kind, 1)
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    decoder, _ = load_pretrained(pretrained_config(str(tmp_path)))
    tokens = tokens_of(model, 1)
    with torch.no_grad():
        ours, theirs = decoder.logits(decoder(tokens)), model(tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
