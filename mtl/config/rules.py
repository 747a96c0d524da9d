"""Ranges of values, and rules between keys, beyond what types say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from mtl.config.balancing import balance_fits
from mtl.config.mixing import fraction_names_tasks, mixture_fits
from mtl.config.schema import FitConfig, GopherRepetitionConfig
from mtl.config.values import Problem
from mtl.config.verb_schema import (
    EvaluateConfig,
    GenerateConfig,
    OverlapConfig,
    PredictConfig,
    PrepareConfig,
)

Test = Callable[[float], bool]

AT_LEAST_ONE: tuple[str, Test] = ("at least 1", lambda value: value >= 1)
NOT_NEGATIVE: tuple[str, Test] = ("0 or more", lambda value: value >= 0)
POSITIVE: tuple[str, Test] = ("more than 0", lambda value: value > 0)
BELOW_ONE: tuple[str, Test] = ("at least 0 and below 1", lambda value: 0 <= value < 1)
SHARE: tuple[str, Test] = ("between 0 and 1", lambda value: 0 <= value <= 1)

INSIDE: tuple[str, Test] = ("more than 0 and below 1", lambda value: 0 < value < 1)

_REPETITION = [field.name for field in fields(GopherRepetitionConfig)]

RANGES: dict[str, tuple[str, Test]] = {
    "seed": NOT_NEGATIVE,
    "decoder.layers": AT_LEAST_ONE,
    "decoder.width": AT_LEAST_ONE,
    "decoder.heads": AT_LEAST_ONE,
    "decoder.context": AT_LEAST_ONE,
    "decoder.dropout": BELOW_ONE,
    "decoder.units": AT_LEAST_ONE,
    "balance.temperature": POSITIVE,
    "balance.every": AT_LEAST_ONE,
    "balance.learning_rate": NOT_NEGATIVE,
    "balance.weight_decay": NOT_NEGATIVE,
    "balance.mu": POSITIVE,
    "balance.c": NOT_NEGATIVE,
    "balance.beta": SHARE,
    "balance.max_norm": NOT_NEGATIVE,
    "mixture.temperature": POSITIVE,
    "mixture.cap": AT_LEAST_ONE,
    "tokenizer.vocabulary": ("at least 257, the bytes and one merge", lambda value: value >= 257),
    "corpus.documents": AT_LEAST_ONE,
    "corpus.demonstrations": SHARE,
    "corpus.held_out": INSIDE,
    "corpus.clean.c4.min_words_per_line": NOT_NEGATIVE,
    "corpus.clean.c4.max_word_length": AT_LEAST_ONE,
    "corpus.clean.c4.min_sentences": NOT_NEGATIVE,
    "corpus.clean.gopher_quality.min_words": NOT_NEGATIVE,
    "corpus.clean.gopher_quality.max_words": AT_LEAST_ONE,
    "corpus.clean.gopher_quality.min_mean_word_length": NOT_NEGATIVE,
    "corpus.clean.gopher_quality.max_mean_word_length": POSITIVE,
    "corpus.clean.gopher_quality.max_symbols": NOT_NEGATIVE,
    "corpus.clean.gopher_quality.max_bullet_lines": SHARE,
    "corpus.clean.gopher_quality.max_ellipsis_lines": SHARE,
    "corpus.clean.gopher_quality.min_alphabetic_words": SHARE,
    "corpus.clean.gopher_quality.min_stop_words": (
        "from 0 to 8, the number of stop words there are",
        lambda value: 0 <= value <= 8,
    ),
    **{f"corpus.clean.gopher_repetition.{rule}": SHARE for rule in _REPETITION},
    "corpus.deduplicate.ngram": AT_LEAST_ONE,
    "corpus.deduplicate.threshold": ("more than 0 and at most 1", lambda value: 0 < value <= 1),
    "corpus.deduplicate.bands": AT_LEAST_ONE,
    "corpus.deduplicate.rows": AT_LEAST_ONE,
    "optimizer.learning_rate": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.epsilon": POSITIVE,
    "optimizer.warmup": SHARE,
    "optimizer.final": SHARE,
    "optimizer.clip": POSITIVE,
    "trainer.devices": AT_LEAST_ONE,
    "trainer.nodes": AT_LEAST_ONE,
    "trainer.threads": AT_LEAST_ONE,
    "budget.tokens": AT_LEAST_ONE,
    "budget.steps": AT_LEAST_ONE,
    "budget.epochs": POSITIVE,
    "pretrain.tokens": NOT_NEGATIVE,
    "pretrain.learning_rate": POSITIVE,
    "pretrain.layers": NOT_NEGATIVE,
    "diagnostics.every": AT_LEAST_ONE,
    "diagnostics.batch_tokens": AT_LEAST_ONE,
    "fraction": ("more than 0 and at most 1", lambda value: 0 < value <= 1),
    "batch.tokens": AT_LEAST_ONE,
    "batch.accumulate": AT_LEAST_ONE,
    "data.selection_rows": AT_LEAST_ONE,
    "data.selection_share": INSIDE,
    "evaluation.times": AT_LEAST_ONE,
    "evaluation.selection_rows": AT_LEAST_ONE,
    "evaluation.rows": AT_LEAST_ONE,
    "evaluation.batch_tokens": AT_LEAST_ONE,
    "evaluation.resamples": AT_LEAST_ONE,
    "record.every": AT_LEAST_ONE,
    "record.checkpoint_every": AT_LEAST_ONE,
    "rows": AT_LEAST_ONE,
    "shots": NOT_NEGATIVE,
    "samples": AT_LEAST_ONE,
    "max_new_tokens": AT_LEAST_ONE,
    "temperature": NOT_NEGATIVE,
    "top_k": AT_LEAST_ONE,
    "top_p": ("more than 0 and at most 1", lambda value: 0 < value <= 1),
    "batch": AT_LEAST_ONE,
    "n": AT_LEAST_ONE,
    "false_positive_rate": INSIDE,
    "batch_tokens": AT_LEAST_ONE,
    "resamples": AT_LEAST_ONE,
}
"""Range of each number: in words, and as a test."""


def broken_rules(schema: type, config: dict[str, Any]) -> list[Problem]:
    """Every rule that a mapping breaks; a value of a wrong type is left to the type check."""
    problems = [
        Problem(key, "range", found=value, expected=words)
        for key, (words, test) in RANGES.items()
        if _is_number(value := get(config, key)) and not test(value)
    ]
    for kind, rules in RULES.items():
        if issubclass(schema, kind):
            for rule in rules:
                problems.extend(rule(config))
    return problems


def get(config: Any, key: str) -> Any:
    """The value under a dotted key, or None."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _heads_divide_width(config: dict[str, Any]) -> Iterator[Problem]:
    if get(config, "decoder.trunk") == "lstm":
        return
    width, heads = get(config, "decoder.width"), get(config, "decoder.heads")
    if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads:
        yield Problem(
            "decoder.width", "range", width, f"a multiple of decoder.heads, which is {heads}"
        )


