"""From a config to the parts of a run: tasks, vocabulary, strategy around its decoder, encoded splits."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mtl.config.compose import compose
from mtl.config.errors import UserError, raise_all
from mtl.config.schema import DataConfig, DecoderConfig, FitConfig, TokenizerConfig
from mtl.config.strategies import load_strategy_class
from mtl.data import batch, encoding, fitting, store
from mtl.data.encoding import Encoded, Purpose
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder import building
from mtl.learning import reading, traversal
from mtl.learning.copies import Copies
from mtl.learning.strategy import Strategy
from mtl.record.folder import RunFolder
from mtl.record.predictions import write_predictions
from mtl.tasks import closed
from mtl.tasks.corpus import corpus_task_config, load_corpus
from mtl.tasks.loading import load_task
from mtl.tasks.overlap import Overlap, exclude_overlap, find_overlap
from mtl.tasks.stored import sample
from mtl.tasks.task import Answer, Example, Split, Task


@dataclass(frozen=True)
class Loaded:
    """The data of a run."""

    tasks: tuple[Task, ...]
    """What is evaluated."""
    corpus: Task | None
    """Running text, where the run reads any."""
    trained: tuple[Task, ...]
    """What is trained on: the tasks, or the corpus for a strategy that reads running text."""
    overlap: tuple[Overlap, ...]
    """Evaluation rows that stand in training rows."""


def make_strategy(config: FitConfig) -> Strategy:
    """The strategy of a config, not yet built."""
    settings = {key: value for key, value in config.strategy.items() if key != "name"}
    strategy = load_strategy_class(config.strategy["name"])(**settings)
    assert isinstance(strategy, Strategy)
    return strategy


def load_data(config: FitConfig, strategy: Strategy) -> Loaded:
    """Tasks, the corpus where the strategy reads one, and the overlap between training and evaluation rows.

    :raises UserError: all that is wrong with any task, in one message; a task without training rows for a strategy
        that learns from labelled rows.
    """
    tasks, errors = [], []
    for name in config.tasks:
        try:
            tasks.append(
                load_task(
                    config.task[name], config.data, seed=config.seed, fraction=config.fraction
                )
            )
        except UserError as error:
            errors.append(error)
    raise_all(errors)
    if strategy.reads == "tasks":
        raise_all([_no_training_rows(task, config) for task in tasks if task.train is None])
    shown = strategy.reads == "tasks" or config.corpus.kind == "tasks"
    overlap = find_overlap(tasks) if shown else []
    if config.data.exclude_overlap and overlap:
        tasks = exclude_overlap(tasks, overlap)
    reads_corpus = strategy.reads == "corpus"
    corpus = None
    if reads_corpus or pretraining_tokens(config, strategy):
        corpus = load_corpus(config.corpus, tasks, config.data, seed=config.seed)
    trained = (corpus,) if reads_corpus and corpus is not None else tuple(tasks)
    return Loaded(tuple(tasks), corpus, trained, tuple(overlap))


def pretraining_tokens(config: FitConfig, strategy: Strategy) -> int:
    """Tokens of the language-model stage: as written, else the strategy's share of the budget.

    :raises UserError: The share of a budget that is not in tokens, or language modelling before language modelling.
    """
    tokens = config.pretrain.tokens
    if strategy.reads == "corpus":
        if tokens:
            raise UserError(
                f"strategy '{config.strategy['name']}' is language modelling already",
                where=f"pretrain.tokens={tokens}",
                hints=["give it a larger budget instead"],
            )
        return 0
    if tokens is not None or not strategy.pretraining:
        return tokens or 0
    if config.init_from is not None or config.decoder.pretrained is not None:
        return 0
    if config.budget.tokens is None:
        raise UserError(
            f"strategy '{config.strategy['name']}' pretrains on a share of budget.tokens, which is not given",
            where="budget",
            hints=["say how long it pretrains: pretrain.tokens=N, 0 for not at all"],
        )
    return round(config.budget.tokens * strategy.pretraining)


def make_vocabulary(config: FitConfig, loaded: Loaded) -> Vocabulary:
    """The base vocabulary of a run, the same for every strategy on the same tasks.

    A trained one learns from the training rows of the tasks, as segments and as text; where no task has any, from
    the corpus. One that is loaded keeps no token that an earlier run's strategy added.
    """
    if config.tokenizer.kind == "folder":
        return load_vocabulary(config.tokenizer).base
    tasks = [task for task in loaded.tasks if task.train is not None] or loaded.trained
    return train_vocabulary(config.tokenizer, tasks, config.data.cache)


def train_vocabulary(
    config: TokenizerConfig, tasks: Iterable[Task], root: str | None
) -> Vocabulary:
    """A vocabulary of the training rows of some tasks; of a large corpus on disk an even sample is enough."""
    return Vocabulary.train(
        (text for task in tasks if task.train for text in _texts(sample(task.train.examples))),
        config.vocabulary,
        root=root,
    )


def load_vocabulary(config: TokenizerConfig) -> Vocabulary:
    """The vocabulary of a folder."""
    if config.folder is None:
        raise UserError(
            "tokenizer.folder is not given",
            where="tokenizer=folder",
            hints=["tokenizer.folder=DIR"],
        )
    with written(f"tokenizer.folder={config.folder}", config.folder):
        return Vocabulary.load(config.folder)


def each_alone(strategy: Strategy) -> bool:
    """Whether the last thing a strategy's run does is to train a copy for each task."""
    return strategy.stages()[-1].each


