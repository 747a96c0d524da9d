"""What one GPU does: share of its peak, against peers, the trainer over a bare loop, tokens written a second.

    python benchmarks/gpu.py
    python benchmarks/gpu.py device=cpu decoder=tiny steps=2 pairs=1     # seconds: that it runs, no measurement

Needs torch, pytorch-lightning, torchmetrics, numpy and tokenizers, and transformers for its rows; nothing is fetched.

- *training*: forward, backward, AdamW and ``loss.item()`` on the same rows of random tokens, from the same weights, in
  bf16 (autocast). *mtl* is the zero-shot strategy's losses, *mtl compiled* the same under ``trainer.compile=always``,
  *mtl recorded* with CUDA graphs for its blocks, too; *transformers* is ``GPT2LMHeadModel`` with ``labels=``, *plain*
  the plain GPT-2 of ``_plain_gpt.py``, both as they are and compiled whole. All take turns in one process; a pair is a
  block of each. Their first losses must agree.
- *share of peak* (MFU): tokens/s times (6 N + 12 L D T), over what the data sheet promises for dense bf16; of a device
  that is not in the table here, over a product of matrices measured beside it.
- *packed*: steps of several tasks in ever new shapes and in few, compiled and recorded (``_packed_sides.py``): for the
  decoder asked for and for *tiny*, which a GPU waits in.
- *trainer*: ``whole_loop.py`` for running text on this device.
- *writing*: greedy decoding as in ``generation.py``, weights in bf16, prompts included: as it comes, and with a step
  that is recorded and replayed (a CUDA graph), which decoding does by itself on a GPU.

On a CPU the same is done in float32 at the size asked for, and nothing of it is a measurement.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import _packed_sides
import torch
import whole_loop
import yaml
from _material import Material
from _measuring import ROOT, machine, write
from _options import read_options
from _options import run as run_benchmark
from _training_sides import Setting, Training, hugging_face, ours, plain
from _turns import spread
from torch import nn

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder import generation
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import load_pretrained, pretrained_config, save_pretrained
from mtl.learning import compilation
from mtl.learning.strategy import Strategy

PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "L4": 121e12,
}
"""Dense bf16 floating-point operations a second that data sheets promise, by a part of the device's name; the first
that fits counts."""
VOCABULARY = {"gpt2": 50304}
"""Tokens, where they are not 512."""
PRODUCT = {"cuda": 8192, "cpu": 512}
"""Rows and columns of the matrices whose product is measured."""
NO_MEASUREMENT = "on a CPU: this shows that the script runs, and is no measurement of anything"
SIDES = (
    "mtl",
    "mtl compiled",
    "mtl recorded",
    "transformers",
    "transformers compiled",
    "plain",
    "plain compiled",
)
DEFAULTS = {
    "device": "cuda",
    "decoder": "gpt2",
    "context": "1024",
    "rows": "16",
    "steps": "20",
    "pairs": "5",
    "texts": "2000",
    "prompt": "64",
    "new": "64",
    "strategy": "hard_sharing",
    "parts": "training,packed,trainer,writing",
    "out": "",
}


@dataclass(frozen=True)
class Device:
    """Where everything runs."""

    kind: str
    """``cuda`` or ``cpu``."""

    @property
    def name(self) -> str:
        """As its maker calls it."""
        return torch.cuda.get_device_name() if self.kind == "cuda" else "CPU"

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall time until all that ``work`` has asked of the device is done."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self.kind == "cuda":
            torch.cuda.synchronize()


def peak(device: Device) -> tuple[float, str]:
    """Floating-point operations a second of the device, and where the number is from."""
    if (promised := promised_peak(device.name)) is not None:
        return promised, "data sheet"
    size = PRODUCT[device.kind]
    dtype = torch.bfloat16 if device.kind == "cuda" else torch.float32
    first, second = (torch.randn(size, size, device=device.kind, dtype=dtype) for _ in range(2))
    best = min(device.seconds(lambda: torch.mm(first, second)) for _ in range(10))
    return 2 * size**3 / best, f"measured product of {size} x {size} matrices"


def promised_peak(name: str) -> float | None:
    """What the data sheet says of a device of that name; None where it is not in the table."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def flops_per_token(shape: DecoderConfig, vocabulary: int) -> float:
    """Forward and backward: 6 N + 12 L D T, with N the weights of the blocks and one vocabulary matrix."""
    blocks = 12 * shape.layers * shape.width**2
    return 6 * (blocks + vocabulary * shape.width) + 12 * shape.layers * shape.width * shape.context


