"""Does language modelling work here? A small decoder against a Kneser-Ney trigram model of the same tokens.

    python benchmarks/kneser_ney.py texts=ptb root=DIR               without root: MTL_DATA_ROOT
    python benchmarks/kneser_ney.py texts=ptb,gutenberg,tinyshakespeare root=DIR orders=3,5 runs=DIR
    python benchmarks/kneser_ney.py texts=gutenberg also=wikitext2,wikitext2_detokenised           on other texts too
    python benchmarks/kneser_ney.py texts=ptb tokens=8000000 with=decoder.dropout=0.0 runs=DIR     other settings

Both learn from the same documents in the same vocabulary and are scored on the same held-out bytes: the n-grams with
all of their history, the decoder in disjoint windows of its context (at the beginning of one it sees a single token of
what stands before) and in windows that advance by half (it sees half a context, where there is so much). The decoder
is trained by ``python -m mtl.fit`` with the settings of ``SETTINGS``; its run stays in ``runs``, where the same command
finds it finished, or goes on with it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from _kneser_ney import KneserNey
from _options import read_options
from _options import run as run_benchmark

from mtl.assembly import load_data, make_strategy, restore
from mtl.config.compose import compose
from mtl.config.errors import unknown_name
from mtl.config.schema import FitConfig
from mtl.data.vocabulary import Vocabulary
from mtl.fit import run
from mtl.learning.strategy import Strategy
from mtl.record.run import Run
from mtl.scoring.asking import Asking, ask
from mtl.scoring.intervals import Value, draws, generator
from mtl.scoring.metrics import WindowPolicy
from mtl.scoring.score import TaskScore, score_task
from mtl.scoring.values import nats_and_bytes
from mtl.tasks.loading import load_task
from mtl.tasks.task import Answer, Task

SHARED = (
    "strategy=zero_shot",
    "decoder=small",
    "decoder.width=128",
    "decoder.context=64",  # a small decoder learns the order of few positions much sooner
    "tokenizer.vocabulary=1024",
    "batch.tokens=2048",
    "optimizer.learning_rate=3e-3",
    "data.selection_share=0.02",
    "trainer=cpu",
    "record.mlflow=false",
)
SETTINGS = {
    "ptb": ("budget.tokens=12000000",),
    "gutenberg": ("budget.tokens=12000000", "corpus.documents=13"),
    "tinyshakespeare": ("budget.tokens=4000000", "decoder.dropout=0.1"),
}
"""What the decoder of each text is trained with, beside ``SHARED``."""
DEFAULTS = {
    "texts": "ptb",
    "root": os.environ.get("MTL_DATA_ROOT", ""),
    "orders": "3",
    "tokens": "",
    "with": "",
    "also": "",
    "runs": str(Path(__file__).with_name("results") / "kneser_ney"),
    "resamples": "1000",
}
METRICS = ("bits_per_byte", "perplexity_per_token", "perplexity_per_word")


def overrides_of(text: str, options: dict[str, str]) -> list[str]:
    """What ``python -m mtl.fit`` is told for a text."""
    tokens = [f"budget.tokens={options['tokens']}"] if options["tokens"] else []
    other = options["with"].split(",") if options["with"] else []
    where = [f"data.root={options['root']}"] if options["root"] else []
    named = [f"corpus={text}", f"tasks=[{text}]", f"run_dir={Path(options['runs']) / text}"]
    words = [*SHARED, *SETTINGS[text], *tokens, *other, *where, *named]
    # Of a key that is given twice the later value.
    return [f"{key}={value}" for key, value in dict(w.split("=", 1) for w in words).items()]


def n_gram_answers(
    model: KneserNey, vocabulary: Vocabulary, documents: Sequence[str]
) -> list[Answer]:
    """What an n-gram model says of each document: its nats, end token included."""
    answers = []
    for text in documents:
        nats = model.nats(vocabulary.encode(text))
        answers.append(Answer(value=math.fsum(nats), tokens=(len(nats),)))
    return answers


def restored(run: Run) -> Strategy:
    """The model that the run reports."""
    best = run.folder.best_checkpoint
    return restore(run.path, best if best.is_file() else run.folder.last_checkpoint)[1]


def decoder_answers(model: Strategy, task: Task, window: WindowPolicy) -> list[Answer]:
    """What a decoder says of each document, end token included."""
    asking = Asking(window=window)
    return ask(model.decoder, model.vocabulary, task, task.report, asking).answers


def difference(
    task: Task, first: Sequence[Answer], second: Sequence[Answer], *, resamples: int
) -> Value:
    """Bits per byte of the first less those of the second, with the interval of documents drawn for both together."""
    examples = task.report.examples
    rows = nats_and_bytes(first, examples)
    rows[:, 0] -= nats_and_bytes(second, examples)[:, 0]
    rows[:, 0] /= math.log(2)
    drawn = draws(len(rows), resamples, generator(task.name, "difference")) @ rows
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return Value(float(rows[:, 0].sum() / rows[:, 1].sum()), float(low), float(high))


def compared(text: str, options: dict[str, str]) -> Iterator[str]:
    """The lines of one text."""
    overrides = overrides_of(text, options)
    finished = run(overrides)
    config = compose("fit", FitConfig, overrides)
    loaded = load_data(config, make_strategy(config))
    (task,), (corpus,) = loaded.tasks, loaded.trained
    assert corpus.train is not None
    vocabulary = Vocabulary.load(finished.path / "tokenizer")
    resamples = int(options["resamples"])
    read = [np.array(vocabulary.encode(e.references[0])) for e in corpus.train.examples]
    size = sum(len(e.references[0].encode()) for e in corpus.train.examples)
    held_out = [example.references[0] for example in task.report.examples]
    ledger = finished.summary["ledger"]
    yield (
        f"{text}: {len(read)} documents of {size / 1e6:.2f} MB, {sum(map(len, read)):,} tokens of a vocabulary of "
        f"{vocabulary.size}; {len(held_out)} held-out documents of {sum(len(d.encode()) for d in held_out):,} bytes"
    )
    yield line(
        "", "bits per byte [95 %]", "per token", "per word", "seconds", "less decoder, disjoint"
    )
    decoder = restored(finished)
    answers = decoder_answers(decoder, task, "disjoint")
    name = f"decoder, {ledger['tokens'] / 1e6:.1f} M tokens"
    score = score_task(task, task.report, answers, resamples=resamples)
    yield line(f"{name}, disjoint", *shown(score), f"{ledger['seconds']:.0f}", "")
    overlapping = decoder_answers(decoder, task, "strided")
    score = score_task(task, task.report, overlapping, resamples=resamples)
    yield line(f"{name}, strided", *shown(score), "", "")
    models = {}
    for order in map(int, options["orders"].split(",")):
        began = time.perf_counter()
        model = KneserNey(read, vocabulary.size, boundary=vocabulary.end, order=order)
        models[order] = model
        own = n_gram_answers(model, vocabulary, held_out)
        seconds = f"{time.perf_counter() - began:.1f}"
        found = difference(task, own, answers, resamples=resamples)
        score = score_task(task, task.report, own, resamples=resamples)
        yield line(f"Kneser-Ney, {order}-grams", *shown(score), seconds, interval(found))
    for other in _others(options, config):
        texts = [example.references[0] for example in other.report.examples]
        answers = decoder_answers(decoder, other, "disjoint")
        score = score_task(other, other.report, answers, resamples=resamples)
        yield line(f"{other.name}: decoder, disjoint", *shown(score), "", "")
        for order, model in models.items():
            own = n_gram_answers(model, vocabulary, texts)
            score = score_task(other, other.report, own, resamples=resamples)
            found = difference(other, own, answers, resamples=resamples)
            yield line(f"{other.name}: {order}-grams", *shown(score), "", interval(found))


def _others(options: dict[str, str], config: FitConfig) -> Iterator[Task]:
    """The further tasks whose documents are scored."""
    if options["also"]:
        names = f"tasks=[{options['also'].strip('[]')}]"
        named = compose("fit", FitConfig, ["strategy=zero_shot", names])
        for name in named.tasks:
            yield load_task(named.task[name], config.data, seed=config.seed)


def shown(score: TaskScore) -> list[str]:
    """Bits per byte with their interval, and the two perplexities."""
    bits, token, word = (score.metrics[f"{name}_disjoint"] for name in METRICS)
    return [interval(bits), f"{token.value:.1f}", f"{word.value:.0f}"]


def interval(value: Value) -> str:
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def line(*cells: str) -> str:
    return "  ".join(
        f"{c:<{w}}" for c, w in zip(cells, (37, 22, 9, 8, 8, 22), strict=True)
    ).rstrip()


def main(words: Sequence[str]) -> None:
    """Print the table of each text."""
    options = read_options(words, DEFAULTS)
    texts = options["texts"].strip("[]").split(",")
    for text in texts:
        if text not in SETTINGS:
            raise unknown_name("text", text, SETTINGS, where=f"texts={options['texts']}")
    for text in texts:
        for row in compared(text, options):
            print(row, flush=True)


if __name__ == "__main__":
    run_benchmark(main)