def _units_are_an_lstms(config: dict[str, Any]) -> Iterator[Problem]:
    units = get(config, "decoder.units")
    if units is not None and get(config, "decoder.trunk") != "lstm":
        yield Problem("decoder.units", "range", units, "null, unless decoder.trunk is lstm")


def _kept_layers_are_there(config: dict[str, Any]) -> Iterator[Problem]:
    kept, layers = get(config, "pretrain.layers"), get(config, "decoder.layers")
    if isinstance(kept, int) and isinstance(layers, int) and kept > layers:
        yield Problem(
            "pretrain.layers", "range", kept, f"at most decoder.layers, which is {layers}"
        )


def _one_budget(config: dict[str, Any]) -> Iterator[Problem]:
    budget = config.get("budget")
    if not isinstance(budget, dict):
        return
    units = ("tokens", "steps", "epochs", "like")
    given = {name: budget[name] for name in units if budget.get(name) is not None}
    if len(given) != 1:
        words = "exactly one of budget.tokens, budget.steps, budget.epochs and budget.like"
        yield Problem("budget", "range", given, words)


def _tasks_are_a_set(config: dict[str, Any]) -> Iterator[Problem]:
    tasks = config.get("tasks")
    if not isinstance(tasks, list):
        return
    if not tasks:
        yield Problem("tasks", "range", tasks, "a list of at least one task")
    elif len({str(task) for task in tasks}) < len(tasks):
        yield Problem("tasks", "range", tasks, "a list that names each task once")


def _tasks_bear_their_names(config: dict[str, Any]) -> Iterator[Problem]:
    tasks = config.get("task")
    for name, task in tasks.items() if isinstance(tasks, dict) else ():
        if isinstance(task, dict) and task.get("name") != name:
            words = f"'{name}', the name of the file, or be left out"
            yield Problem(f"task.{name}.name", "range", task.get("name"), words)