def training(
    shape: DecoderConfig, vocabulary: int, device: Device, options: Mapping[str, str], folder: str
) -> dict[str, Any]:
    """Seconds of blocks of each side, in turns."""
    rows, steps, pairs = (int(options[key]) for key in ("rows", "steps", "pairs"))
    setting = Setting(folder, rows, shape.context, device.kind == "cuda", device.kind)
    seconds: dict[str, list[float]] = {}
    first_losses, first_calls = {}, {}
    with ExitStack() as stack:
        made = {name: stack.enter_context(side(name, setting)) for name in present()}
        for name, one in made.items():
            start = time.perf_counter()
            first_losses[name] = one.step()
            first_calls[name] = time.perf_counter() - start
            seconds[name] = []
        for turn in range(pairs + 1):
            for name, one in made.items():
                spent = device.seconds(lambda: [one.step() for _ in range(steps)])  # noqa: B023
                if turn:  # the first warms up
                    seconds[name].append(spent)
    found = summarise(seconds, rows * shape.context * steps, flops_per_token(shape, vocabulary))
    operations, origin = peak(device)
    for name, one in found.items():
        one["share_of_peak"] = one.pop("flops") / operations
        one["first_call_seconds"] = first_calls[name]
    expected = first_losses["mtl"]
    return {
        "sides": found,
        "peak_flops": operations,
        "peak_from": origin,
        "first_losses_differ_by": max(abs(loss / expected - 1) for loss in first_losses.values()),
    }


def summarise(
    seconds: Mapping[str, Sequence[float]], tokens: int, flops: float
) -> dict[str, dict[str, Any]]:
    """What blocks of the sides say; those whose name begins with ``mtl`` are ours.

    :param seconds: Of each side, the seconds of its blocks.
    :param tokens: Of a block.
    :param flops: Floating-point operations of a token.
    """
    ours = [own for name, own in seconds.items() if name.startswith("mtl")]
    fastest = [min(turn) for turn in zip(*ours, strict=True)]
    return {
        name: {
            "tokens_per_second": tokens / statistics.median(own),
            "flops": flops * tokens / statistics.median(own),
            "mtl_over_it": spread([b / a for a, b in zip(fastest, own, strict=True)]),
        }
        for name, own in seconds.items()
    }


def present() -> list[str]:
    """Sides that can run here."""
    there = importlib.util.find_spec("transformers") is not None
    return [name for name in SIDES if there or not name.startswith("transformers")]


@contextmanager
def side(name: str, setting: Setting) -> Iterator[Training]:
    """A side, built, and compiled while it is used if that is its name."""
    which, _, how = name.partition(" ")
    built = {"mtl": ours, "transformers": hugging_face, "plain": plain}[which](setting)
    if not how:
        yield built
    elif isinstance(built.model, Strategy):
        decision = compilation.Decision(True, "", fixed=True, recorded=how == "recorded")

        def step() -> float:
            compilation.before_pass(decision)
            return built.step()

        with compilation.compiled(built.model, decision):
            yield Training(built.model, step)
    else:
        built.model.compile(backend=compilation.BACKEND)
        yield built


def trainer(shape: DecoderConfig, device: Device, options: Mapping[str, str]) -> dict[str, Any]:
    """The whole loop over a bare one, for running text."""
    material = Material.load(["microworld_summarisation"], int(options["texts"]))
    words = {
        "strategy": "zero_shot",
        "device": device.kind,
        "precision": "bf16" if device.kind == "cuda" else "32",
        "tokens": str(int(options["rows"]) * shape.context),
        "steps": options["steps"],
        "pairs": options["pairs"],
    }
    case = whole_loop.measure(
        material, options["decoder"], "zero_shot", {**whole_loop.DEFAULTS, **words}
    )
    wall = case["wall"]
    return {
        "tokens_per_step": case["tokens_per_step"],
        "bare_ms": wall["bare_ms"],
        "loop_ms": wall["loop_ms"],
        "bare_over_loop": wall["ratio"],
    }


