"""Tokens a second of a training step of the program's own decoder, against peers as they come.

    python benchmarks/training_step.py
    python benchmarks/training_step.py decoder=gpt2 precision=32 sides=transformers,plain pairs=3 threads=2

A step is forward, backward, AdamW and ``loss.item()``; no clipping, no dropout. The sides:

- *mtl*: the zero-shot strategy's losses and our AdamW, with freed memory kept, as ``mtl.fit`` trains;
  *mtl_returning_memory*: without that; *mtl_quarter_labels*: with labels at a quarter of the positions, at random;
- *transformers*: ``GPT2LMHeadModel`` with ``labels=`` and the fused AdamW of its Trainer;
  *transformers_one_kernel_gelu*: the same with ``activation_function="gelu_pytorch_tanh"``: one kernel, same values;
- *plain*: a plain PyTorch GPT-2 in the way of nanoGPT (``_plain_gpt.py``), written for this and not fetched;
- *litgpt*: where it is installed. It has no GPT-2 form (head untied, rotary positions), and its pins contradict ours: so
  it is installed without them: ``pip install --no-deps litgpt==0.5.13 lightning jsonargparse docstring-parser
  typeshed-client``.

All but litgpt start from one GPT-2 folder and read the same tokens. Ours and transformers reach the same losses, which
is checked here for every step, and in ``tests/unit/test_training_step.py`` for the weights too. Each side has a process
of its own, for how memory is kept is a matter of the whole process; they stay alive and take turns, block by block, and
a round gives one pair of each with *mtl*. Two clocks: processor time, and wall time, which neighbours disturb far more.

``precision=32`` and ``bf16`` put all sides under the same; ``auto`` puts ours under what ``trainer.precision=auto``
picks here, and the peers under float32, their default on a CPU. Where that is float32 too, it is left out.

Share of peak: tokens/s times (6 N + 12 L D T), over the speed of a product of 2048 x 2048 matrices in the same
precision and rounds; N are the weights of the blocks and one vocabulary matrix, T counts full attention. Labels at a
quarter do less than that, so they have none. Peak memory is the highest resident size of the side's process; in
brackets what it was before the side was built, interpreter and libraries alone.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml
from _measuring import ROOT, machine, write
from _options import read_options
from _options import run as run_benchmark
from _training_sides import SIDES, Setting, load_peak
from _turns import Turn, over, sides, spread, take_turns

from mtl.config.errors import unknown_name
from mtl.config.schema import DecoderConfig
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import save_pretrained


@dataclass(frozen=True)
class Size:
    """A decoder and a batch."""

    decoder: DecoderConfig
    rows: int
    vocabulary: int
    steps: int
    """Of a block: together they should take about a second or more."""

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.rows * self.decoder.context

    def flops_per_token(self) -> float:
        """Forward and backward: 6 N + 12 L D T."""
        shape = self.decoder
        blocks = 12 * shape.layers * shape.width**2
        attention = 12 * shape.layers * shape.width * shape.context
        return 6 * (blocks + self.vocabulary * shape.width) + attention


CONTEXTS = {"micro": (32, 8, 100, 2), "tiny": (64, 32, 512, 20), "small": (256, 16, 8192, 2)}
"""Context, rows, vocabulary, steps of a block."""
GPT2 = (256, 4, 50304, 1)
PEERS = {"transformers": "transformers", "litgpt": "litgpt"}
"""Package that the sides whose name begins so need."""
CLOCKS = ("processor", "wall")
PRODUCTS = 3
"""Of big matrices, in a turn of the peak."""
OTHER_WORK = ("mtl_quarter_labels", "plain", "litgpt")
"""Sides whose losses are none of those of the others."""
TOLERANCES = {"32": 1e-4, "bf16": 0.02, "auto": 0.02}
"""By how much losses may differ, relative: by the order of sums; by the digits of bf16."""
DEFAULTS = {
    "decoder": "small,gpt2",
    "precision": "32,bf16,auto",
    "sides": ",".join(name for name in SIDES if name != "mtl"),
    "pairs": "5",
    "steps": "",
    "threads": "1",
    "out": "",
}


def size(name: str) -> Size:
    """The size of that name.

    :raises UserError: there is none.
    """
    if name not in (*CONTEXTS, "gpt2"):
        raise unknown_name("size", name, [*CONTEXTS, "gpt2"], where=f"command line: decoder={name}")
    context, rows, vocabulary, steps = CONTEXTS.get(name, GPT2)
    shape = yaml.safe_load((ROOT / f"configs/decoder/{name}.yaml").read_text(encoding="utf-8"))
    return Size(replace(DecoderConfig(**shape), context=context), rows, vocabulary, steps)


def present(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of these sides, those that can run here, and those whose package is missing.

    :raises UserError: a side that there is not.
    """
    for name in names:
        if name not in SIDES:
            raise unknown_name("side", name, SIDES, where="command line: sides=")
    needed = {name: PEERS.get(name.partition("_")[0]) for name in names}
    missing = [
        name
        for name, package in needed.items()
        if package and not importlib.util.find_spec(package)
    ]
    return [name for name in names if name not in missing], missing