def make_model(
    config: FitConfig, tasks: Sequence[Task], build: Callable[[Strategy, Sequence[Task]], None]
) -> Strategy:
    """What answers at the end of a run: the strategy, or a copy of it for each task.

    :param build: Builds a new strategy for some of the tasks.
    """
    strategy = make_strategy(config)
    if not each_alone(strategy):
        build(strategy, tasks)
        return strategy
    copies = {}
    for task in tasks:
        copies[task.name] = make_strategy(config)
        build(copies[task.name], (task,))
    return Copies(copies)


def restore(folder: Path, checkpoint: Path) -> tuple[FitConfig, Strategy]:
    """The strategy of a finished run with the weights of one of its checkpoints.

    :param folder: The run folder.
    :raises UserError: no such checkpoint, or one of another shape.
    """
    config = compose("config", FitConfig, config_dir=str(folder))
    strategy = make_strategy(config)
    saved = read_checkpoint(checkpoint)
    vocabulary = Vocabulary.load(folder / "tokenizer")
    shape = DecoderConfig(**{**saved["decoder"], "pretrained": None})
    if strategy.reads == "corpus":
        trained = [Task.without_rows(corpus_task_config(config.corpus))]
    else:
        trained = [Task.without_rows(config.task[name]) for name in config.tasks]

    def build(one: Strategy, tasks: Sequence[Task]) -> None:
        one.build(building.new_decoder(shape, vocabulary.size), tasks, vocabulary)

    model = make_model(config, trained, build)
    load_weights(model, checkpoint)
    return config, model


def encode_split(
    strategy: Strategy, task: Task, split: Split, purpose: Purpose, data: DataConfig
) -> EncodedSplit:
    """The split as the strategy reads it, tokenised once and cached by content."""
    if isinstance(strategy, Copies):
        strategy = strategy.of(task)
    vocabulary, context = strategy.vocabulary, strategy.decoder.context

    def encode(example: Example) -> list[Encoded]:
        return strategy.encode(example, task, vocabulary, context, purpose)

    key = json.dumps(
        [
            task.name,
            asdict(task.config),
            split.fingerprint,
            vocabulary.fingerprint,
            context,
            purpose,
            _settings(strategy),
            _code(strategy),
        ],
        sort_keys=True,
        default=str,
    )
    return EncodedSplit.build(
        split.examples, encode, key=key, root=data.cache, prefetch=partial(vocabulary.prefetch)
    )


