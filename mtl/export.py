"""Write a finished run as a Hugging Face folder: decoder, tokenizer, heads and a model card.

python -m mtl.export run=RUN_DIR to=DIR
python -m mtl.export run=RUN_DIR to=DIR checkpoint=last
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.config.command_line import command
from mtl.config.errors import UserError
from mtl.config.verb_schema import ExportConfig

if TYPE_CHECKING:
    from mtl.decoder.gpt import Decoder
    from mtl.learning.strategy import Strategy
    from mtl.learning.task_heads import TaskHeads
    from mtl.record.card import Card

CARD = "README.md"
FREE = "name a folder that does not exist yet, or an empty one"
DESCRIPTION = "Write a finished run as a Hugging Face folder, with a model card."


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> list[Path]:
    """The command from Python: ``run(["run=RUN_DIR", "to=DIR"])`` returns the folders that can be loaded."""
    from mtl.config.compose import compose

    return export(compose("export", ExportConfig, overrides, config_dir=config_dir))


def load_heads(folder: str | Path, model: Any, tokenizer: Any) -> TaskHeads:
    """The heads of an exported folder, which answer rows as the run did.

    :param model: ``transformers.AutoModelForCausalLM.from_pretrained(folder)``.
    :param tokenizer: ``transformers.AutoTokenizer.from_pretrained(folder)``.
    """
    from mtl.learning import task_heads

    return task_heads.load_heads(folder, model, tokenizer)


def export(config: ExportConfig) -> list[Path]:
    """Write the folder in one step: it is there whole, or not at all.

    :return: The folders with a decoder: the one named, or one in it for each task, where each has its own decoder.
    :raises UserError: A run that has not come to its end, a checkpoint that does not fit its tokenizer, a decoder that
        transformers has no model for, or a folder that is in use.
    """
    target = Path(os.path.abspath(Path(config.to).expanduser()))
    _check_place(target, f"to={config.to}")
    from mtl.assembly import restore, written
    from mtl.decoder.huggingface import check_exportable
    from mtl.record.card import Card, model_card
    from mtl.record.folder import RunFolder
    from mtl.record.progress import Progress
    from mtl.record.summary import read_summary

    folder = RunFolder.open(config.run, where=f"run={config.run}")
    summary = read_summary(folder)
    best = config.checkpoint == "best" and folder.best_checkpoint.is_file()
    with Progress() as progress, progress.stage("loading the run"):
        checkpoint = folder.best_checkpoint if best else folder.last_checkpoint
        fitted, strategy = restore(folder.path, checkpoint)
    decoders = strategy.decoders()
    with written(f"run={config.run}", config.run):
        for decoder in decoders.values():
            check_exportable(decoder)
    card = Card(
        name=target.name,
        run=folder.path.name,
        config=fitted,
        summary=summary,
        checkpoint="best" if best else "last",
        vocabulary=strategy.vocabulary.size,
        parts=[name for name in decoders if name],
    )
    with _whole(target, f"to={config.to}") as building:
        for name, decoder in decoders.items():
            _write(building / name, strategy, decoder, name, card)
        if card.parts:
            (building / CARD).write_text(model_card(card), encoding="utf-8")
    return [target / name for name in decoders]


def _write(folder: Path, strategy: Strategy, decoder: Decoder, name: str, card: Card) -> None:
    """One decoder with all that belongs to it.

    :param name: The task whose decoder it is; empty where all tasks share it.
    """
    from mtl.decoder.huggingface import Writing, save_pretrained
    from mtl.learning import task_heads
    from mtl.learning.exporting import beginning, in_words, save_heads, unspoken
    from mtl.record.card import model_card, of_tasks
    from mtl.tasks.task import Task

    vocabulary = strategy.vocabulary
    names = [name] if name else card.config.tasks
    tasks = [Task.without_rows(card.config.task[task]) for task in names]
    first = beginning(strategy)
    save_pretrained(decoder, folder, Writing(first, vocabulary.end, unspoken(strategy, tasks)))
    vocabulary.save(folder, beginning=first, context=decoder.context)
    has_heads = save_heads(strategy, tasks, folder)
    asked = {task.name: (task, strategy.asked(task)) for task in tasks}
    one = replace(
        card,
        name=f"{card.name}/{name}" if name else card.name,
        summary=of_tasks(card.summary, names),
        beginning=str(vocabulary.token_of(first)),
        asked={
            task: in_words(of, how, vocabulary)
            for task, (of, how) in asked.items()
            if how is not None
        },
        loader=Path(task_heads.__file__).read_text(encoding="utf-8") if has_heads else "",
        parts=(),
    )
    (folder / CARD).write_text(model_card(one), encoding="utf-8")


def _check_place(target: Path, where: str) -> None:
    """Refuse a place where no folder can be written, before the work is done."""
    existing = next(place for place in (target, *target.parents) if place.exists())
    if not existing.is_dir():
        raise UserError(f"{existing} is a file", where=where, hints=[FREE])
    if existing == target and any(target.iterdir()):
        raise UserError(f"{target} is not empty", where=where, hints=[FREE])
    if not os.access(existing, os.W_OK):
        raise UserError(f"{existing} cannot be written to", where=where)


@contextmanager
def _whole(target: Path, where: str) -> Iterator[Path]:
    """A folder beside ``target`` that takes its place when all is written, and goes where anything fails."""
    building = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        building.mkdir(parents=True)
        yield building
        building.rename(target)
    except OSError as error:
        problem = f"{target} cannot be written: {error.strerror or error}"
        raise UserError(problem, where=where) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _execute(config: ExportConfig) -> None:
    for folder in export(config):
        files = sorted(path.name for path in folder.iterdir())
        print(f"{folder}\n  {', '.join(files)}")
        print(f"  AutoModelForCausalLM.from_pretrained({str(folder)!r})")


def main() -> None:
    """The command line."""
    command("export", ExportConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