def _betas(config: dict[str, Any]) -> Iterator[Problem]:
    betas = get(config, "optimizer.betas")
    if not isinstance(betas, list) or not all(_is_number(beta) for beta in betas):
        return
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        words = "two numbers, each at least 0 and below 1"
        yield Problem("optimizer.betas", "range", betas, words)


def _named_part(key: str, kind: str, part: str) -> Callable[[dict[str, Any]], Iterator[Problem]]:
    def rule(config: dict[str, Any]) -> Iterator[Problem]:
        if get(config, f"{key}.kind") == kind and get(config, f"{key}.{part}") is None:
            yield Problem(f"{key}.{part}", "range", None, f"given where {key}.kind is {kind}")

    return rule


def _text_or_file(config: dict[str, Any]) -> Iterator[Problem]:
    given = {name: config[name] for name in ("text", "file") if config.get(name) is not None}
    if len(given) != 1:
        yield Problem("text", "range", given, "given, or file, and not both")


def _run_or_hf(config: dict[str, Any]) -> Iterator[Problem]:
    given = {name: config[name] for name in ("run", "hf") if config.get(name) is not None}
    if len(given) != 1:
        yield Problem("run", "range", given, "given, or hf, and not both")


def _prompt_or_file(config: dict[str, Any]) -> Iterator[Problem]:
    given = {name: config[name] for name in ("prompt", "file") if config.get(name) is not None}
    if len(given) > 1:
        yield Problem("prompt", "range", given, "given, or file, and not both")


def _sampled(config: dict[str, Any]) -> Iterator[Problem]:
    """Settings that change nothing where nothing is drawn are mistakes, not settings."""
    if config.get("temperature") != 0:
        return
    for key in ("top_k", "top_p"):
        if config.get(key) is not None:
            words = "null where temperature is 0, which takes the likeliest token"
            yield Problem(key, "range", config[key], words)
    samples = config.get("samples")
    if isinstance(samples, int) and samples > 1:
        words = "1 where temperature is 0: a prompt has one likeliest continuation"
        yield Problem("samples", "range", samples, words)


def _stop_texts_are_texts(config: dict[str, Any]) -> Iterator[Problem]:
    stop = config.get("stop")
    if isinstance(stop, list) and "" in stop:
        yield Problem("stop", "range", stop, "a list of texts, none of them empty")


def _prompt_is_a_text(config: dict[str, Any]) -> Iterator[Problem]:
    if config.get("prompt") == "":
        words = "a text, or be left out to write a document from its beginning"
        yield Problem("prompt", "range", "", words)


def _files_where_files_are_read(config: dict[str, Any]) -> Iterator[Problem]:
    reads_files = get(config, "corpus.kind") == "files"
    files = get(config, "corpus.files")
    if reads_files and not files:
        words = "a list of at least one file or pattern where corpus.kind is files"
        yield Problem("corpus.files", "range", files or [], words)
    elif not reads_files and files:
        yield Problem("corpus.files", "range", files, "left out unless corpus.kind is files")
    for part in ("url", "exclude_domains"):
        found = get(config, f"corpus.{part}")
        if found and get(config, "corpus.kind") not in ("files", "source"):
            words = "left out unless corpus.kind is files or source"
            yield Problem(f"corpus.{part}", "range", found, words)


CORPUS = (_named_part("corpus", "source", "source"), _files_where_files_are_read)

RULES: dict[type, tuple[Callable[[dict[str, Any]], Iterator[Problem]], ...]] = {
    FitConfig: (
        _heads_divide_width,
        _units_are_an_lstms,
        _kept_layers_are_there,
        _one_budget,
        _tasks_are_a_set,
        mixture_fits,
        fraction_names_tasks,
        balance_fits,
        _tasks_bear_their_names,
        _betas,
        _named_part("tokenizer", "folder", "folder"),
        *CORPUS,
    ),
    EvaluateConfig: (_run_or_hf, _tasks_are_a_set, _tasks_bear_their_names),
    PredictConfig: (_text_or_file,),
    GenerateConfig: (
        _run_or_hf,
        _prompt_or_file,
        _prompt_is_a_text,
        _sampled,
        _stop_texts_are_texts,
    ),
    PrepareConfig: (_named_part("tokenizer", "folder", "folder"), *CORPUS),
    OverlapConfig: (_tasks_are_a_set, _tasks_bear_their_names, *CORPUS),
}
