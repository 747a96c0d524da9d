"""Which n-grams of test sets stand in a corpus, and in the tasks' own training rows: GPT-2's Table 6.

python -m mtl.prepare overlap corpus=gutenberg tasks=[lambada,ptb] data.root=DIR
python -m mtl.prepare overlap corpus=gutenberg tasks=[lambada] out=overlap.json
python -m mtl.evaluate run=RUN_DIR tasks=[lambada] overlap=overlap.json
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.config.command_line import command
from mtl.config.errors import UserError, raise_all
from mtl.config.schema import DataConfig
from mtl.config.verb_schema import OverlapConfig

if TYPE_CHECKING:
    from mtl.record.contamination import OverlapReport, RowOverlap, TaskOverlap
    from mtl.record.progress import Progress
    from mtl.tasks.contamination import RowFound, Searched
    from mtl.tasks.task import Task

DESCRIPTION = (
    "Count the n-grams of test sets that stand in a corpus, and in the tasks' own training rows."
)
NAME = "prepare overlap"
"""How the command is called behind ``python -m mtl.``."""


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> OverlapReport:
    """The command from Python: ``run(["corpus=gutenberg", "tasks=[lambada]"])`` returns what ``out=`` would hold."""
    from mtl.config.compose import compose

    return overlap(compose("overlap", OverlapConfig, overrides, config_dir=config_dir))


def overlap(config: OverlapConfig) -> OverlapReport:
    """Look for the n-grams of the report splits in the training documents of the corpus, and in own training rows.

    :raises UserError: Missing or bad data, a corpus without documents, or an ``out`` that cannot be written.
    """
    from mtl.record.files import check_output
    from mtl.record.progress import Progress
    from mtl.tasks.contamination import asked_ngrams
    from mtl.tasks.corpus import load_corpus
    from mtl.tasks.loading import check_tasks

    if config.out is not None:
        check_output(Path(config.out), f"out={config.out}")
    data = DataConfig(root=config.data.root, cache=config.data.cache)
    check_tasks([config.task[name] for name in config.tasks], data)
    with Progress() as progress:
        with progress.stage("loading tasks"):
            tasks = _load(config, data)
        with progress.stage(f"loading corpus {config.corpus.name}"):
            corpus = load_corpus(config.corpus, tasks, data, seed=config.seed)
        of_each = [asked_ngrams([task.report.examples], config.n) for task in tasks]
        asked = _union(of_each)
        text = _searched(corpus, asked, config, progress)
        found: dict[str, TaskOverlap] = {}
        mistakes = [] if asked is None else [text.false_positives(asked)]
        for task, wanted in zip(tasks, of_each, strict=True):
            own = None
            if task.train is not None:
                own = _searched(task, None if asked is None else wanted, config, progress)
                if asked is not None and wanted is not None:
                    mistakes.append(own.false_positives(wanted))
            found[task.name] = _of_task(task, text, own)
    report = _report(config, corpus, text, found, mistakes)
    if config.out is not None:
        from mtl.record.files import to_json, write_atomically

        write_atomically(Path(config.out), to_json(report, indent=1) + "\n")
    return report


def _load(config: OverlapConfig, data: DataConfig) -> list[Task]:
    from mtl.tasks.loading import load_task

    tasks, errors = [], []
    for name in config.tasks:
        try:
            tasks.append(load_task(config.task[name], data, seed=config.seed))
        except UserError as error:
            errors.append(error)
    raise_all(errors)
    return tasks


def _union(of_each: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    """All of them; None where one is too large to be known."""
    known = [asked for asked in of_each if asked is not None]
    return frozenset().union(*known) if len(known) == len(of_each) else None


def _searched(
    task: Task, asked: frozenset[str] | None, config: OverlapConfig, progress: Progress
) -> Searched:
    """The n-grams of the training rows of a task, or of the documents of a corpus."""
    from mtl.tasks.contamination import search

    assert task.train is not None
    examples = task.train.examples
    with progress.stage(f"reading {task.name}") as reached:
        return search(
            examples,
            config.n,
            false_positive_rate=config.false_positive_rate,
            asked=asked,
            advance=lambda read: reached(f"{read / (2 * len(examples)):.0%}"),
        )


def _of_task(task: Task, text: Searched, own: Searched | None) -> TaskOverlap:
    from mtl.tasks.contamination import find

    rows = find(task.report.examples, text)
    own_rows = None if own is None else find(task.report.examples, own)
    return {
        "split": task.report.name,
        "fingerprint": task.report.fingerprint,
        "total": len(rows),
        "with_ngrams": sum(row.ngrams > 0 for row in rows),
        "ngrams": sum(row.ngrams for row in rows),
        "found_in_train": None if own_rows is None else sum(row.found for row in own_rows),
        "found_in_corpus": sum(row.found for row in rows),
        "rows": _overlapping(rows),
        "rows_in_train": None if own_rows is None else _overlapping(own_rows),
    }


def _overlapping(rows: Sequence[RowFound]) -> list[RowOverlap]:
    return [{"row": row.row, "share": row.share} for row in rows if row.found]


def _report(
    config: OverlapConfig,
    corpus: Task,
    text: Searched,
    found: Mapping[str, TaskOverlap],
    mistakes: Sequence[tuple[int, int]],
) -> OverlapReport:
    assert corpus.train is not None
    wrong = sum(one for one, _ in mistakes)
    absent = sum(of for _, of in mistakes)
    return {
        "n": config.n,
        "false_positive_rate": config.false_positive_rate,
        "measured_false_positive_rate": wrong / absent if absent else None,
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.train.fingerprint,
            "documents": len(corpus.train.examples),
            "ngrams": text.ngrams,
        },
        "filter": {
            "bits_per_ngram": text.index.bits / text.index.elements,
            "hashes": text.index.hashes,
            "expected_false_positive_rate": text.index.expected_false_positive_rate,
            "absent": absent if mistakes else None,
            "false_positives": wrong if mistakes else None,
        },
        "tasks": dict(found),
    }


def _execute(config: OverlapConfig) -> None:
    from mtl.record.contamination import print_overlap

    print_overlap(overlap(config))


def main() -> None:
    """The command line, with or without the word ``overlap`` before the settings."""
    if sys.argv[1:2] == ["overlap"]:
        del sys.argv[1]
    command("overlap", OverlapConfig, _execute, describe=DESCRIPTION, name=NAME)


if __name__ == "__main__":
    main()
