"""The benchmark of a training step reckons rightly, and its sides do the same work; how fast is not tested."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mtl.config.errors import UserError
from mtl.decoder.huggingface import save_pretrained

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "training_step.py"
# What stands beside torch, lightning, numpy, tokenizers and safetensors; the benchmark needs none of it.
ABSENT = ("pyarrow", "datasets", "hydra", "omegaconf", "pydantic", "mlflow", "optuna", "sacrebleu")


@pytest.fixture(scope="module")
def step() -> Iterator[ModuleType]:
    """The script, which imports its private modules as one that is run."""
    spec = importlib.util.spec_from_file_location("training_step", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "training_step", module)
        patch.syspath_prepend(BENCHMARKS)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def sides(step: ModuleType) -> ModuleType:
    return sys.modules["_training_sides"]


@pytest.fixture(scope="module")
def setting(step: ModuleType, sides: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny decoder's weights, in float32."""
    tiny, folder = step.size("tiny"), tmp_path_factory.mktemp("weights")
    step.write_weights(tiny, str(folder))
    return sides.Setting(str(folder), tiny.rows, tiny.decoder.context, bf16=False)


def test_ours_and_the_peers_take_the_same_steps(
    sides: ModuleType, setting: Any, tmp_path: Path
) -> None:
    """Losses and updated weights of five float32 steps: more than there are batches."""
    pytest.importorskip("transformers")
    ours = sides.ours(setting)
    one_kernel = {"activation_function": "gelu_pytorch_tanh"}
    peers = {
        "plain": sides.plain(setting, gelu="tanh"),
        "transformers": sides.hugging_face(setting),
        "one kernel": sides.hugging_face(setting, **one_kernel),
    }
    losses = [ours.step() for _ in range(5)]
    assert losses[4] < losses[0] - 0.1  # the first batch again
    save_pretrained(ours.model.decoder, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for name, peer in peers.items():
        assert [peer.step() for _ in range(5)] == pytest.approx(losses, rel=1e-5), name
        for key, theirs in peer.model.named_parameters():
            key = key.removeprefix("transformer.")
            expected = weights[f"transformer.{key}"]
            if name == "plain" and ".c_" in key and key.endswith("weight"):
                expected = expected.t()
            found = theirs.detach()
            if key.endswith("c_attn.bias"):
                # A bias on all keys changes no attention: its gradient is rounding, which Adam makes steps of.
                found, expected = (torch.stack(each.chunk(3))[[0, 2]] for each in (found, expected))
            torch.testing.assert_close(
                found, expected, atol=2e-5, rtol=1e-4, msg=lambda text, at=key: f"{at}: {text}"
            )


def test_labels_at_a_quarter_equal_a_masked_loss(sides: ModuleType, setting: Any) -> None:
    """All logits, all losses, and a quarter of them counted: the same loss and gradients."""
    quarter = sides.ours(setting, share=0.25)
    decoder = sides.ours(setting).model.decoder
    (tokens, *_) = sides.token_rows(setting, decoder.vocabulary_size)
    labelled = torch.from_numpy(sides.labelled_tokens(setting, 0.25))
    assert labelled.sum() == round(0.25 * setting.rows * (setting.tokens - 1))
    assert not labelled[:, 0].any()
    assert 1 <= labelled.sum(1).min() < labelled.sum(1).max()  # spread unevenly over the rows

    log_probabilities = decoder.logits(decoder(tokens)).log_softmax(-1)
    own = log_probabilities[:, :-1].gather(2, tokens[:, 1:, None]).squeeze(2)
    slow = -(own * labelled[:, 1:]).sum() / labelled.sum()
    slow.backward()

    strategy = quarter.model
    batch = sides._batch(tokens, labelled.numpy())
    fast = (strategy.losses(batch) * batch.weight).sum()
    fast.backward()
    assert fast.item() == pytest.approx(slow.item(), rel=1e-6)
    for (name, ours), (_, theirs) in zip(
        strategy.decoder.named_parameters(), decoder.named_parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)
    assert quarter.step() == pytest.approx(slow.item(), rel=1e-6)


def test_operations_of_a_token(step: ModuleType) -> None:
    """Of the reference: 34.6 million for small, 769.7 million for gpt2."""
    assert step.size("small").flops_per_token() == pytest.approx(34.6e6, rel=1e-3)
    assert step.size("gpt2").flops_per_token() == pytest.approx(769.7e6, rel=1e-3)


def turn(step: ModuleType, seconds: float, *results: float) -> Any:
    turns = sys.modules["_turns"]
    return turns.Turn(turns.Clocks(10 * seconds, seconds), results, 2000, 500)


def test_summary_of_planted_turns(step: ModuleType) -> None:
    """Three rounds of two steps; ours take 1, 2 and 4 s, theirs 2, 3 and 4 s."""
    micro = step.size("micro")
    turns = {
        "mtl": [turn(step, s, 5.0, 4.0) for s in (1.0, 2.0, 4.0)],
        "transformers": [turn(step, s, 5.0, 4.4) for s in (2.0, 3.0, 4.0)],
        "mtl_quarter_labels": [turn(step, s, 9.0, 9.0) for s in (1.0, 1.0, 1.0)],
    }
    operations = micro.flops_per_token() * micro.tokens * 2
    peak = [turn(step, 2.0, operations, operations)] * 3  # as much a second as the step in 1 s
    found = step.summarise(turns, peak, micro, steps=2)
    ours, theirs = found["mtl"]["processor"], found["transformers"]["processor"]
    assert ours["tokens_per_second"] == micro.tokens * 2 / 2.0
    assert theirs["mtl_over_it"] == {"low": 1.0, "median": 1.5, "high": 2.0}
    assert ours["share_of_peak"] == pytest.approx({"low": 0.25, "median": 0.5, "high": 1.0})
    assert found["mtl"]["wall"]["tokens_per_second"] == micro.tokens * 2 / 20.0
    assert found["mtl_quarter_labels"]["processor"]["share_of_peak"] is None
    assert step.losses_differ_by(found) == pytest.approx(0.1)


def test_every_side_begins_a_round(step: ModuleType) -> None:
    """The first round warms up; then the order moves on by one."""
    done: list[str] = []

    class Told:
        def __init__(self, name: str):
            self.name = name

        def turn(self, pieces: int) -> Any:
            done.append(self.name * pieces)
            return turn(step, 1.0)

    started = {name: Told(name) for name in "abc"}
    found = sys.modules["_turns"].take_turns(started, {"a": 1, "b": 2, "c": 1}, 3)
    assert done == ["a", "bb", "c", "bb", "c", "a", "c", "a", "bb", "a", "bb", "c"]
    assert {name: len(turns) for name, turns in found.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_side_that_fails_says_why(step: ModuleType, setting: Any) -> None:
    side = sys.modules["_turns"].Side(step.SIDES["plain"], "no setting", 1)
    with pytest.raises(RuntimeError, match="AttributeError: 'str' object has no attribute"):
        side.turn(1)
    side.end()


def test_unknown_names(step: ModuleType) -> None:
    with pytest.raises(UserError, match="unknown side 'transformer'"):
        step.present(["transformer"])
    with pytest.raises(UserError, match="unknown size 'smal'"):
        step.size("smal")


def test_runs_with_little_installed(tmp_path: Path) -> None:
    """None of the libraries is touched, in none of the processes."""
    for name in (*ABSENT, "transformers", "litgpt"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} should not be imported')")
    words = ["decoder=micro", "precision=32", "pairs=1", "sides="]
    process = subprocess.run(
        [sys.executable, str(SCRIPT), *words, f"out={tmp_path / 'out.json'}"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert process.returncode == 0, process.stderr
    (case,) = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert list(case["sides"]) == ["mtl"]
    assert case["losses_differ_by"] == 0.0
    for side in case["sides"].values():
        assert 0 < side["imported_bytes"] < side["peak_bytes"]
        assert 0 < side["processor"]["share_of_peak"]["median"] < 1
