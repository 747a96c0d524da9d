"""What word counts and a linear model reach on the same rows: the baseline a small decoder is held to.

    python benchmarks/bag_of_words.py tasks=sst2,cola root=DIR      without root: MTL_DATA_ROOT, else the hub
    python benchmarks/bag_of_words.py tasks=sst2 root=DIR selection=500 seed=0 resamples=1000

It trains on the training rows, chooses the regularisation on the selection rows, and scores the rows that
``python -m mtl.fit`` reports, cut by the same seed. One line per metric; seconds are those of training and scoring.
"""

from __future__ import annotations

import os
import time

from _options import read_options
from _options import run as run_benchmark
from _tasks import read_task

from mtl.config.schema import DataConfig
from mtl.scoring.bag_of_words import bag_of_words
from mtl.scoring.baselines import chance, majority
from mtl.scoring.score import average
from mtl.tasks.loading import load_task

DEFAULTS = {
    "tasks": "sst2,cola,mrpc,rte,stsb,trec,qnli,copa",
    "root": os.environ.get("MTL_DATA_ROOT", ""),
    "selection": "500",
    "seed": "0",
    "resamples": "1000",
}


def main(words: list[str]) -> None:
    """Print the table."""
    options = read_options(words, DEFAULTS)
    data = DataConfig(root=options["root"] or None, selection_rows=int(options["selection"]))
    titles = ("task", "train", "metric", "value", "95 % interval", "chance", "majority", "s")
    widths = (16, 7, 10, 7, 15, 7, 8, 6)

    def line(cells: tuple[object, ...]) -> None:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)))

    line(titles)
    scores = []
    for name in options["tasks"].strip("[]").split(","):
        task = load_task(read_task(name.strip()), data, seed=int(options["seed"]))
        started = time.perf_counter()
        score = bag_of_words(task, resamples=int(options["resamples"]))
        seconds = f"{time.perf_counter() - started:.1f}"
        if score is None or task.train is None:
            print(
                f"{task.name}: no baseline ({task.kind}, {'open' if task.is_open else 'no train'})"
            )
            continue
        scores.append(score)
        for metric, value in score.metrics.items():
            interval = "" if value.low is None else f"{value.low:.3f} to {value.high:.3f}"
            frequent = majority(task, metric)
            line(
                (
                    task.name,
                    len(task.train.examples),
                    metric,
                    f"{value.value:.3f}",
                    interval,
                    f"{chance(task, metric):.3f}",
                    "" if frequent is None else f"{frequent:.3f}",
                    seconds,
                )
            )
    if scores:
        found = average(scores)
        print(f"average {found['value']:.3f} of {found['of']}")


if __name__ == "__main__":
    run_benchmark(main)
