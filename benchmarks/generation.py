"""Tokens per second of greedy decoding: ``mtl`` against ``transformers`` on the same random GPT-2 folder.

    python benchmarks/generation.py
    python benchmarks/generation.py decoder=small batch=1 prompt=16 new=256 pairs=9 threads=2

- *mtl*: ``mtl.decoder.generation.generate`` inside ``laid_out_for_writing``, as ``mtl.generate`` calls it; the copy of
  the matrices that the latter makes is in the time.
- *transformers*: ``AutoModelForCausalLM.from_pretrained(FOLDER).generate`` as it comes, with its growing cache.

``precision=32`` puts both in float32, in which they must write the same tokens, which is checked. ``bf16`` puts ours in
bfloat16 (``mtl.generate precision=bf16``), beside transformers as it comes and beside its model in bfloat16; from
rounded numbers each writes its own text. It is left out by default where ``auto`` would not take it.

All read the same prompts in one process and take turns; a round is one call of each, and the first one warms up and is
left out. Reading the prompts is in the time. Two clocks: wall time, and processor time of the process, which neighbours
on a shared machine disturb far less.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
import transformers
import yaml
from _options import read_options
from _options import run as run_benchmark

from mtl.config.errors import unknown_name
from mtl.config.schema import DecoderConfig
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import load_pretrained, pretrained_config, save_pretrained
from mtl.decoder.layout import laid_out_for_writing
from mtl.learning.precision import fastest

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = {"gpt2": 50257}
"""Tokens, where they are not the 8192 of a vocabulary trained here."""
PEERS = {
    "32": {"transformers": torch.float32},
    "bf16": {"transformers, float32": torch.float32, "transformers, bfloat16": torch.bfloat16},
}
"""What each precision of ours is put beside."""
CLOCKS = ("processor", "wall")
DEFAULTS = {
    "decoder": "small,gpt2",
    "precision": "auto",
    "batch": "8",
    "prompt": "64",
    "new": "64",
    "pairs": "5",
    "threads": "1",
    "out": "",
}

Clocks = dict[str, float]


def precisions(decoder: str, said: str) -> list[str]:
    """What was said; ``auto``: float32, and bfloat16 where ``mtl.generate precision=auto`` takes it.

    :raises UserError: a precision that there is not.
    """
    if said != "auto":
        for one in said.split(","):
            if one not in PEERS:
                raise unknown_name(
                    "precision", one, [*PEERS, "auto"], where=f"command line: precision={said}"
                )
        return said.split(",")
    shape = yaml.safe_load((ROOT / f"configs/decoder/{decoder}.yaml").read_text(encoding="utf-8"))
    return list(dict.fromkeys(["32", fastest(torch.device("cpu"), shape["width"])]))


def timed(work: Callable[[], list[list[int]]]) -> tuple[Clocks, list[list[int]]]:
    """Seconds of a call on both clocks, and its tokens."""
    wall, processor = time.perf_counter(), time.process_time()
    tokens = work()
    return {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
    }, tokens


def summarise(ours: Sequence[float], theirs: Sequence[float], tokens: int) -> dict[str, Any]:
    """Medians over the pairs; ``ratio`` is tokens/s of ours over tokens/s of theirs, pair by pair."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "mtl_tokens_per_second": tokens / statistics.median(ours),
        "transformers_tokens_per_second": tokens / statistics.median(theirs),
        "ratio": {"low": min(ratios), "median": statistics.median(ratios), "high": max(ratios)},
    }


def measure(name: str, precision: str, options: dict[str, str]) -> dict[str, Any]:
    """One decoder shape in one precision."""
    shape = yaml.safe_load((ROOT / f"configs/decoder/{name}.yaml").read_text(encoding="utf-8"))
    size = VOCABULARY.get(name, 8192)
    batch, length, new = (int(options[key]) for key in ("batch", "prompt", "new"))
    peers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mtl-benchmark-") as folder:
        save_pretrained(Decoder(DecoderConfig(**shape), size), folder)
        decoder, _ = load_pretrained(pretrained_config(folder))
        for peer, dtype in PEERS[precision].items():
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            peers[peer] = model.eval()
    prompts = torch.randint(size, (batch, length), generator=torch.Generator().manual_seed(0))

    def ours() -> list[list[int]]:
        with laid_out_for_writing(decoder, cast("Literal['32', 'bf16']", precision)):
            return generate(decoder, prompts.tolist(), max_new_tokens=new)

    def theirs(model: Any) -> list[list[int]]:
        found = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
        written: list[list[int]] = found[:, length:].tolist()
        return written

    rounds = []
    same = True
    for _ in range(int(options["pairs"]) + 1):
        mine, tokens = timed(ours)
        seconds = {"mtl": mine}
        for peer, model in peers.items():
            seconds[peer], expected = timed(partial(theirs, model))
            same = same and tokens == expected
        rounds.append(seconds)
    return {
        "decoder": name,
        "precision": precision,
        "batch": batch,
        "prompt_tokens": length,
        "new_tokens": new,
        "same_tokens": same,
        **{
            peer: {
                clock: summarise(
                    [seconds["mtl"][clock] for seconds in rounds[1:]],
                    [seconds[peer][clock] for seconds in rounds[1:]],
                    batch * new,
                )
                for clock in CLOCKS
            }
            for peer in peers
        },
    }


def line(case: dict[str, Any], peer: str, clock: str) -> str:
    """One line of the table."""
    found, ratio = case[peer][clock], case[peer][clock]["ratio"]
    return (
        f"| {case['decoder']} | {case['precision']} | {peer} | {clock} "
        f"| {found['transformers_tokens_per_second']:.0f} | {found['mtl_tokens_per_second']:.0f} "
        f"| {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) |"
    )


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table and write it down."""
    options = read_options(words, DEFAULTS)
    torch.set_num_threads(int(options["threads"]))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/generation.py", *words]),
        "options": options,
        "machine": {
            "processors": os.cpu_count(),
            "threads": int(options["threads"]),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "cases": [],
    }
    print(f"{options['threads']} thread(s), load {result['machine']['load_before']:.1f}")
    print(
        "| decoder | precision | beside | clock | its tokens/s | mtl tokens/s "
        "| ratio: median (lowest to highest pair) |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in options["decoder"].split(","):
        for precision in precisions(name, options["precision"]):
            case = measure(name, precision, options)
            result["cases"].append(case)
            for peer in PEERS[precision]:
                for clock in CLOCKS:
                    print(line(case, peer, clock), flush=True)
            if precision == "32" and not case["same_tokens"]:
                print("  the two wrote different tokens")
    now = datetime.now()
    path = Path(options["out"] or ROOT / f"benchmarks/results/{now:%Y-%m-%d}-generation.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")
    return result


if __name__ == "__main__":
    run_benchmark(main)
