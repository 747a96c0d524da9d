"""What ``--help`` prints: the command, its groups and choices, its keys, and examples."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from omegaconf import OmegaConf

from mtl.config import lines
from mtl.config.complete import strategy_keys
from mtl.config.composition import Composition
from mtl.config.errors import UserError
from mtl.config.keys import REQUIRED, Key, as_dataclass, fields, keys, short, show
from mtl.config.strategies import find_strategies

EXAMPLES = {
    "python -m mtl.fit": (
        "strategy=task_signal",
        "strategy=mt_dnn suite=glue data.root=DIR decoder=tiny budget.tokens=2e6 seed=3",
        "tasks=[sst2,mrpc] --config-dir DIR        with tasks of your own in DIR/task/NAME.yaml",
        "strategy=mt_dnn,task_signal seed=0,1 --multirun",
        "resume=RUN_DIR                            go on where it stopped",
        "--config-dir RUN_DIR --config-name config repeat a run",
    ),
    "python -m mtl.evaluate": (
        "run=RUN_DIR",
        "run=RUN_DIR tasks=[lambada,wsc273_partial] data.root=DIR",
        "hf=FOLDER tasks=[sst2,copa] prompts=all  a language model, asked in every wording of the prompt",
        "hf=FOLDER tasks=[multi30k] shots=4       few-shot, and called so",
        "hf=FOLDER tasks=[lambada] overlap=overlap.json",
    ),
    "python -m mtl.predict": (
        "run=RUN_DIR task=sst2 text='A fine film, truly.'",
        "run=RUN_DIR task=rte 'text={premise: It rains., hypothesis: It is wet.}'",
        "run=RUN_DIR task=sst2 file=rows.jsonl",
    ),
    "python -m mtl.generate": (
        "run=RUN_DIR                               write a document from its beginning",
        "run=RUN_DIR prompt='Tom is cold.' samples=3 seed=1",
        "hf=gpt2 prompt='It rained. TL;DR:' top_k=2 max_new_tokens=100",
        "run=RUN_DIR prompt='Q: Who is cold? A:' temperature=0 'stop=[\"Q:\"]'",
        "run=RUN_DIR file=prompts.txt out=texts.jsonl",
    ),
    "python -m mtl.prepare overlap": (
        "corpus=gutenberg tasks=[lambada,ptb] data.root=DIR",
        "corpus=gutenberg tasks=[lambada] out=overlap.json",
    ),
    "python -m mtl.prepare": (
        "corpus=gutenberg data.root=DIR",
        "corpus=files corpus.files=[DIR/*.jsonl.zst] corpus.url=url",
        "corpus=files corpus.files=[a.txt,b.txt] corpus.clean.c4=null tokenizer.vocabulary=16000",
        "overlap --help                            which test rows a corpus holds",
    ),
    "python -m mtl.study": (
        "study=paradigms                           in half an hour on two cores, without a download",
        "study=paradigms suite=glue data.root=DIR budget.tokens=5e6    settings of mtl.fit go to every run",
        "study=paradigms size=full workers=8       at size",
        "study=mine --config-dir DIR               with a study of your own in DIR/study/mine.yaml",
        "study=paradigms storage=postgresql+psycopg://user@host/base    on every machine that joins",
    ),
    "python -m mtl.report": (
        "study=paradigms                           the page of runs/study-paradigms",
        "study=DIR out=page",
    ),
    "python -m mtl.export": (
        "run=RUN_DIR to=DIR                        then AutoModelForCausalLM.from_pretrained(DIR)",
        "run=RUN_DIR to=DIR checkpoint=last",
    ),
}


def help_text(composition: Composition, schema: type, *, command: str, describe: str) -> str:
    """The whole help of a command."""
    sections = [f"{describe}\n\n  {command} KEY=VALUE ..."]
    if examples := EXAMPLES.get(command):
        sections.append("\n".join(["Examples", *(f"  {command} {line}" for line in examples)]))
    names = {field.name for field in fields(schema)}
    groups = [group for group in composition.groups() if group in names or _plural(group) in names]
    if groups:
        lists = [line for group in groups for line in ["", *describe_group(composition, group)]]
        sections.append("\n".join(["Choices", *lists[1:]]))
    sections.append("\n".join(["Keys", *_describe_keys(composition, schema)]))
    sections.append(
        "Flags\n"
        "  --cfg job [--resolve]   print the configuration and do nothing\n"
        "  --multirun, -m          one run for each value: seed=0,1,2\n"
        "  --config-dir DIR        add a folder of your own configs\n"
        "  --config-name NAME      compose another primary config\n"
        "  --info [searchpath]     what Hydra knows; --hydra-help for the rest\n"
        "  -sc install=bash        tab completion\n"
        "\n"
        "What there is, and your recent runs: python -m mtl"
    )
    return "\n\n".join(sections)


def describe_group(composition: Composition, group: str, *, settings: bool = True) -> Iterator[str]:
    """The choices of a group, one line each, under the place they come from."""
    for place, names in composition.options(group).items():
        yield f"  {group}=  from {place}"
        width = max(map(len, names))
        for name in names:
            text = describe_choice(composition, group, name)
            yield _line(f"    {name:<{width}}  ", text).rstrip()
            for key in strategy_keys(name) if settings and group == "strategy" else ():
                yield _line(f"    {'':<{width}}    {key.name}: ", _about(key))


def describe_choice(composition: Composition, group: str, name: str) -> str:
    """One line about a choice: a strategy's first docstring line, a file's description or first comment."""
    if group == "strategy" and (found := find_strategies().get(name)) is not None:
        try:
            return found.description
        except (UserError, OSError):
            return "(its file cannot be read)"
    file = composition.file_of(f"{group}/{name}")
    if file is None:
        return ""
    place = lines.find(file, ["description"])
    return place.text if place is not None and place.text else lines.first_comment(file)


def _describe_keys(composition: Composition, schema: type) -> Iterator[str]:
    found = OmegaConf.to_container(composition.compose([]), resolve=False)
    defaults = found if isinstance(found, dict) else {}
    for field in fields(schema):
        if (
            field.name == "task"
            and as_dataclass(field.type) is None
            and "mapping" in short(field.type)
        ):
            yield _line(
                "  task.NAME.KEY: ",
                "any key of a chosen task's definition, such as task.sst2.metrics=[accuracy]",
            )
            continue
        inner = as_dataclass(field.type)
        for key in keys(inner, f"{field.name}.") if inner is not None else (field,):
            default = defaults
            for part in key.name.split("."):
                default = default.get(part, REQUIRED) if isinstance(default, dict) else REQUIRED
            yield _line(f"  {key.name}: ", _about(key, default))


def _about(key: Key, default: object = REQUIRED) -> str:
    value = key.default if default is REQUIRED else default
    shown = "required" if value is REQUIRED or value == "???" else f"default {show(value)}"
    return f"{short(key.type)}, {shown}. {key.help}".rstrip()


def _line(head: str, text: str) -> str:
    width = min(120, max(60, shutil.get_terminal_size((110, 40)).columns))
    return (
        textwrap.fill(text, width, initial_indent=head, subsequent_indent=" " * 6) if text else head
    )


def _plural(group: str) -> str:
    return f"{group}s"
