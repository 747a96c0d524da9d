"""Clean, deduplicate and tokenise a corpus, once; print what each rule removed.

python -m mtl.prepare corpus=gutenberg data.root=DIR
python -m mtl.prepare corpus=files corpus.files=[DIR/*.jsonl.zst] corpus.url=url
python -m mtl.prepare overlap corpus=gutenberg tasks=[lambada] data.root=DIR
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mtl.config.command_line import command
from mtl.config.errors import UserError
from mtl.config.schema import DataConfig
from mtl.config.verb_schema import PrepareConfig

if TYPE_CHECKING:
    from mtl.corpora.shards import Tell
    from mtl.data.encoding import Purpose
    from mtl.learning.strategy import Strategy
    from mtl.record.corpus_table import Amount, Prepared
    from mtl.record.progress import Progress
    from mtl.tasks.task import Split, Task

DESCRIPTION = (
    "Clean, deduplicate and tokenise running text into a store that training reads. With the word overlap first: "
    "which rows of the tasks' tests a corpus holds (python -m mtl.prepare overlap --help)."
)


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> Prepared:
    """The command from Python: ``run(["corpus=files", "corpus.files=[DIR/*.txt]"])``; nothing is printed."""
    from mtl.config.compose import compose

    return prepare(compose("prepare", PrepareConfig, overrides, config_dir=config_dir))


def prepare(config: PrepareConfig) -> Prepared:
    """Build what is not there yet; a second call answers from the store.

    :raises UserError: Files that are missing or damaged, nothing left after cleaning, or a corpus of tasks' rows.
    """
    from mtl.record.progress import Progress
    from mtl.tasks.corpus import load_corpus
    from mtl.tasks.prepared import check_files

    if config.corpus.kind == "tasks":
        raise UserError(
            "this corpus is made of the rows of chosen tasks, which are chosen only where a model is trained",
            where=f"corpus={config.corpus.name}",
            hints=["mtl.fit reads and tokenises it by itself"],
        )
    data = DataConfig(
        root=config.data.root or os.environ.get("MTL_DATA_ROOT"), cache=config.data.cache
    )
    if config.corpus.kind == "files":
        check_files(config.corpus, data)
    with Progress() as progress:
        with _told(progress) as tell:
            corpus = load_corpus(config.corpus, [], data, seed=config.seed, tell=tell)
        return _tokenised(config, corpus, data, progress)


@contextmanager
def _told(progress: Progress) -> Iterator[Tell]:
    """What shows the building of a corpus on a terminal, stage by stage."""
    with ExitStack() as stages:
        present: list[str] = []
        done = 0

        def tell(stage: str, more: int, total: int) -> None:
            nonlocal done
            if present != [stage]:
                stages.close()
                stages.enter_context(progress.stage(f"{stage} the documents"))
                present[:], done = [stage], 0
            done += more
            progress.portion(done, total)

        yield tell


def _tokenised(
    config: PrepareConfig, corpus: Task, data: DataConfig, progress: Progress
) -> Prepared:
    from mtl.assembly import encode_split, load_vocabulary, train_vocabulary
    from mtl.corpora.building import StoredCorpus
    from mtl.decoder.building import new_decoder
    from mtl.record.corpus_table import Prepared
    from mtl.storage import cache
    from mtl.tasks.stored import StoredExamples

    assert corpus.train is not None
    with progress.stage("learning the vocabulary"):
        if config.tokenizer.kind == "folder":
            vocabulary = load_vocabulary(config.tokenizer)
        else:
            vocabulary = train_vocabulary(config.tokenizer, [corpus], data.cache)
        folder = cache.build(f"tokenizer-{vocabulary.fingerprint}", vocabulary.save, data.cache)
    # Encoding asks a decoder for its context alone: the smallest of that context will do.
    shape = replace(
        config.decoder, layers=1, width=2, heads=1, trunk="transformer", units=None, pretrained=None
    )
    splits = {"train": corpus.train, "selection": corpus.selection, "report": corpus.report}
    tokens: dict[str, int] = {}
    readers = _readers()
    for name, strategy in readers.items():
        known = vocabulary.with_special(strategy.special_tokens([corpus]))
        strategy.build(new_decoder(shape, known.size, seed=0), [corpus], known)
        for purpose, split in splits.items():
            if split is not None:
                with progress.stage(f"tokenising the {purpose} documents for {name}"):
                    reads: Purpose = "train" if purpose == "train" else "answer"
                    encoded = encode_split(strategy, corpus, split, reads, data)
                tokens[purpose] = encoded.tokens_total
    examples = corpus.train.examples
    store = examples.store if isinstance(examples, StoredExamples) else None
    stored = store if isinstance(store, StoredCorpus) else None
    return Prepared(
        name=corpus.name,
        amounts={
            purpose: _amount(split, tokens[purpose])
            for purpose, split in splits.items()
            if split is not None
        },
        origins=stored.origins if stored is not None else [],
        account=stored.account if stored is not None else None,
        store=stored.folder if stored is not None else None,
        tokenizer=folder,
        vocabulary_size=vocabulary.base_size,
        readers=tuple(readers),
        remarks=_remarks(config),
    )


def _remarks(config: PrepareConfig) -> tuple[str, ...]:
    domains, url = config.corpus.exclude_domains, config.corpus.url
    if not domains or url is not None:
        return ()
    return (f"not excluded: {', '.join(domains)}; corpus.url names no column with addresses",)


def _readers() -> dict[str, Strategy]:
    """Strategies that are trained on running text and need nothing said, by name."""
    from mtl.config.strategies import find_strategies, load_strategy_class

    found: dict[str, Strategy] = {}
    for name, strategy in find_strategies().items():
        try:
            if all(setting.optional for setting in strategy.settings.values()):
                made = load_strategy_class(name)
                if getattr(made, "reads", None) == "corpus":
                    found[name] = made()
        except UserError:
            continue  # said where that strategy is chosen
    return found


def _amount(split: Split, tokens: int) -> Amount:
    from mtl.record.corpus_table import Amount
    from mtl.tasks.stored import StoredExamples

    examples = split.examples
    size = (
        examples.bytes_total
        if isinstance(examples, StoredExamples)
        else sum(len(example.references[0].encode("utf-8")) for example in examples)
    )
    return Amount(split.fingerprint, split.note, len(examples), size, tokens)


def _execute(config: PrepareConfig) -> None:
    from mtl.record.corpus_table import print_prepared

    prepared = prepare(config)
    print_prepared(prepared)
    given = (text.lstrip("+") for text in sys.argv[1:])  # Hydra is told of keys by ++
    own = [text for text in given if not text.startswith("tokenizer")]
    read = [f"strategy={prepared.readers[0]}"] if prepared.readers else []
    words = [*read, *own, "tokenizer=folder", f"tokenizer.folder={prepared.tokenizer}"]
    print(f"train on it: python -m mtl.fit {shlex.join(words)}")


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["overlap"]:
        del sys.argv[1]
        importlib.import_module("mtl.overlapping").main()  # a command of its own, loaded for itself
        return
    command("prepare", PrepareConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
