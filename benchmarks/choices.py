"""Four-way multiple choice about a passage: our likelihoods against lm-evaluation-harness on the same decoder.

    python benchmarks/choices.py
    python benchmarks/choices.py decoder=tiny rows=24 repeats=9 threads=2 passage=150

- *ours*: ``mtl.scoring``: pairs of texts encoded, then their likelihoods over one trie of tokens.
- *harness*: ``HFLM.loglikelihood`` of lm_eval as it comes, on the Hugging Face folder that the same decoder was written
  to, with each of the batch sizes 1, 8 and 32.

Both get the same texts, in float32, and begin with tokenising. They take turns in one process; the first turn of each
warms up and is left out. The ratio is that to the harness's best batch size, turn by turn. Both must choose the same
answers, by log-likelihoods that differ by 1e-4 nats at most.

The rows are generated: ``passage`` tokens, then ``each`` questions of 12 tokens (one question: none, the choices go on
from the passage), and four choices of 8. Weights are random, which costs what trained ones cost.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from _measuring import ROOT, Clocks, machine, write
from _options import read_options
from _options import run as run_benchmark

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import save_pretrained
from mtl.scoring.likelihood import Request, likelihoods
from mtl.scoring.pairs import encode_pair

DEFAULTS = {
    "decoder": "tiny,small",
    "vocabulary": "8192",
    "rows": "16",
    "each": "1,5",
    "passage": "200",
    "repeats": "5",
    "threads": "1",
    "out": "",
}
BATCH_SIZES = (1, 8, 32)
CHOICES = 4
QUESTION_TOKENS, CHOICE_TOKENS = 12, 8
NATS_APART = 1e-4
PEERS = ("lm_eval", "accelerate")

Answer = tuple[float, bool]
"""Log-likelihood in nats, and whether every token is the likeliest."""


class Texts:
    """Made-up words and the vocabulary that was trained on them."""

    def __init__(self, size: int):
        self.random = random.Random(0)
        syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r")]
        self.words = sorted({"".join(self.random.choices(syllables, k=3)) for _ in range(size)})
        lines = [" " + " ".join(self.words)] * 2
        self.vocabulary = Vocabulary.train(lines, size - 4)  # with the four special tokens: size

    def write(self, tokens: int) -> str:
        """Words until there are so many tokens, or a little more."""
        text = ""
        while len(self.vocabulary.encode(text)) < tokens:
            text += " " + self.random.choice(self.words)
        return text

    def pairs(self, rows: int, each: int, passage: int) -> list[tuple[str, str]]:
        """Contexts and choices: four neighbours are a question's."""
        found = []
        for _ in range(rows):
            begin = self.write(passage).strip()
            for _ in range(each):
                context = begin + (self.write(QUESTION_TOKENS) if each > 1 else "")
                found += [(context, self.write(CHOICE_TOKENS)) for _ in range(CHOICES)]
        return found


class Ours:
    """A decoder and its vocabulary, asked as the zero-shot protocols ask them."""

    def __init__(self, decoder: Decoder, vocabulary: Vocabulary):
        self.decoder, self.vocabulary = decoder, vocabulary

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        known: dict[str, list[int]] = {}
        encoded = [encode_pair(self.vocabulary, *pair, known=known) for pair in pairs]
        asked = [Request(tuple(before), tuple(after)) for before, after in encoded]
        return [(-one.nats, one.greedy) for one in likelihoods(self.decoder, asked)]


class Harness:
    """The same decoder behind lm_eval's own class for Hugging Face folders."""

    def __init__(self, folder: Path, batch_size: int):
        from lm_eval.models.huggingface import HFLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.model = HFLM(str(folder), device="cpu", dtype="float32", batch_size=batch_size)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        from lm_eval.api.instance import Instance

        asked = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i)
            for i, pair in enumerate(pairs)
        ]
        found: list[Answer] = self.model.loglikelihood(asked, disable_tqdm=True)
        return found


def take_turns(
    paths: Mapping[str, Callable[[Sequence[tuple[str, str]]], list[Answer]]],
    pairs: Sequence[tuple[str, str]],
    repeats: int,
) -> tuple[dict[str, list[Clocks]], dict[str, list[Answer]]]:
    """Time of each turn of each path, the first left out, and what each answered."""
    times: dict[str, list[Clocks]] = {name: [] for name in paths}
    answers = {}
    for turn in range(repeats + 1):
        for name, path in paths.items():
            started = Clocks.now()
            answers[name] = path(pairs)
            if turn:
                times[name].append(Clocks.now().since(started))
    return times, answers


def summarise(seconds: Mapping[str, Sequence[float]], questions: int) -> dict[str, Any]:
    """What turns say.

    :param seconds: Of each turn, by path; ``ours`` is one of them.
    :return: Medians of questions/s; ``ratio`` is ours over the best of the others, turn by turn.
    """
    rates = {
        name: statistics.median(questions / turn for turn in turns)
        for name, turns in seconds.items()
    }
    best = max((name for name in rates if name != "ours"), key=rates.__getitem__)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds[best], strict=True)]
    return {
        "questions_per_second": rates,
        "best": best,
        "ratio": {
            "low": min(ratios),
            "median": statistics.median(ratios),
            "high": max(ratios),
        },
    }