def summarise(
    turns: Mapping[str, Sequence[Turn]], peak: Sequence[Turn] | None, size: Size, steps: int
) -> dict[str, dict[str, Any]]:
    """What the rounds say of each side; ``mtl`` is among them. No share of a peak where there is none."""
    found: dict[str, dict[str, Any]] = {}
    tokens = size.tokens * steps
    for name, mine in turns.items():
        found[name] = {
            "peak_bytes": mine[-1].peak_bytes,
            "imported_bytes": mine[-1].imported_bytes,
            "losses": [loss for turn in mine for loss in turn.results],
        }
        for clock in CLOCKS:
            seconds = [getattr(turn.seconds, clock) for turn in mine]
            share = None
            if peak is not None and name != "mtl_quarter_labels":
                possible = [sum(best.results) / getattr(best.seconds, clock) for best in peak]
                flops = size.flops_per_token() * tokens
                share = spread([flops / s / p for s, p in zip(seconds, possible, strict=True)])
            found[name][clock] = {
                "tokens_per_second": tokens / statistics.median(seconds),
                "mtl_over_it": over(turns["mtl"], mine, clock),
                "share_of_peak": share,
            }
    return found


def measure(
    size: Size, precision: str, names: Sequence[str], options: Mapping[str, str]
) -> dict[str, Any]:
    """All sides under one precision; under ``auto`` ours in bf16, the others in float32."""
    steps = int(options["steps"] or size.steps)
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder:
        # In a process of its own, whose memory is no one's peak afterwards.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_weights, args=(size, folder)
        )
        writer.start()
        writer.join()
        made = {}
        for name in ["mtl", *names]:
            bf16 = precision == "bf16" or (precision == "auto" and name.startswith("mtl"))
            setting = Setting(folder, size.rows, size.decoder.context, bf16)
            made[name] = (SIDES[name], setting)
        if precision != "auto":
            made["peak"] = (load_peak, made["mtl"][1])
        pieces = dict.fromkeys(made, steps) | {"peak": PRODUCTS}
        with sides(made, int(options["threads"])) as started:
            turns = take_turns(started, pieces, int(options["pairs"]))
    peak = turns.pop("peak", None)
    found = summarise(turns, peak, size, steps)
    return {
        "decoder": size.decoder.name,
        "precision": precision,
        "tokens_per_step": size.tokens,
        "flops_per_token": size.flops_per_token(),
        "steps_per_block": steps,
        "peak_gigaflops": peak and {clock: speed(peak, clock) for clock in CLOCKS},
        "losses_differ_by": losses_differ_by(found),
        "sides": found,
    }


def write_weights(size: Size, folder: str) -> None:
    """The GPT-2 folder that all sides start from."""
    save_pretrained(Decoder(size.decoder, size.vocabulary), folder)


def speed(peak: Sequence[Turn], clock: str) -> dict[str, float]:
    """Gigaflops of each round's products."""
    return spread([sum(t.results) / getattr(t.seconds, clock) / 1e9 for t in peak])


def losses_differ_by(found: Mapping[str, Mapping[str, Any]]) -> float:
    """The most that a loss of a side that does the same work is away from ours, over ours."""
    losses = found["mtl"]["losses"]
    return max(
        (
            abs(theirs - ours) / ours
            for name, side in found.items()
            if name not in OTHER_WORK
            for ours, theirs in zip(losses, side["losses"], strict=True)
        ),
        default=0.0,
    )


def lines(case: Mapping[str, Any]) -> list[str]:
    """The lines of a case in the table."""
    written = []
    for name, side in case["sides"].items():
        cells = [case["decoder"], case["precision"], name]
        for clock in CLOCKS:
            found = side[clock]
            cells += [f"{found['tokens_per_second']:.0f}", shown(found["mtl_over_it"], "{:.2f}")]
        share = side["processor"]["share_of_peak"]
        cells.append("" if share is None else f"{share['median']:.0%}")
        cells.append(f"{side['peak_bytes'] / 1e6:.0f} ({side['imported_bytes'] / 1e6:.0f})")
        written.append("| " + " | ".join(cells) + " |")
    return written


def shown(values: Mapping[str, float], form: str) -> str:
    """Median (lowest to highest)."""
    low, median, high = (form.format(values[key]) for key in ("low", "median", "high"))
    return f"{median} ({low} to {high})"


def bf16_pays() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    sizes = [size(name) for name in options["decoder"].split(",")]
    names, missing = present([name for name in options["sides"].split(",") if name])
    about = machine(int(options["threads"]), "torch")
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/training_step.py", *words]),
        "options": options,
        "machine": about,
        "cases": [],
    }
    print(f"{options['threads']} thread(s), load {about['load_before']:.1f}")
    for name in missing:
        print(f"{name} is left out: not installed")
    precisions = options["precision"].split(",")
    if "auto" in precisions and not bf16_pays():
        print("auto is float32 on this processor, and left out")
        precisions.remove("auto")
    print(
        "| decoder | precision | side | tokens/s, processor | mtl over it | tokens/s, wall "
        "| mtl over it | share of peak, processor | peak MB (of imports) |"
    )
    print("|" + "---|" * 9)
    for one in sizes:
        for precision in precisions:
            case = measure(one, precision, names, options)
            result["cases"].append(case)
            print("\n".join(lines(case)), flush=True)
            if not case["losses_differ_by"] <= TOLERANCES[precision]:
                print(f"  the losses differ by {case['losses_differ_by']:.1e}")
    write(result, "training-step", options["out"])
    return result


if __name__ == "__main__":
    run_benchmark(main)
