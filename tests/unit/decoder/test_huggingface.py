from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder.building import new_decoder
from mtl.decoder.huggingface import load_pretrained, pretrained_config, save_pretrained


@pytest.fixture
def folder(make, tmp_path: Path) -> Path:
    save_pretrained(make(), tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "DELETE"}))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(name: str | Path) -> str:
    with pytest.raises(UserError) as raised:
        load_pretrained(pretrained_config(str(name)))
    return str(raised.value).replace(str(name), "FOLDER")


def test_the_folder_holds_weights_and_config_and_no_head(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    assert weights["transformer.h.0.attn.c_attn.weight"].shape == (32, 96)  # (in, out)


def test_names_without_prefix_and_stored_masks_are_understood(make, folder: Path) -> None:
    """As the published gpt2 repository stores them."""

    def age(weights: dict[str, torch.Tensor]) -> None:
        for key in list(weights):
            weights[key.removeprefix("transformer.")] = weights.pop(key)
        for layer in range(2):
            weights[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 48, 48).tril()
            weights[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        weights["lm_head.weight"] = weights["wte.weight"].clone()

    edit_weights(folder, age)
    edit_config(folder, activation_function="DELETE", layer_norm_epsilon="DELETE")
    decoder, vocabulary_size = load_pretrained(pretrained_config(str(folder)))
    assert vocabulary_size == 50
    expected = make().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in decoder.state_dict().items())


def test_half_precision_weights_become_float32(make, folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({k: w.half() for k, w in weights.items()}))
    decoder, _ = load_pretrained(pretrained_config(str(folder)))
    expected = make().state_dict()
    for name, tensor in decoder.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name].half().float())


def test_loaded_weights_outlive_their_file(folder: Path) -> None:
    decoder, _ = load_pretrained(pretrained_config(str(folder)))
    before = decoder(torch.arange(9)[None])
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(b"\0" * size)
    assert torch.equal(decoder(torch.arange(9)[None]), before)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 3},
        {"width": 64, "heads": 2, "context": 20},
        {"norm": "post"},
        {"trunk": "lstm"},
    ],
)
def test_a_decoder_of_another_shape_is_refused(make, folder: Path, changes) -> None:
    here = replace(make().config, name="mine", pretrained=str(folder), **changes)
    there = pretrained_config(str(folder))
    with pytest.raises(UserError) as raised:
        load_pretrained(here)
    differing = {name: getattr(there, name) for name in changes}
    assert str(raised.value) == "\n  ".join(
        [
            f"the pretrained decoder has another shape than decoder=mine ({folder})",
            *(
                f"decoder.{name}={differing[name]} there, {changes[name]} here"
                for name in ("trunk", "layers", "width", "heads", "context", "norm")
                if name in changes
            ),
            "give it its own shape: "
            + " ".join(f"decoder.{name}={value}" for name, value in differing.items()),
        ]
    )
    load_pretrained(replace(here, **differing))  # what the message says is right


def test_an_lstm_is_not_written_as_a_hugging_face_folder(tmp_path: Path) -> None:
    config = DecoderConfig(name="mine", layers=1, width=8, heads=1, context=9, trunk="lstm")
    with pytest.raises(UserError) as raised:
        save_pretrained(new_decoder(config, 20), tmp_path / "model")
    assert str(raised.value) == (
        "transformers has no causal language model with the trunk 'lstm' (decoder mine)\n"
        "  only decoders with decoder.trunk=transformer can be written as a Hugging Face folder"
    )
    assert not (tmp_path / "model").exists()


def test_special_tokens_can_be_added_after_loading(make, folder: Path) -> None:
    decoder, _ = load_pretrained(pretrained_config(str(folder)))
    decoder.resize_vocabulary(53, seed=0)
    expected = make(53, base_vocabulary=50).token_embedding.weight
    assert torch.equal(decoder.token_embedding.weight, expected)


def test_loading_and_saving_import_no_modelling_code(folder: Path, root: Path) -> None:
    program = (
        "import sys; from mtl.decoder.huggingface import load_pretrained, pretrained_config, save_pretrained;"
        f"decoder, _ = load_pretrained(pretrained_config({str(folder)!r})); save_pretrained(decoder, 'again');"
        "print([name for name in ('transformers', 'hydra', 'pydantic', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(root), "PATH": ""},
    )
    assert done.stdout.strip() == "[]"


