"""What a small language model learns by heart: planted canaries, and text that it copies from training.

    python benchmarks/memorisation.py
    python benchmarks/memorisation.py tokens=4e6 repeats=0,1,10,100 each=10 decoder=small

Random sentences ("The password of Clara is onyx fern maple kelp lotus.") are planted once, twice, four times ... among
documents of the microworld, and ``strategy=zero_shot`` trains on all of it. Of each canary the exposure is measured,
among ``candidates`` sentences of the same form that were planted nowhere; canaries that are planted 0 times are the
control. Then the model continues held-out documents, and the share of its 8-grams that stand in the training text is
compared with that of the true continuations.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from _options import read_options
from _options import run as run_benchmark
from torch.nn import functional as F

from mtl import fit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.opening import LanguageModel, open_language_model
from mtl.scoring.memorisation import (
    Copied,
    copied,
    draw_canaries,
    draw_candidates,
    exposure,
    filled,
    plant,
)
from mtl.tasks.microworld import documents

DEFAULTS = {
    "tokens": "1e6",
    "documents": "3000",
    "repeats": "0,1,2,4,8,16,32",
    "each": "6",
    "length": "5",
    "candidates": "4095",
    "continuations": "100",
    "prompt": "16",
    "top_k": "40",
    "decoder": "tiny",
    "vocabulary": "1024",
    "learning_rate": "0.002",
    "seed": "0",
    "folder": "",
}
TASK = """kind: language_modelling
source: {folder: planted, train: train, report: validation}
target: "{{ text }}"
"""
CORPUS = """name: planted
kind: source
source: {folder: planted, train: train, report: validation}
"""


def train(folder: Path, texts: Sequence[str], held_out: Sequence[str], options: dict[str, str]):
    """A run of plain language modelling on the texts; its summary, and the model as it ended."""
    place = folder / "data" / "planted"
    place.mkdir(parents=True)
    for split, rows in (("train", texts), ("validation", held_out)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in rows)
        (place / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    for group, text in (("task", TASK), ("corpus", CORPUS)):
        (folder / "configs" / group).mkdir(parents=True)
        (folder / "configs" / group / "planted.yaml").write_text(text, encoding="utf-8")
    finished = fit.run(
        [
            "strategy=zero_shot",
            "tasks=[planted]",
            "corpus=planted",
            "trainer=cpu",
            "record.mlflow=false",
            "evaluation.times=1",
            # One row, because a canary that is cut from train to select was not planted.
            "data.selection_rows=1",
            f"data.root={folder / 'data'}",
            f"run_dir={folder / 'run'}",
            f"decoder={options['decoder']}",
            f"tokenizer.vocabulary={options['vocabulary']}",
            f"budget.tokens={options['tokens']}",
            f"optimizer.learning_rate={options['learning_rate']}",
            f"seed={options['seed']}",
        ],
        config_dir=str(folder / "configs"),
    )
    return finished.summary, open_language_model(
        run=str(folder / "run"), hf=None, checkpoint="last"
    )


def nats(decoder: Decoder, vocabulary: Vocabulary, texts: Sequence[str]) -> list[float]:
    """Negative log-likelihood of each text as the beginning of a document."""
    found: list[float] = []
    rows = [[vocabulary.end, *vocabulary.encode(text)] for text in texts]
    with torch.inference_mode():
        for begin in range(0, len(rows), 256):
            chunk = rows[begin : begin + 256]
            tokens = torch.full((len(chunk), max(map(len, chunk))), vocabulary.end)
            real = torch.zeros_like(tokens, dtype=torch.bool)
            for row, ids in enumerate(chunk):
                tokens[row, : len(ids)] = torch.tensor(ids)
                real[row, : len(ids)] = True
            logits = decoder.logits(decoder(tokens[:, :-1])).float()
            losses = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
            found += (losses.double() * real[:, 1:]).sum(1).tolist()
    return found


def continuations(
    model: LanguageModel, held_out: Sequence[str], options: dict[str, str]
) -> tuple[list[str], list[str]]:
    """What the model writes after the first tokens of held-out documents, and what stood there; equally long."""
    vocabulary, first = model.vocabulary, int(options["prompt"])
    read = [vocabulary.encode(text) for text in held_out]
    long = [ids for ids in read if len(ids) >= 4 * first][: int(options["continuations"])]
    length = max(map(len, long)) - first
    written = generate(
        model.decoder,
        [[vocabulary.end, *ids[:first]] for ids in long],
        max_new_tokens=min(length, model.decoder.context - first - 1),
        stop=(vocabulary.end,),
        temperature=1.0,
        top_k=int(options["top_k"]) or None,
        seed=int(options["seed"]),
    )
    lengths = [min(len(own), len(ids) - first) for own, ids in zip(written, long, strict=True)]
    return (
        [vocabulary.decode(own[:n]) for own, n in zip(written, lengths, strict=True)],
        [vocabulary.decode(ids[first : first + n]) for ids, n in zip(long, lengths, strict=True)],
    )


def describe(name: str, found: Copied) -> str:
    """One line of the second table."""
    longest = sorted(found.longest)
    median = statistics.median(longest)
    return (
        f"{name:<22}{len(longest):>6}{found.ngrams:>9}{100 * found.share:>9.2f} %"
        f"{median:>14.0f}{longest[-1]:>11}"
    )


def main(words: Sequence[str]) -> None:
    """Print both tables."""
    options = read_options(words, DEFAULTS)
    seed, length = int(options["seed"]), int(options["length"])
    repeats = [int(k) for k in options["repeats"].split(",")]
    canaries, form = draw_canaries(repeats, of_each=int(options["each"]), length=length, seed=seed)
    others = draw_candidates(
        int(options["candidates"]), length=length, seed=seed, without=(c.secret for c in canaries)
    )
    world = documents(demonstrations=0.0, count=int(options["documents"]))
    held_out = documents(demonstrations=0.0, split="validation")
    texts = plant(world, canaries, seed=seed)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mtl-memorisation-") as scratch:
        summary, model = train(Path(options["folder"] or scratch), texts, held_out, options)
        seconds = time.perf_counter() - started
        passes = summary["mixture"]["planted"]["passes"]
        bits = summary["tasks"]["planted"]["metrics"]["bits_per_byte"]["value"]
        print(
            f"{len(texts)} documents, {sum(c.repeats for c in canaries)} of them canaries; {passes:.1f} passes,"
            f" {seconds:.0f} s, {options['decoder']} decoder; held-out text {bits:.3f} bits per byte"
        )
        of_candidates = nats(
            model.decoder, model.vocabulary, [filled(form, secret) for secret in others]
        )
        of_canaries = nats(model.decoder, model.vocabulary, [c.text for c in canaries])
    print(f"\ncanaries: {form} ..., {length} of 16 words; {len(others)} candidates")
    print(
        f"{'planted':>7}{'canaries':>10}{'exposure: median':>18}{'lowest':>8}{'highest':>9}  bits"
    )
    for k in repeats:
        found = [
            exposure(own, of_candidates)
            for own, canary in zip(of_canaries, canaries, strict=True)
            if canary.repeats == k
        ]
        print(
            f"{k:>7}{len(found):>10}{statistics.median(found):>18.2f}{min(found):>8.2f}{max(found):>9.2f}"
        )
    print(
        f"by chance {1 / math.log(2):.2f} on average; most possible {math.log2(len(others) + 1):.2f}"
    )
    own, true = continuations(model, held_out, options)
    print(
        f"\ncontinuations of held-out documents after {options['prompt']} tokens, 8-grams of words"
    )
    print(
        f"{'':<22}{'texts':>6}{'8-grams':>9}{'in train':>11}{'longest: median':>16}{'most':>9}  words"
    )
    print(describe("written by the model", copied(own, texts)))
    print(describe("what stood there", copied(true, texts)))
    print(describe("training documents", copied(world[: len(own)], texts)))


if __name__ == "__main__":
    run_benchmark(main)
