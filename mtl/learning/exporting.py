"""What an exported run holds beside its decoders: how each task is asked, and the heads that answer it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mtl.data.vocabulary import Vocabulary
from mtl.learning.asked import Asked
from mtl.learning.san import StochasticAnswerNetwork
from mtl.learning.strategy import Strategy
from mtl.tasks.closed import score_values
from mtl.tasks.reading import score_texts
from mtl.tasks.task import Task

DESCRIPTION, WEIGHTS = "heads.json", "heads.safetensors"
FORMAT = 1


def unspoken(strategy: Strategy, tasks: Sequence[Task]) -> tuple[int, ...]:
    """Special tokens that no text and no answer to these tasks contains."""
    vocabulary = strategy.vocabulary
    asked = [strategy.asked(task) for task in tasks]
    words = {word for one in asked if one is not None for word in one.words}
    special = range(vocabulary.base_size, vocabulary.size)
    return tuple(token for token in special if token != vocabulary.end and token not in words)


def beginning(strategy: Strategy) -> int:
    """The token that begins what the decoder was trained on last: running text, or rows of tasks."""
    vocabulary = strategy.vocabulary
    return vocabulary.end if strategy.reads == "corpus" else vocabulary.start


def save_heads(strategy: Strategy, tasks: Sequence[Task], folder: Path) -> dict[str, Any] | None:
    """Write ``heads.json``, and ``heads.safetensors`` where there are weights beside the decoder.

    Nothing is written for a strategy that reads running text: its tasks are prompts.

    :param tasks: Tasks the run was trained on that this folder's decoder answers.
    :return: The content of heads.json; None where nothing was written.
    """
    asked = {task.name: strategy.asked(task) for task in tasks}
    known = {name: one for name, one in asked.items() if one is not None}
    if strategy.reads == "corpus" or not known:
        return None
    vocabulary, context = strategy.vocabulary, strategy.decoder.context
    weights: dict[str, Tensor] = {}
    heads: dict[str, dict[str, Any]] = {}
    described = {}
    for task in tasks:
        if (one := known.get(task.name)) is None:
            continue
        described[task.name] = _described(task, one, vocabulary, context)
        if one.head is not None and one.head_name not in heads:
            heads[one.head_name] = _head(one.head)
            weights |= {f"{one.head_name}.{k}": v for k, v in one.head.state_dict().items()}
        if one.vector is not None:
            weights[f"{task.name}.vector"] = one.vector
    content = {
        "format": FORMAT,
        "context": context,
        "tokens": {
            "start": vocabulary.start,
            "delimiter": vocabulary.delimiter,
            "extract": vocabulary.extract,
            "end": vocabulary.end,
        },
        "unspoken": list(unspoken(strategy, ())),
        "tasks": described,
        "heads": heads,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    if weights:
        plain = {k: v.detach().cpu().to(torch.float32).contiguous() for k, v in weights.items()}
        save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})
    return content


def _described(task: Task, asked: Asked, vocabulary: Vocabulary, context: int) -> dict[str, Any]:
    """One task of heads.json."""
    config = task.config
    names: list[str] | list[float] = list(config.labels) if task.kind != "multiple_choice" else []
    candidates = None
    if asked.head is None and task.kind not in ("multiple_choice",) and not task.is_open:
        answers = score_texts(*config.range) if task.kind == "regression" else config.answers
        if task.kind == "regression":
            names = score_values(task, len(answers)).tolist()
        if asked.words:
            candidates = [[word, vocabulary.end] for word in asked.words]
        else:
            longest = context // 2 - 1
            candidates = [[*vocabulary.encode(a)[:longest], vocabulary.end] for a in answers]
    return {
        "kind": task.kind,
        "names": names,
        "range": list(config.range),
        "max_answer_tokens": config.max_answer_tokens,
        "pieces": asked.pieces,
        "templates": list(config.segments if asked.pieces == "segments" else config.prompt),
        "choices": config.choices,
        "opening": list(asked.layout.opening),
        "separator": asked.layout.separator,
        "closing": list(asked.layout.closing),
        "candidates": candidates,
        "both_orders": asked.both_orders,
        "head": asked.head_name if asked.head is not None else None,
        "vector": f"{task.name}.vector" if asked.vector is not None else None,
    }


def _head(head: nn.Module) -> dict[str, Any]:
    if isinstance(head, StochasticAnswerNetwork):
        return {"kind": "stochastic_answer_network", "steps": head.steps}
    return {"kind": "linear" if isinstance(head, nn.Linear) else type(head).__name__}


def in_words(task: Task, asked: Asked, vocabulary: Vocabulary) -> str:
    """How a row of the task is written and read out, as one line of Markdown; columns stand in braces."""
    config, layout = task.config, asked.layout
    pieces = config.segments if asked.pieces == "segments" else config.prompt
    separator = () if layout.separator is None else (layout.separator,)
    row = _shown(layout.opening, vocabulary)
    row += _shown(separator, vocabulary).join(pieces)
    row += _shown(layout.closing, vocabulary)
    text = f"{_code(row)}; {_read_out(task, asked, vocabulary)}"
    if asked.both_orders:
        text += "; both orders of the two are read, and their states added"
    if asked.vector is not None:
        text += "; a vector of the task is added to the embedding of every token"
    return text


def _read_out(task: Task, asked: Asked, vocabulary: Vocabulary) -> str:
    end = vocabulary.token_of(vocabulary.end)
    if task.is_open:
        how = "" if asked.head is None else f" through head {asked.head_name}"
        return f"the answer is written behind it{how}, and ends in `{end}`"
    if asked.head is None:
        if asked.words:
            answers = ", ".join(_code(_shown((word,), vocabulary)) for word in asked.words)
        elif task.kind == "multiple_choice":
            answers = "the choices, each with a blank before it"
        elif task.kind == "regression":
            texts = score_texts(*task.config.range)
            answers = f"{_code(texts[0])} to {_code(texts[-1])} in {len(texts)} steps"
        else:
            answers = ", ".join(_code(answer) for answer in task.config.answers)
        return f"the answer is the likeliest continuation, with `{end}` at its end, of: {answers}"
    if isinstance(asked.head, StochasticAnswerNetwork):
        return f"head {asked.head_name}, a stochastic answer network, reads the states of both segments"
    last = vocabulary.token_of(vocabulary.extract)
    if task.kind == "multiple_choice":
        return f"each choice and `{last}` stand behind it, and head {asked.head_name} reads the last state of each"
    return f"head {asked.head_name} reads the last state"


def _shown(ids: Sequence[int], vocabulary: Vocabulary) -> str:
    text, plain = "", list[int]()
    for number in ids:
        if (token := vocabulary.token_of(number)) is None:
            plain.append(number)
        else:
            text, plain = text + vocabulary.decode(plain) + token, []
    return text + vocabulary.decode(plain)


def _code(text: str) -> str:
    """A code span on one line."""
    line = text.replace("\\", "\\\\").replace("\n", "\\n")
    fence = "``" if "`" in line else "`"
    return f"{fence}{line}{fence}"
