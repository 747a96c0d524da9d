"""Running text for language modelling, as a task whose rows are documents. No label is ever read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mtl.config.errors import UserError
from mtl.config.schema import CorpusConfig, DataConfig, SourceConfig, TaskConfig
from mtl.corpora.building import no_tell
from mtl.corpora.shards import Tell
from mtl.tasks.loading import load_task
from mtl.tasks.prepared import is_prepared, prepare_files, prepare_split
from mtl.tasks.splits import generator, make_split
from mtl.tasks.stored import StoredExamples
from mtl.tasks.task import Example, Split, Task


def corpus_task_config(config: CorpusConfig) -> TaskConfig:
    """The corpus as a language-modelling task of the same name."""
    return TaskConfig(
        name=config.name,
        kind="language_modelling",
        source=config.source or SourceConfig(),
        segments=[],
        prompt=[],
        target=config.text,
        metrics=["bits_per_byte", "perplexity_per_word", "perplexity_per_token"],
        description=f"Running text ({config.kind})",
    )


def load_corpus(
    config: CorpusConfig,
    tasks: Sequence[Task],
    data: DataConfig,
    *,
    seed: int,
    tell: Tell = no_tell,
) -> Task:
    """The corpus: documents to train on, and held-out ones to select and to report.

    ``tasks``: the segments of each row, one a line, of the train splits; the rows that select and the rows that
    are reported give the held-out documents. ``source``: a dataset, divided as any task is. ``microworld``:
    generated text of each split. ``files``: documents of any files, divided by their content.

    Where the corpus is to be cleaned or rid of duplicates, the documents to train on are; they then lie on disk, built
    once, and are read one by one. So do those of files. Held-out rows of a source stay as they were published.

    :param tasks: The chosen tasks (``tasks`` only).
    :param tell: Told how far the cleaning is.
    :raises UserError: Missing or damaged data, no chosen task has rows to train on, or nothing is left.
    """
    if config.kind == "files":
        task = prepare_files(config, corpus_task_config(config), data, seed=seed, tell=tell)
    elif config.kind == "source":
        task = _of_source(config, data, seed=seed)
    elif config.kind == "tasks":
        task = _of_tasks(config, tasks)
    else:
        task = _of_microworld(config, data)
    if task.train is not None and config.kind != "files" and is_prepared(config):
        task = replace(task, train=prepare_split(config, task.train, data, tell=tell))
    if config.documents is None or config.kind == "microworld" or task.train is None:
        return task
    return replace(task, train=_at_most(config.documents, task.train, name=config.name, seed=seed))


def _of_source(config: CorpusConfig, data: DataConfig, *, seed: int) -> Task:
    if config.source is None or config.source.train is None:
        problem = "a corpus of kind 'source' needs a source with a train split"
        raise UserError(problem, where=f"corpus.source (corpus={config.name})")
    return load_task(corpus_task_config(config), data, seed=seed)


def _of_tasks(config: CorpusConfig, tasks: Sequence[Task]) -> Task:
    def gather(purpose: str, splits: Iterable[tuple[str, Split | None]]) -> Split:
        texts = [
            (f"{name}/{example.row}", text)
            for name, split in splits
            if split is not None
            for example in split.examples
            if (text := _inputs(example)).strip()
        ]
        if not texts:
            names = ", ".join(task.name for task in tasks) or "none"
            raise UserError(
                "no chosen task has training rows, so there are no inputs to read",
                where=f"corpus={config.name}",
                hints=[f"chosen tasks: {names}", "name another corpus"],
            )
        return _documents(purpose, texts, note=f"inputs of {purpose} rows, without labels")

    return Task(
        corpus_task_config(config),
        gather("train", ((task.name, task.train) for task in tasks)),
        gather("selection", ((task.name, task.selection) for task in tasks)),
        gather("report", ((task.name, task.report) for task in tasks if task.train is not None)),
    )


def _inputs(example: Example) -> str:
    """The segments of a row; the text itself for a row that is a document. Candidates are not inputs: which
    ones were written, and how, gives the right one away."""
    return "\n".join(example.segments) if example.segments else example.references[0]


def _of_microworld(config: CorpusConfig, data: DataConfig) -> Task:
    from mtl.tasks import microworld

    def generate(split: str, count: int | None) -> Split:
        texts = microworld.kept_documents(
            demonstrations=config.demonstrations,
            permuted=config.permuted,
            split=split,
            count=count,
            root=data.cache,
        )
        return _documents(split, [(f"{split}:{index}", text) for index, text in enumerate(texts)])

    return Task(
        corpus_task_config(config),
        generate("train", config.documents),
        generate("validation", None),
        generate("test", None),
    )


def _documents(name: str, texts: Sequence[tuple[str, str]], *, note: str = "") -> Split:
    examples = [Example(row, (), (), None, references=(text,)) for row, text in texts]
    return make_split(name, examples, note=note)


def _at_most(count: int, split: Split, *, name: str, seed: int) -> Split:
    """A drawn part of the documents, in their order, so that every task of a corpus is represented."""
    total = len(split.examples)
    if total <= count:
        return split
    drawn = sorted(generator(f"corpus {name}", seed).permutation(total)[:count])
    own = f"{count} of {total} documents, seed {seed}"
    note = f"{split.note}; {own}" if split.note else own
    if isinstance(split.examples, StoredExamples):
        return split.examples.at(np.array(drawn)).split(split.name, note)
    return make_split(split.name, [split.examples[position] for position in drawn], note=note)
