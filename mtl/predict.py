"""Answer one input, or a file of them, with a finished run; one JSON object a line comes out.

python -m mtl.predict run=RUN_DIR task=sst2 text='a fine film'
python -m mtl.predict run=RUN_DIR task=rte text='{premise: It rained., hypothesis: It was wet.}'
python -m mtl.predict run=RUN_DIR task=rte file=rows.jsonl
cat rows.jsonl | python -m mtl.predict run=RUN_DIR task=rte file=-
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtl.config.command_line import command
from mtl.config.errors import UserError, unknown_name
from mtl.config.schema import FitConfig, TaskConfig
from mtl.config.verb_schema import PredictConfig

if TYPE_CHECKING:
    from mtl.tasks.task import Answer, Example

DESCRIPTION = "Answer one input, or a file of them, with a finished run."
ROWS_AT_ONCE = 256


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> list[dict[str, Any]]:
    """The command from Python: ``run(["run=RUN_DIR", "text='a fine film'"])`` returns one answer per input."""
    from mtl.config.compose import compose

    return list(predict(compose("predict", PredictConfig, overrides, config_dir=config_dir)))


def predict(config: PredictConfig) -> Iterator[dict[str, Any]]:
    """Answers in the order of the inputs, as plain values.

    :raises UserError: a task the run does not know, inputs that lack a column, a bad file (file and row).
    """
    from mtl.assembly import restore
    from mtl.record.folder import RunFolder
    from mtl.tasks.reading import Reader
    from mtl.tasks.task import Task

    folder = RunFolder.open(config.run, where=f"run={config.run}")
    best = config.checkpoint == "best" and folder.best_checkpoint.is_file()
    fitted, strategy = restore(
        folder.path, folder.best_checkpoint if best else folder.last_checkpoint
    )
    definition = _definition(config, fitted)
    task, reader = Task.without_rows(definition), Reader(definition)
    examples = [reader.ask(name, row) for name, row in _inputs(config, reader)]
    for begin in range(0, len(examples), ROWS_AT_ONCE):
        chunk = examples[begin : begin + ROWS_AT_ONCE]
        for example, answer, cut in zip(chunk, *_answers(strategy, task, chunk), strict=True):
            shown = _shown(definition, example, answer)
            yield {**shown, "tokens_cut": cut} if cut else shown


def _answers(strategy: Any, task: Any, examples: list[Example]) -> tuple[list[Answer], list[int]]:
    """An answer to each example, and how many of its tokens lay beyond the context."""
    from mtl.data.store import EncodedSplit
    from mtl.learning.evaluation import answer_split

    if strategy.reads == "corpus":
        return _asked(strategy, task, examples)
    vocabulary, context = strategy.vocabulary, strategy.decoder.context
    store = EncodedSplit.build(
        examples,
        lambda example: strategy.encode(example, task, vocabulary, context, "answer"),
    )
    cut = [store[index].cut for index in range(len(store))]
    return answer_split(strategy, task, store, batch_tokens=8192), cut


def _asked(strategy: Any, task: Any, examples: list[Example]) -> tuple[list[Answer], list[int]]:
    """As :func:`_answers`, of a language model that is asked by the task's protocol."""
    from mtl.learning.evaluation import evaluating
    from mtl.scoring.asking import Asking, ask
    from mtl.tasks.task import Split

    with evaluating(strategy):
        split = Split("inputs", tuple(examples), "")
        asked = ask(strategy.decoder, strategy.vocabulary, task, split, Asking())
    return asked.answers, asked.cut


def _definition(config: PredictConfig, fitted: FitConfig) -> TaskConfig:
    asked = {name: task for name, task in fitted.task.items() if task.kind != "language_modelling"}
    if config.task is None:
        if len(asked) != 1:
            raise UserError(
                f"the run has {len(asked)} tasks; which one is asked",
                where="task=",
                hints=[f"task=NAME, of: {', '.join(asked)}"],
            )
        return next(iter(asked.values()))
    if config.task not in asked:
        raise unknown_name("task of this run", config.task, asked, where=f"task={config.task}")
    return asked[config.task]


def _inputs(config: PredictConfig, reader: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if (config.text is None) == (config.file is None):
        raise UserError(
            "give one input by text=, or many by file=", hints=["file=- reads standard input"]
        )
    from mtl.tasks.inputs import given_rows

    if config.text is not None:
        yield "text", _row(config.text, reader, "text=")
        return
    for where, given in given_rows(str(config.file), sys.stdin):
        # The line that ends a text typed by hand asks nothing.
        if config.file != "-" or not isinstance(given, str) or given.strip():
            yield where, _row(given, reader, where)


def _row(given: str | Mapping[str, Any], reader: Any, where: str) -> Mapping[str, Any]:
    """Columns by name; a text alone stands for the one column the task reads."""
    if isinstance(given, Mapping):
        return given
    columns = sorted(reader.asked_columns)
    if len(columns) != 1:
        raise UserError(
            f"task '{reader.config.name}' reads {len(columns)} columns, a text alone is one",
            where=where,
            hints=[f"give them by name: {{{', '.join(f'{name}: ...' for name in columns)}}}"],
        )
    return {columns[0]: given}


def _shown(config: TaskConfig, example: Example, answer: Answer) -> dict[str, Any]:
    """The answer in words, with a score for each label or choice where there are any."""
    names: Sequence[str] = example.choices or config.labels
    shown: dict[str, Any] = {"row": example.row, "task": config.name}
    if config.kind in ("regression", "generation"):
        return {**shown, "answer": answer.value}
    scores = dict(zip(names, answer.scores, strict=True))
    return {**shown, "answer": names[int(answer.value)], "log_probabilities": scores}


def _execute(config: PredictConfig) -> None:
    for answer in predict(config):
        print(json.dumps(answer, ensure_ascii=False), flush=True)


def main() -> None:
    """The command line."""
    command("predict", PredictConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
