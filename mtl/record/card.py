"""The model card of an exported run: README.md with the hub's header, filled from the record of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.config.schema import FitConfig, TaskConfig
from mtl.record.numbers import count
from mtl.record.summary import Summary
from mtl.record.table import costs, lines, notes

HUB_TASKS = {
    "classification": "text-classification",
    "pair_classification": "text-classification",
    "regression": "text-classification",
    "multiple_choice": "multiple-choice",
    "ranking": "text-ranking",
    "generation": "text-generation",
    "language_modelling": "text-generation",
}
"""The hub's name of each kind of task; it has none for scores, which it counts among classifications."""

LOAD = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this card lies
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)"""

CONTINUE = """from transformers import pipeline

write = pipeline("text-generation", model=folder, tokenizer=tokenizer)
print(write("Once", max_new_tokens=20)[0]["generated_text"])"""


@dataclass(frozen=True)
class Card:
    """What a card is filled from."""

    name: str
    """Of the model, as results are listed under it."""
    run: str
    """Name of the run folder."""
    config: FitConfig
    summary: Summary
    """The run's, with the tasks that this folder's decoder answers."""
    checkpoint: str
    """Which checkpoint was exported: ``best`` or ``last``."""
    vocabulary: int
    """Tokens V that the decoder knows."""
    beginning: str = ""
    """The special token that sequences begin with."""
    asked: Mapping[str, str] = field(default_factory=dict)
    """How a row of each task is written, and how it is read out, in words."""
    loader: str = ""
    """Source of the class that answers rows; empty where there is none."""
    parts: Sequence[str] = ()
    """Folders of the decoders, where each task has its own; this card then has none beside it."""


def of_tasks(summary: Summary, names: Sequence[str]) -> Summary:
    """What a summary says of some of the run's tasks."""
    scores = {name: summary["tasks"][name] for name in names}
    overlap = [one for one in summary.get("overlap", []) if one["evaluation_task"] in names]
    return {**summary, "tasks": scores, "overlap": overlap}


def model_card(card: Card) -> str:
    """The text of README.md."""
    sections = [
        _header(card),
        f"# {card.name}\n\n{_opening(card)}",
        f"## Training\n\n{_training(card)}",
        f"## Scores\n\n{_scores(card)}",
        f"## Limits\n\n{_limits(card)}",
    ]
    if card.parts:
        folders = "\n".join(f"- [{part}]({part}/README.md)" for part in card.parts)
        sections.append(f"## Decoders\n\nEach task has a decoder of its own:\n\n{folders}")
    else:
        sections += [f"## Use\n\n{_use(card)}", *([_tasks(card)] if card.asked else [])]
    sections += [f"## Record\n\n{_record(card)}", f"## Licence\n\n{_licence(card)}"]
    return "\n\n".join(sections) + "\n"