def agreement(ours: Sequence[Answer], theirs: Sequence[Answer]) -> dict[str, float]:
    """Questions answered differently, continuations found greedy by one alone, and the most nats apart."""
    chosen = [
        [max(range(CHOICES), key=lambda k: answers[q + k][0]) for q in range(0, len(ours), CHOICES)]
        for answers in (ours, theirs)
    ]
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "answers": sum(a != b for a, b in zip(*chosen, strict=True)),
        "greedy": sum(a[1] != b[1] for a, b in pairs),
        "nats": max(abs(a[0] - b[0]) for a, b in pairs),
    }


def measure(name: str, each: int, texts: Texts, options: Mapping[str, str]) -> dict[str, Any]:
    """One decoder at so many questions a passage."""
    shape = yaml.safe_load((ROOT / f"configs/decoder/{name}.yaml").read_text(encoding="utf-8"))
    decoder = Decoder(DecoderConfig(**shape), int(options["vocabulary"]))
    rows = max(1, int(options["rows"]) // each)
    pairs = texts.pairs(rows, each, int(options["passage"]))
    encoded = [encode_pair(texts.vocabulary, *pair) for pair in pairs]
    if max(len(before) + len(after) for before, after in encoded) > decoder.context:
        raise UserError(
            f"passage, question and choice do not fit into the context of {decoder.context}",
            where=f"decoder={name} passage={options['passage']}",
        )
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(decoder, folder)
        texts.vocabulary.save(folder)
        paths: dict[str, Any] = {"ours": Ours(decoder, texts.vocabulary)}
        for size in BATCH_SIZES:
            paths[f"harness {size}"] = Harness(Path(folder), size)
        times, answers = take_turns(paths, pairs, int(options["repeats"]))
    clocks = {
        clock: summarise(
            {path: [getattr(turn, clock) for turn in turns] for path, turns in times.items()},
            rows * each,
        )
        for clock in ("processor", "wall")
    }
    return {
        "decoder": name,
        "questions": rows * each,
        "questions_per_passage": each,
        "tokens": {
            "context": statistics.mean(len(before) for before, _ in encoded),
            "choice": statistics.mean(len(after) for _, after in encoded),
        },
        "differ_by": {
            path: agreement(answers["ours"], own) for path, own in answers.items() if path != "ours"
        },
        **clocks,
    }


def line(case: Mapping[str, Any], clock: str) -> str:
    """One line of the table."""
    found = case[clock]
    rates, ratio = found["questions_per_second"], found["ratio"]
    return (
        f"{case['decoder']:<6} {case['questions_per_passage']:>5} {clock:<9}"
        f" {case['tokens']['context']:>7.1f} {case['tokens']['choice']:>6.1f} {rates['ours']:>8.1f}"
        + "".join(f" {rates[f'harness {size}']:>10.2f}" for size in BATCH_SIZES)
        + f"   {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) of {found['best']}"
    )


TITLES = (
    "decoder each clock     context choice     ours"
    + "".join(f" {f'harness {size}':>10}" for size in BATCH_SIZES)
    + "   ours/best harness (lowest to highest turn)"
)


def main(words: Sequence[str]) -> None:
    """Print the table and write it down.

    :raises UserError: an option that is not there, or rows that do not fit into the decoder's context.
    :raises AssertionError: the two do not give the same answers.
    """
    options = read_options(words, DEFAULTS)
    threads = int(options["threads"])
    torch.set_num_threads(threads)
    # Whoever tokenises with threads of their own would be compared with whoever does not.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/choices.py", *words]),
        "options": options,
        "machine": machine(threads, "torch", "transformers", *PEERS),
        "cases": [],
    }
    print(
        f"{threads} thread(s), load {result['machine']['load_before']}, torch {torch.__version__},"
        f" lm_eval {result['machine']['lm_eval']}; questions/s of four choices"
    )
    print("processor time is of all threads of this process; trust it where neighbours are busy")
    texts = Texts(int(options["vocabulary"]))
    print(TITLES)
    names = options["decoder"].split(",")
    for name, each in itertools.product(names, map(int, options["each"].split(","))):
        case = measure(name, each, texts, options)
        for clock in ("processor", "wall"):
            print(line(case, clock), flush=True)
        result["cases"].append(case)
        for path, apart in case["differ_by"].items():
            assert not apart["answers"], f"{path} answers otherwise: {apart}"
            assert not apart["greedy"], f"{path} finds other continuations likeliest: {apart}"
            assert apart["nats"] <= NATS_APART, f"{path} finds other likelihoods: {apart}"
    most = max(apart["nats"] for case in result["cases"] for apart in case["differ_by"].values())
    print(f"same answers; log-likelihoods differ by up to {most:.1e} nats")
    write(result, "choices", options["out"])


if __name__ == "__main__":
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"error: not installed: {', '.join(missing)} (pip install 'mtl[peers]')",
            file=sys.stderr,
        )
        sys.exit(2)
    warnings.filterwarnings("ignore", module="lm_eval|accelerate|transformers")
    run_benchmark(main)
