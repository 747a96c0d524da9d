"""How rows become examples: segments for a head, text for a language model, and the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mtl.config.errors import UserError, nearest
from mtl.config.schema import TaskConfig
from mtl.tasks.checks import CLASSIFICATION
from mtl.tasks.detokenisers import DETOKENISERS
from mtl.tasks.formats import bad_rows
from mtl.tasks.ranking import Candidate, Queries
from mtl.tasks.sources import Rows
from mtl.tasks.task import Example
from mtl.tasks.templates import BadValueError, Expression, Template

Row = Mapping[str, Any]
Read = TypeVar("Read")

CLOSING = ",.;:!?')\u2019"
"""Signs that follow a word without a blank."""

SCORES = 21
"""Values a score can take as text, as in T5 (section 2.4: 1 to 5 in steps of 0.2)."""


def score_texts(low: float, high: float) -> tuple[str, ...]:
    """21 values from ``low`` to ``high`` in equal steps, as answers (each begins with a space).

    All have the same number of decimals: the fewest that print every value exactly, at most 6.
    """
    values = [low + (high - low) * step / (SCORES - 1) for step in range(SCORES)]
    for decimals in range(7):
        texts = [f"{value:.{decimals}f}" for value in values]
        if all(math.isclose(float(t), v, abs_tol=1e-9) for t, v in zip(texts, values, strict=True)):
            break
    return tuple(f" {text}" for text in texts)


class Reader:
    """Reads the rows of one task. Templates are compiled once.

    White space: a segment, a choice and a reference lose the blanks at both ends; a prompt keeps what its
    templates say but never ends with a blank, because the answer begins with one. A document is kept as it is,
    unless the task undoes its tokenisation.
    """

    def __init__(self, config: TaskConfig):
        self.config = config
        place = f"task.{config.name}"
        self._segments = _templates(config.segments, f"{place}.segments")
        self._prompt = _templates(config.prompt, f"{place}.prompt")
        document = config.kind == "language_modelling"
        self._target = Template(config.target, field=f"{place}.target", verbatim=document)
        self._detokeniser = DETOKENISERS.get(config.detokeniser)
        self._query = Template(config.query, field=f"{place}.query") if config.query else None
        self._choice_list: Expression | None = None
        self._choices: list[Template] = []
        if isinstance(config.choices, str):
            self._choice_list = Expression(config.choices, field=f"{place}.choices")
        else:
            self._choices = _templates(config.choices, f"{place}.choices")
        self._given_list: Expression | None = None
        self._given: list[Template] = []
        if isinstance(config.protocol.given, str):
            self._given_list = Expression(config.protocol.given, field=f"{place}.protocol.given")
        else:
            self._given = _templates(config.protocol.given, f"{place}.protocol.given")
        self._references = (
            Expression(config.references, field=f"{place}.references")
            if config.references
            else None
        )
        self._indices = {label: index for index, label in enumerate(config.labels)}
        self._answers = tuple(config.answers)
        if config.kind == "regression":
            self._answers = score_texts(*config.range)

    def read(self, rows: Rows) -> tuple[list[Example], list[str]]:
        """The examples of a split, in the order of its rows, and notes on what had to be left out.

        :raises UserError: A column that is not there, or bad rows: the first five, and how many.
        """
        self._check_columns(rows)
        examples, notes = self._ranked(rows) if self._query else self._labelled(rows)
        if not examples:
            needed = "query that can be ranked" if self._query else "labelled row"
            raise UserError(
                f"split '{rows.split}' of task '{self.config.name}' has no {needed}",
                where=rows.where,
                hints=notes,
            )
        return examples, notes

    def _labelled(self, rows: Rows) -> tuple[list[Example], list[str]]:
        read = self._each(rows, self._reading_of_kind())
        examples = [example for example in read if example is not None]
        if len(examples) == len(read):
            return examples, []
        unlabelled = len(read) - len(examples)
        return examples, [f"{unlabelled} of {len(read)} rows of {rows.split} have no gold label"]

    def _ranked(self, rows: Rows) -> tuple[list[Example], list[str]]:
        queries = Queries()
        self._each(rows, lambda name, row: queries.add(self._candidate(name, row)))
        return queries.examples(rows.split)

    def _each(self, rows: Rows, read_row: Callable[[str, Row], Read]) -> list[Read]:
        """:raises UserError: Bad rows."""
        read: list[Read] = []
        bad: list[tuple[int, str]] = []
        for position, row in enumerate(rows.rows):
            try:
                read.append(read_row(f"{rows.split}:{position}", row))
            except BadValueError as error:
                bad.append((position + 1, str(error)))
        if bad:
            raise bad_rows(f"task '{self.config.name}', {rows.where}", bad, len(rows.rows))
        return read

    @property
    def asked_columns(self) -> set[str]:
        """Columns that a row needs to be asked; the target's are not among them."""
        templates: list[Template | Expression] = [
            *self._segments,
            *self._prompt,
            *self._choices,
            *self._given,
        ]
        templates += [e for e in (self._choice_list, self._given_list) if e is not None]
        return {column for template in templates for column in template.columns}

    def ask(self, name: str, row: Row) -> Example:
        """A row whose answer is not known, as an example without a target.

        Of a query, the columns that belong to its candidates hold lists, with an entry for each candidate.

        :param name: Identity of the row.
        :raises UserError: A column that is not there, or a bad value.
        """
        if missing := sorted(self.asked_columns - set(row)):
            raise UserError(
                f"task '{self.config.name}' needs the column '{missing[0]}'",
                where=name,
                hints=[f"found: {', '.join(row)}"],
            )
        try:
            segments, prompt = self._inputs(row)
            if self.config.kind not in ("multiple_choice", "ranking"):
                return Example(name, segments, prompt, None, self._answers)
            choices = self._listed(row) if self._query else self._candidates(row)
            answers, given = self._continued(row, choices)
        except BadValueError as error:
            raise UserError(str(error), where=name) from None
        return Example(name, segments, prompt, None, answers, choices, given=given)

    def _check_columns(self, rows: Rows) -> None:
        lists = (self._choice_list, self._given_list, self._references)
        expressions = [e for e in lists if e is not None]
        templates: list[Template | Expression] = [
            *self._segments,
            *self._prompt,
            *self._choices,
            *self._given,
            self._target,
            *([self._query] if self._query else []),
            *expressions,
        ]
        for template in templates:
            for column in sorted(template.columns - set(rows.columns)):
                guess = nearest(column, rows.columns)
                hints = [f"did you mean: {guess}"] if guess else []
                hints.append(f"columns there: {', '.join(rows.columns)}")
                raise UserError(
                    f"no column '{column}' in {rows.where}", where=template.field, hints=hints
                )

    def _reading_of_kind(self) -> Callable[[str, Row], Example | None]:
        if self.config.kind in CLASSIFICATION:
            return self._classified
        return {
            "regression": self._scored,
            "multiple_choice": self._chosen,
            "generation": self._generated,
            "language_modelling": self._document,
        }[self.config.kind]

    def _inputs(self, row: Row) -> tuple[tuple[str, ...], tuple[str, ...]]:
        segments = tuple([_text(template, row).strip() for template in self._segments])
        pieces = [_text(template, row) for template in self._prompt]
        pieces[-1] = pieces[-1].rstrip()
        return segments, tuple(pieces)

    def _target_text(self, row: Row) -> str | None:
        """The rendered target; None for a row without a gold label."""
        text = _text(self._target, row)
        return None if text == self.config.unlabelled else text

    def _classified(self, name: str, row: Row) -> Example | None:
        text = self._target_text(row)
        if text is None:
            return None
        index = self._label(text)
        segments, prompt = self._inputs(row)
        return Example(name, segments, prompt, index, self._answers)

    def _label(self, text: str) -> int:
        """Index of the label that a target names."""
        index = self._indices.get(text)
        if index is None:
            index = _index(text, len(self._indices))
        if index is None:
            labels = ", ".join(self.config.labels)
            last = len(self._indices) - 1
            raise BadValueError(
                f"label: found {text!r}, expected one of {labels}, or an index from 0 to {last}"
            )
        return index

    def _candidate(self, name: str, row: Row) -> Candidate:
        assert self._query is not None
        label = self._target_text(row)
        query, text = (_text(template, row).strip() for template in (self._query, self._choices[0]))
        for field, found in (("query", query), ("candidate", text)):
            if not found:
                raise BadValueError(f"{field}: found an empty text")
        right = None if label is None else self._label(label) == 0
        return Candidate(name, query, text, right, *self._inputs(row))

    def _listed(self, row: Row) -> tuple[str, ...]:
        """The candidates of a query whose columns hold one entry for each of them."""
        (template,) = self._choices
        lists = {c: row[c] for c in sorted(template.columns) if isinstance(row[c], list | tuple)}
        counts = {len(entries) for entries in lists.values()}
        if len(counts) != 1 or max(counts) < 2:
            columns = " and ".join(sorted(template.columns))
            found = {column: row[column] for column in sorted(template.columns)}
            raise BadValueError(
                f"candidates: found {found!r:.60}, expected a list of at least 2 texts in {columns}"
            )
        of_each = [
            dict(zip(lists, entries, strict=True)) for entries in zip(*lists.values(), strict=True)
        ]
        return tuple([_text(template, {**row, **own}).strip() for own in of_each])

    def _scored(self, name: str, row: Row) -> Example | None:
        text = self._target_text(row)
        if text is None:
            return None
        low, high = self.config.range
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not low <= score <= high:
            raise BadValueError(
                f"score: found {text!r}, expected a number from {low:g} to {high:g}"
            )
        segments, prompt = self._inputs(row)
        return Example(name, segments, prompt, score, self._answers)

    def _chosen(self, name: str, row: Row) -> Example | None:
        text = self._target_text(row)
        if text is None:
            return None
        choices = self._candidates(row)
        index = choices.index(text) if text in choices else _index(text, len(choices))
        if index is None:
            last = len(choices) - 1
            raise BadValueError(
                f"target: found {text!r}, expected one of the choices, or an index from 0 to {last}"
            )
        segments, prompt = self._inputs(row)
        answers, given = self._continued(row, choices)
        return Example(name, segments, prompt, index, answers, choices, given=given)

    def _continued(
        self, row: Row, choices: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The candidates as continuations of the prompt, and the text that is given before each of them."""
        if not (self._given or self._given_list):
            return tuple([f" {choice}" for choice in choices]), ()
        if self._given_list is not None:
            given = _texts(self._given_list, row)
        else:
            given = tuple([_text(template, row).strip() for template in self._given])
        if len(given) != len(choices) or not all(given):
            raise BadValueError(
                f"protocol.given: found {list(given)}, expected a text for each of {len(choices)} choices"
            )
        # What goes on behind a given text may begin with a comma or a genitive.
        answers = [choice if choice[0] in CLOSING else f" {choice}" for choice in choices]
        return tuple(answers), tuple([f" {text}" for text in given])

    def _candidates(self, row: Row) -> tuple[str, ...]:
        if self._choice_list is not None:
            choices = _texts(self._choice_list, row)
        else:
            choices = tuple([_text(template, row).strip() for template in self._choices])
        if len(choices) < 2 or not all(choices):
            raise BadValueError(f"choices: found {list(choices)}, expected at least 2 texts")
        return choices

    def _generated(self, name: str, row: Row) -> Example | None:
        text = self._target_text(row)
        if text is None:
            return None
        others = _texts(self._references, row) if self._references is not None else ()
        references = tuple(dict.fromkeys([text.strip(), *others]))
        if not all(references):
            raise BadValueError("target: found an empty text, expected an answer")
        segments, prompt = self._inputs(row)
        return Example(name, segments, prompt, None, references=references)

    def _document(self, name: str, row: Row) -> Example | None:
        text = _text(self._target, row)
        if not text.strip():
            raise BadValueError("document: found an empty text")
        if self._detokeniser is None:
            return Example(name, (), (), None, references=(text,))
        read = self._detokeniser.detokenise(text)
        return Example(name, (), (), None, references=(read,), original=text)


def _templates(sources: Sequence[str], field: str) -> list[Template]:
    return [Template(source, field=f"{field}[{index}]") for index, source in enumerate(sources)]


def _text(template: Template, row: Row) -> str:
    try:
        return template(row)
    except BadValueError as error:
        raise BadValueError(f"{template.field}: {error}") from error


def _texts(expression: Expression, row: Row) -> tuple[str, ...]:
    """The texts of a list-valued column, without the blanks at their ends."""
    value = expression(row)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise BadValueError(f"{expression.field}: found {value!r:.60}, expected a list of texts")
    return tuple([item.strip() for item in value])


def _index(text: str, count: int) -> int | None:
    """The index that a text such as ``1``, ``1.0`` or ``True`` names, or None."""
    text = {"True": "1", "False": "0"}.get(text, text).removesuffix(".0")
    if text.isascii() and text.isdigit() and int(text) < count:
        return int(text)
    return None