def writing(device: Device, options: Mapping[str, str], folder: str) -> dict[str, Any]:
    """Greedy decoding of 8 prompts, in turns."""
    from transformers import GPT2LMHeadModel

    prompt, new, batch = int(options["prompt"]), int(options["new"]), 8
    dtype = torch.bfloat16 if device.kind == "cuda" else torch.float32
    decoder, size = load_pretrained(pretrained_config(folder))
    model: Any = GPT2LMHeadModel.from_pretrained(folder).eval()
    moved: list[nn.Module] = [decoder, model]
    for module in moved:
        module.to(device.kind, dtype)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(size, (batch, prompt), generator=generator)
    asked = prompts.to(device.kind)
    written: dict[str, Any] = {}

    def ours(name: str, replays: bool) -> Callable[[], None]:
        def work() -> None:
            with mock.patch.object(generation, "can_replay", return_value=replays):
                written[name] = generation.generate(decoder, prompts.tolist(), max_new_tokens=new)

        return work

    def theirs() -> None:
        found = model.generate(
            asked,
            attention_mask=torch.ones_like(asked),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
        written["transformers"] = found[:, prompt:].tolist()

    sides = {
        "mtl": ours("mtl", False),
        "mtl replayed": ours("mtl replayed", True),
        "transformers": theirs,
    }
    turns = [
        {name: device.seconds(work) for name, work in sides.items()}
        for _ in range(int(options["pairs"]) + 1)
    ][1:]
    return {
        name: {
            "tokens_per_second": batch * new / statistics.median(turn[name] for turn in turns),
            "over_transformers": spread([turn["transformers"] / turn[name] for turn in turns]),
            "same_rows": sum(
                a == b for a, b in zip(written[name], written["transformers"], strict=True)
            ),
        }
        for name in sides
    }


def show(result: Mapping[str, Any]) -> None:
    """The tables."""
    if (found := result.get("training")) is not None:
        print(f"peak {found['peak_flops'] / 1e12:.3g} Tflop/s ({found['peak_from']})")
        print("| training | tokens/s | share of peak | first call, s | faster mtl over it |")
        print("|---|---|---|---|---|")
        for name, one in found["sides"].items():
            print(
                f"| {name} | {one['tokens_per_second']:.0f} | {one['share_of_peak']:.1%} "
                f"| {one['first_call_seconds']:.1f} | {shown(one['mtl_over_it'])} |"
            )
        print(f"first losses differ by {found['first_losses_differ_by']:.1e} of their size")
    for decoder, found in result.get("packed", {}).items():
        _packed_sides.show(decoder, found)
    if (found := result.get("trainer")) is not None:
        print("| trainer | tokens/step | bare, ms | loop, ms | loop/bare, tokens/s |")
        print("|---|---|---|---|---|")
        print(
            f"| zero_shot | {found['tokens_per_step']:.0f} | {found['bare_ms']:.2f} "
            f"| {found['loop_ms']:.2f} | {shown(found['bare_over_loop'])} |"
        )
    if (found := result.get("writing")) is not None:
        print(
            "| greedy, batch 8 | tokens/s | over transformers | rows as transformers writes them |"
        )
        print("|---|---|---|---|")
        for name, one in found.items():
            print(
                f"| {name} | {one['tokens_per_second']:.0f} | {shown(one['over_transformers'])} "
                f"| {one['same_rows']} of 8 |"
            )


def shown(values: Mapping[str, float]) -> str:
    """Median (lowest to highest)."""
    return f"{values['median']:.2f} ({values['low']:.2f} to {values['high']:.2f})"


def main(words: Sequence[str]) -> None:
    """Print the tables and write them down."""
    options = read_options(words, DEFAULTS)
    if options["device"] not in PRODUCT:
        raise UserError(
            f"there is no device '{options['device']}'",
            where=f"command line: device={options['device']}",
            hints=["device=cuda", "device=cpu"],
        )
    if options["device"] == "cuda" and not torch.cuda.is_available():
        print("not measured: there is no GPU here")
        print("  that it runs: python benchmarks/gpu.py device=cpu decoder=tiny steps=2 pairs=1")
        return
    device = Device(options["device"])
    path = ROOT / f"configs/decoder/{options['decoder']}.yaml"
    shape = DecoderConfig(**yaml.safe_load(path.read_text(encoding="utf-8")))
    shape = replace(shape, context=min(shape.context, int(options["context"])))
    vocabulary = VOCABULARY.get(options["decoder"], 512)
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/gpu.py", *words]),
        "options": options,
        "device": device.name,
        "measurement": device.kind == "cuda",
        "machine": machine(torch.get_num_threads(), "torch"),
    }
    if device.kind == "cpu":
        compilation.BACKEND = "eager"  # compiles nothing, for what takes minutes shows nothing here
    print(device.name if device.kind == "cuda" else NO_MEASUREMENT)
    parts = options["parts"].split(",")
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder:
        save_pretrained(Decoder(shape, vocabulary), folder)
        if "training" in parts:
            result["training"] = training(shape, vocabulary, device, options, folder)
        if "packed" in parts:
            decoders = dict.fromkeys([options["decoder"], "tiny"])
            result["packed"] = {
                name: _packed_sides.measure(name, device.kind, options) for name in decoders
            }
        if "trainer" in parts:
            result["trainer"] = trainer(shape, device, options)
        if "writing" in parts and importlib.util.find_spec("transformers") is not None:
            result["writing"] = writing(device, options, folder)
    show(result)
    if device.kind == "cpu":
        print(NO_MEASUREMENT)
    write(result, "gpu" if device.kind == "cuda" else "gpu-not-measured", options["out"])


if __name__ == "__main__":
    run_benchmark(main)