def test_a_hub_name_fetches_config_tokenizer_and_safetensors_only(
    make, folder: Path, monkeypatch
) -> None:
    asked = {}

    def download(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    config = make().config
    decoder, _ = load_pretrained(replace(config, pretrained="someone/gpt"))
    assert decoder.config == replace(config, pretrained="someone/gpt")
    assert asked == {
        "someone/gpt": [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
            "merges.txt",
            "model.safetensors",
            "model-*.safetensors",
            "model.safetensors.index.json",
        ]
    }


def test_pickled_weights_are_refused_and_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert refusal(folder) == (
        "the weights are there as a pickle only (pytorch_model.bin), which can run code when it is read (FOLDER)\n"
        "  only model.safetensors is read; convert it where you trust it: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def test_another_architecture_is_refused(folder: Path) -> None:
    edit_config(folder, model_type="llama")
    assert refusal(folder) == (
        "decoder architecture 'llama' is not supported (FOLDER, config.json)\n  supported: gpt2, openai-gpt"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"activation_function": "relu"},
            "activation_function=relu is not supported (FOLDER, config.json)\n"
            "  supported: gelu_new or gelu_pytorch_tanh",
        ),
        (
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx=True is not supported (FOLDER, config.json)\n"
            "  supported: False",
        ),
        (
            {"layer_norm_epsilon": 1e-6},
            "layer_norm_epsilon=1e-06 is not supported (FOLDER, config.json)\n  supported: 1e-05",
        ),
        (
            {"n_inner": 100},
            "n_inner=100 is not supported (FOLDER, config.json)\n  supported: None or 128",
        ),
        (
            {"tie_word_embeddings": False},
            "tie_word_embeddings=False is not supported (FOLDER, config.json)\n  supported: True",
        ),
        ({"n_head": "DELETE"}, "config.json has no key 'n_head' (FOLDER)"),
        ({"n_head": 5}, "n_head must divide n_embd, got 5 and 32 (FOLDER, config.json)"),
        (
            {"n_layer": "two"},
            "n_layer must be a whole number above 0, got two (FOLDER, config.json)",
        ),
        (
            {"vocab_size": 0},
            "vocab_size must be a whole number above 0, got 0 (FOLDER, config.json)",
        ),
        (
            {"n_layer": 1},
            "the file has unexpected weights: h.1.attn.c_attn.bias, h.1.attn.c_attn.weight, "
            "h.1.attn.c_proj.bias and 9 more (FOLDER)",
        ),
        (
            {"n_layer": 3},
            "the file lacks weights: h.2.attn.c_attn.bias, h.2.attn.c_attn.weight, "
            "h.2.attn.c_proj.bias and 9 more (FOLDER)",
        ),
        (
            {"vocab_size": 51},
            "wte.weight must have the shape that config.json says, [51, 32], got [50, 32] (FOLDER)",
        ),
    ],
)
def test_a_config_that_says_something_else_is_refused(folder: Path, changes, message) -> None:
    edit_config(folder, **changes)
    assert refusal(folder) == message


def test_a_projection_of_another_shape_is_refused_in_the_files_own_orientation(
    folder: Path,
) -> None:
    key = "transformer.h.0.mlp.c_fc.weight"
    edit_weights(folder, lambda weights: weights.update({key: torch.zeros(32, 100)}))
    assert refusal(folder) == (
        "h.0.mlp.c_fc.weight must have the shape that config.json says, [32, 128], got [32, 100] (FOLDER)"
    )


def test_a_head_of_its_own_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"lm_head.weight": torch.ones(50, 32)}))
    assert refusal(folder) == (
        "lm_head.weight differs from the token embedding it should be tied to (FOLDER)"
    )


def test_broken_and_missing_files_are_named(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:100])
    assert refusal(folder).startswith("model.safetensors cannot be read: ")
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == "model.safetensors is missing (FOLDER)"
    index = {"weight_map": {"transformer.wte.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refusal(folder) == (
        "model-00001-of-00002.safetensors is missing, but model.safetensors.index.json names it (FOLDER)"
    )
    (folder / "model.safetensors.index.json").write_text("{}")
    assert refusal(folder) == "model.safetensors.index.json has no weight_map (FOLDER)"
    (folder / "config.json").write_text("{")
    assert refusal(folder).startswith("config.json is not JSON: ")
    (folder / "config.json").write_text("[]")
    assert refusal(folder) == "config.json must hold a JSON object (FOLDER)"
    (folder / "config.json").unlink()
    assert refusal(folder) == "config.json is missing (FOLDER)"


@pytest.mark.parametrize("name", ["/no/such/folder", "./model", "~/model", "a/b/c"])
def test_a_folder_that_does_not_exist_is_not_asked_of_the_hub(name: str, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    assert refusal(name) == "no such folder: FOLDER (decoder.pretrained)"


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no such name"])
def test_a_name_the_hub_does_not_give_is_said(name: str) -> None:
    lines = refusal(name).splitlines()
    assert (
        lines[0]
        == "neither a folder nor a repository that the hub gave: FOLDER (decoder.pretrained)"
    )
    assert lines[1].startswith("  the hub said: ")
    assert len(lines) == 2