def limited(split: Split, rows: int | None) -> Split:
    """``rows`` examples spread evenly over a split, which the note then says.

    The first ones would not do: some published splits are sorted by label.
    """
    total = len(split.examples)
    if rows is None or rows >= total:
        return split
    digest = hashlib.sha256(f"{split.fingerprint}/{rows} spread".encode()).hexdigest()[:16]
    note = f"{rows} of {total} rows scored, spread evenly"
    note = f"{split.note}; {note}" if split.note else note
    chosen = [split.examples[(2 * i + 1) * total // (2 * rows)] for i in range(rows)]
    return replace(split, examples=chosen, fingerprint=digest, note=note)


def score_notes(task: Task, split: Split, store: EncodedSplit, *, context: int) -> list[str]:
    """What a reader of the scores on a split must know: how it was cut, which rows lost tokens, and how much of a
    document a prediction sees.

    :param context: Tokens of a window at most.
    """
    notes = [split.note] if split.note else []
    if task.kind == "language_modelling":
        notes.append(f"documents in disjoint windows of at most {context} tokens")
    if store.cut_rows:
        notes.append(
            f"{store.cut_rows} of {len(store)} rows lost {store.cut_tokens} tokens beyond the context"
        )
    return notes


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint holds; plain values and tensors only.

    :raises UserError: there is none.
    """
    if not checkpoint.is_file():
        raise UserError(
            f"there is no checkpoint {checkpoint}",
            hints=["the run did not get as far as saving one"],
        )
    saved: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return saved


def load_weights(strategy: Strategy, checkpoint: Path) -> None:
    """The weights of a checkpoint into a built strategy.

    :raises UserError: no such checkpoint, or one of another shape.
    """
    saved = read_checkpoint(checkpoint)["state_dict"]
    size = strategy.vocabulary.size
    for key, weight in saved.items():
        if key.endswith("decoder.token_embedding.weight") and weight.shape[0] != size:
            raise UserError(
                f"the checkpoint knows {weight.shape[0]} tokens, the run's tokenizer {size}",
                where=str(checkpoint),
                hints=["the tokenizer/ in the run folder is not the one the run was trained with"],
            )
    weights = {
        key.removeprefix("strategy."): value
        for key, value in saved.items()
        if key.startswith("strategy.")
    }
    try:
        strategy.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            "the checkpoint does not fit the run's config",
            where=str(checkpoint),
            hints=[line.strip() for line in str(error).splitlines()[1:4]],
        ) from None


def save_model(strategy: Strategy, checkpoint: Path, *, steps: int) -> None:
    """Write the weights of a whole model as a checkpoint, in one step."""
    weights = {f"strategy.{name}": weight for name, weight in strategy.state_dict().items()}
    shape = asdict(strategy.decoder.config)
    partial_file = checkpoint.with_name(f".{checkpoint.name}.partial")
    torch.save({"state_dict": weights, "decoder": shape, "global_step": steps}, partial_file)
    partial_file.replace(checkpoint)


def save_answers(folder: RunFolder, task: Task, split: Split, answers: Sequence[Answer]) -> None:
    """Write the answers to a split beside what was right, as ``predictions/<task>.<split>.parquet``."""
    examples, decoded = split.examples, [answer.decoded for answer in answers]
    write_predictions(
        folder,
        task.name,
        split.name,
        rows=[example.row for example in examples],
        targets=[list(e.references) if task.is_open else e.target for e in examples],
        predictions=[answer.value for answer in answers],
        scores=[answer.scores for answer in answers] if any(a.scores for a in answers) else None,
        decoded=None if None in decoded else [str(text) for text in decoded],
    )


@contextmanager
def written(where: str, found: str) -> Iterator[None]:
    """Say of an error inside a folder also which setting named the folder."""
    try:
        yield
    except UserError as error:
        inside = (error.where or "").removeprefix(found)
        place = where + inside if inside.startswith((",", "/")) else where
        raise UserError(error.problem, where=place, hints=error.hints) from error


def _no_training_rows(task: Task, config: FitConfig) -> UserError:
    return UserError(
        f"task '{task.name}' has no training rows, and strategy '{config.strategy['name']}' learns from them",
        where=f"tasks=[{', '.join(config.tasks)}]",
        hints=["leave it out, or take a strategy that reads running text"],
    )


def _texts(examples: Iterable[Example]) -> Iterable[str]:
    for example in examples:
        yield from example.segments
        yield from example.prompt
        yield from example.choices
        yield from example.answers
        yield from (f" {reference}" for reference in example.references)


def _settings(strategy: Strategy) -> Mapping[str, str]:
    """Plain values the constructor kept."""
    plain = (bool, int, float, str, type(None))
    return {key: repr(value) for key, value in vars(strategy).items() if isinstance(value, plain)}


def _code(strategy: Strategy) -> str:
    """Hash of the source that decides encodings, so that a changed file is never answered from the cache."""
    modules: list[ModuleType | type] = [reading, traversal, closed, encoding, fitting, store, batch]
    modules += [kind for kind in type(strategy).__mro__ if issubclass(kind, Strategy)]
    files = sorted({inspect.getfile(module) for module in modules})
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