def _header(card: Card) -> str:
    """YAML between two rules, in the form of the hub's model index."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for name, scores in card.summary["tasks"].items():
        task = card.config.task[name]
        ordered = sorted(scores["metrics"], key=lambda metric: metric != scores["primary"])
        for metric in ordered:
            value = scores["metrics"][metric]
            if value["value"] is None:
                continue
            ends = {"low": value.get("low"), "high": value.get("high")}
            results.append(
                EvalResult(
                    task_type=HUB_TASKS[task.kind],
                    task_name=name,
                    dataset_type=_dataset(task),
                    dataset_name=name,
                    dataset_config=task.source.hub.name if task.source.hub else None,
                    dataset_split=scores["split"],
                    metric_type=metric,
                    metric_name=metric,
                    metric_value=value["value"],
                    metric_args=ends if None not in ends.values() else None,
                )
            )
    hub = [task.source.hub.path for task in card.config.task.values() if task.source.hub]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["mtl", "multi-task-learning", card.summary["strategy"]],
        datasets=list(dict.fromkeys(hub)) or None,
        model_name=card.name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _dataset(task: TaskConfig) -> str:
    source = task.source
    if source.hub is not None:
        return source.hub.path
    return source.folder or f"microworld/{source.microworld}"


def _opening(card: Card) -> str:
    decoder = card.config.decoder
    total = card.summary["ledger"]["parameters"]["total"]
    kind = "GPT-2" if decoder.norm == "pre" else "OpenAI GPT"
    whose = "A decoder for each task" if card.parts else "A decoder"
    unlabelled = card.summary.get("panel") == "zero-shot"
    learned = "as a language model on running text" if unlabelled else "on several tasks"
    if len(card.config.tasks) == 1 and not unlabelled:
        learned = f"on the task {card.config.tasks[0]}"
    return (
        f"{whose} of the {kind} kind ({decoder.layers} layers, width {decoder.width}, {decoder.heads} heads, context "
        f"{decoder.context}, {card.vocabulary} tokens), trained {learned} with the paradigm "
        f"`{card.summary['strategy']}`. {count(total)} parameters in all."
    )


def _training(card: Card) -> str:
    config, summary = card.config, card.summary
    ledger = summary["ledger"]
    rows = ["| data | kind | source | rows | tokens |", "|---|---|---|---|---|"]
    for name, tokens in ledger["tokens_by_task"].items():
        task = config.task.get(name)
        kind, source = (task.kind, _dataset(task)) if task else ("running text", _corpus(config))
        trained = summary["data"].get(name, {"rows": {}})["rows"].get("train", 0)
        rows.append(f"| {name} | {kind} | {source} | {trained} | {tokens} |")
    settings = [f"{key}={value}" for key, value in config.strategy.items() if key != "name"]
    facts = {
        "strategy": ", ".join([summary["strategy"], *settings]),
        "balance": summary["balance"],
        "mixture": config.mixture.name,
        "budget": ", ".join(
            f"{getattr(config.budget, unit)} {unit}"
            for unit in ("tokens", "steps", "epochs")
            if getattr(config.budget, unit) is not None
        )
        or f"as in the run {_plain(config.budget.like)}",
        "seed": summary["seed"],
        "start": _plain(config.init_from or config.decoder.pretrained) or "weights drawn anew",
        "pretraining": f"{ledger['pretraining_tokens']} tokens before these",
        "tokenizer": f"{config.tokenizer.name}, {card.vocabulary} tokens with the special ones",
        "checkpoint": card.checkpoint,
    }
    cost = [line for line in costs(summary, card.run) if not line.startswith("run folder")]
    listed = [f"- {key}: {value}" for key, value in facts.items()]
    return "\n".join([*rows, "", *listed, *(f"- {' '.join(line.split())}" for line in cost)])


def _plain(place: str | None) -> str:
    """A folder's name without the places above it, which are the person's own; a name on the hub as it is."""
    if place is None or not Path(place).expanduser().exists():
        return place or ""
    return Path(place).expanduser().resolve().name


def _corpus(config: FitConfig) -> str:
    source = config.corpus.source
    if source is None:
        return f"corpus {config.corpus.name}"
    return source.hub.path if source.hub else str(source.folder)


def _scores(card: Card) -> str:
    tasks = card.summary["tasks"]
    found = list(lines(tasks))
    baselines = [
        heading
        for key, heading in (("majority", "majority"), ("bag_of_words", "bag of words"))
        if any(task.get(key) is not None for task in tasks.values())
    ]
    headings = ["task", "metric", "value [95 % interval]", "chance", *baselines, "rows"]
    table = [_row(headings), _row(["---"] * len(headings))]
    for line in found:
        texts = [line.task, line.metric.replace("*", "\\*"), line.value, *line.references]
        table.append(_row([*texts, line.rows]))
    reported = card.config.evaluation.checkpoint
    if reported != card.checkpoint:
        table += [
            "",
            f"These are scores of the {reported} checkpoint; the weights here are the {card.checkpoint}.",
        ]
    return "\n".join(table)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _limits(card: Card) -> str:
    shown = [note.replace("* primary", "\\* primary") for note in notes(card.summary)]
    context = card.config.decoder.context
    own = [
        f"the decoder reads at most {context} tokens; longer rows were cut",
        "intervals say how sure a score is given these weights, not what another seed would give",
    ]
    return "\n".join(f"- {note}" for note in [*own, *shown])


def _use(card: Card) -> str:
    return "\n".join(
        [
            "```python",
            LOAD,
            "```",
            "",
            f"Sequences begin with `{card.beginning}` (`bos_token`), which the tokenizer adds where it is loaded with "
            "`add_bos_token=True`. Texts end with `<|endoftext|>` (`eos_token`). Special tokens are never read out of "
            "a text: `<|endoftext|>` in a prompt is 13 characters (`split_special_tokens`).",
            "",
            "```python",
            CONTINUE,
            "```",
            "",
            "```sh",
            "lm_eval --model hf --model_args pretrained=FOLDER,add_bos_token=True --tasks TASK",
            "```",
        ]
    )


def _tasks(card: Card) -> str:
    asked = "\n".join(f"- {name}: {how}" for name, how in card.asked.items())
    text = f"## Tasks\n\nHow a row is written, with the columns of its data in braces, and read out:\n\n{asked}"
    if not card.loader:
        return text
    return "\n".join(
        [
            text,
            "",
            "`heads.json` says the same in token ids, `heads.safetensors` has the weights beside the decoder, where "
            "there are any. They are read by `mtl.export.load_heads`, or without mtl by this:",
            "",
            "<details><summary>the class TaskHeads</summary>",
            "",
            "```python",
            card.loader.strip(),
            "```",
            "",
            "</details>",
            "",
            "```python",
            "heads = load_heads(folder, model, tokenizer)",
            *_examples(card),
            "```",
        ]
    )


def _examples(card: Card) -> Iterator[str]:
    for name in card.asked:
        task = card.config.task[name]
        if task.kind == "language_modelling":
            continue
        words = ", ".join(f'"text {number}"' for number, _ in enumerate(task.segments, start=1))
        chosen = (
            ', choices=["one", "another"]' if task.kind in ("multiple_choice", "ranking") else ""
        )
        yield f'print(heads.answer("{name}", {words}{chosen}))'


def _record(card: Card) -> str:
    summary = card.summary
    git = summary["git"]
    commit = git["commit"] or "unknown"
    state = ", the code differed from it" if git["dirty"] else ""
    found: dict[str, Any] = {
        "run": card.run,
        "commit of mtl": f"{commit}{state}",
        "versions": ", ".join(f"{key} {value}" for key, value in summary["versions"].items()),
    }
    for name, data in summary["data"].items():
        found[f"rows of {name}"] = f"fingerprint {data['fingerprint']}"
    return "\n".join(f"- {key}: {value}" for key, value in found.items())


def _licence(card: Card) -> str:
    return (
        "None is given here. What the weights may be used for is for the licences of the data above to say, and for "
        "whoever trained them."
    )
