"""What our decoding writes, against transformers' ``generate`` on the same random GPT-2 folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import load_pretrained, pretrained_config, save_pretrained
from mtl.decoder.layout import laid_out_for_writing
from mtl.decoder.sampling import probabilities

transformers = pytest.importorskip("transformers")

BENCHMARK = Path(__file__).parents[2] / "benchmarks/generation.py"
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13], [4, 4], [14, 15, 16, 17, 18]]


@pytest.fixture(scope="module", params=["pre", "post"])
def both(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Decoder, Any]:
    """Our decoder and theirs, read from one folder; large random weights, so that no two tokens are nearly equal."""
    shape = {"layers": 3, "width": 32, "heads": 4, "context": 64}
    decoder = Decoder(DecoderConfig(name="random", norm=request.param, **shape), 300, seed=1)
    for name, parameter in decoder.named_parameters():
        if "norm" not in name:
            parameter.data *= 8
    folder = tmp_path_factory.mktemp("random")
    save_pretrained(decoder, folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    return load_pretrained(pretrained_config(str(folder)))[0], model


def theirs(model: Any, prompt: list[int], **options: Any) -> list[int]:
    """Their greedy continuation of one prompt alone, up to the end token where one is given."""
    tokens = torch.tensor([prompt])
    written = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        pad_token_id=0,
        **options,
    )[0, len(prompt) :].tolist()
    end = options.get("eos_token_id")
    return written[: written.index(end)] if end in written else written


def test_greedy_rows_of_unequal_length_equal_theirs_alone(both: tuple[Decoder, Any]) -> None:
    decoder, model = both
    expected = [theirs(model, prompt, max_new_tokens=30) for prompt in PROMPTS]
    assert len({tuple(tokens) for tokens in expected}) == len(PROMPTS)
    assert generate(decoder, PROMPTS, max_new_tokens=30) == expected
    with laid_out_for_writing(decoder):
        assert generate(decoder, PROMPTS, max_new_tokens=30) == expected


def test_an_end_token_ends_where_theirs_does(both: tuple[Decoder, Any]) -> None:
    decoder, model = both
    end = generate(decoder, PROMPTS[:1], max_new_tokens=9)[0][6]
    expected = [theirs(model, p, max_new_tokens=20, eos_token_id=end) for p in PROMPTS]
    assert len(expected[0]) <= 6
    assert generate(decoder, PROMPTS, max_new_tokens=20, stop={end}) == expected


@pytest.mark.parametrize(
    "setting",
    [{"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 2.0, "top_k": 20, "top_p": 0.6}],
    ids=str,
)  # fmt: skip
def test_what_is_sampled_from_is_what_their_warpers_leave(setting: dict[str, Any]) -> None:
    warpers = {
        "temperature": transformers.TemperatureLogitsWarper,
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
    }
    logits = torch.randn(7, 3000, generator=torch.Generator().manual_seed(3)) * 4
    scores = logits
    for name, value in setting.items():
        scores = warpers[name](value)(None, scores)
    found = probabilities(logits, **{"temperature": 1.0, **setting})
    torch.testing.assert_close(found, scores.softmax(-1), atol=1e-6, rtol=1e-5)


def test_the_benchmark_compares_the_same_work(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(BENCHMARK.parent)  # as for a script that is run
    spec = importlib.util.spec_from_file_location("generation_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "generation_benchmark", module)
    spec.loader.exec_module(module)
    found = module.summarise([2.0, 4.0, 1.0], [3.0, 4.0, 2.0], 12)
    assert found["mtl_tokens_per_second"] == 6.0
    assert found["transformers_tokens_per_second"] == 4.0
    assert found["ratio"] == {"low": 1.0, "median": 1.5, "high": 2.0}
    words = ["decoder=micro", "batch=4", "prompt=5", "new=6", "pairs=1"]
    result = module.main([*words, "precision=32,bf16", f"out={tmp_path / 'out.json'}"])
    cases = {case["precision"]: case for case in result["cases"]}
    assert cases["32"]["same_tokens"]
    assert {"transformers, float32", "transformers, bfloat16"} < set(cases["bf16"])
    assert module.precisions("micro", "auto") == ["32"]
    with pytest.raises(UserError, match="did you mean: batch"):
        module.main(["bach=3"])
