"""Jinja templates over the columns of a row, sandboxed: a task file may come from a stranger.

White space: a column's value loses the blanks at both of its ends; what stands in the template itself is kept
as written. Using a value that is null is an error, as is using a column that is not there; ``is defined`` asks.

Filters beside Jinja's own: ``mid_sentence``, ``split_at``, ``straighten_quotes``, ``detokenise_ptb``,
``detokenise_wikitext`` and ``detokenise_treebank``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mtl.config.errors import UserError
from mtl.tasks.detokenisers import DETOKENISERS, straighten_quotes

Row = Mapping[str, Any]


class BadValueError(ValueError):
    """A row for which a template has no answer: a missing column, a null, a failing expression."""


_FUNCTION_WORDS = """
a an the this that these those my your his her its our their he she it we you they there
everyone people some many most all every no another one two three
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def mid_sentence(text: str) -> str:
    """The text as it reads after the beginning of a sentence: ``The sun`` becomes ``the sun``.

    Only function words lose their capital, because another word may be a name.
    """
    first, space, rest = text.partition(" ")
    if first.lower().removesuffix("'s") in FUNCTION_WORDS:
        return f"{first[:1].lower()}{first[1:]}{space}{rest}"
    return text


def detokenise_treebank(text: str) -> str:
    """Text whose tokens stand apart as in the Penn Treebank, punctuation and quotation marks too, as it is written.

    By nltk. It cannot be undone, so it is for what is asked and not for documents.
    """
    from nltk.tokenize.treebank import TreebankWordDetokenizer

    return str(TreebankWordDetokenizer().detokenize(text.split()))


def split_at(text: str, word: str) -> list[str]:
    """What stands before and behind the first occurrence of a word, capitals aside; where a pronoun is replaced.

    :raises BadValueError: The word does not stand there.
    """
    parts = re.split(rf"(?<!\w){re.escape(word)}(?!\w)", text, maxsplit=1, flags=re.IGNORECASE)
    if len(parts) != 2:
        raise BadValueError(f"{word!r} is no word of {text!r}")
    return parts


def _printed(value: Any) -> Any:
    """What ``{{ ... }}`` prints."""
    if value is None:
        raise BadValueError("found null, expected a value")
    return value.strip() if isinstance(value, str) else value


@lru_cache(maxsize=2)
def _environment(verbatim: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        finalize=None if verbatim else _printed,
    )
    environment.filters["mid_sentence"] = mid_sentence
    environment.filters["split_at"] = split_at
    environment.filters["detokenise_treebank"] = detokenise_treebank
    environment.filters["straighten_quotes"] = straighten_quotes
    for name, known in DETOKENISERS.items():
        environment.filters[f"detokenise_{name}"] = known.detokenise
    return environment


class Template:
    """One template, compiled once.

    :param source: Jinja text.
    :param field: Where it was written (``task.sst2.prompt[0]``), for messages.
    :param verbatim: Print values with the blanks at their ends: the text of a document is data.
    :raises UserError: It does not parse.
    """

    def __init__(self, source: str, *, field: str, verbatim: bool = False):
        self.source = source
        self.field = field
        environment = _environment(verbatim)
        try:
            tree = environment.parse(source)
            self.columns = meta.find_undeclared_variables(tree) - environment.globals.keys()
            render = environment.from_string(source).render
            self._render = _fast(source, verbatim=verbatim) or (
                lambda row: render(_given(row, self.columns, verbatim))
            )
        except TemplateSyntaxError as error:
            problem = f"this template does not parse: {error.message}"
            raise UserError(
                problem, where=f"{field}, line {error.lineno}", hints=[source]
            ) from error

    def __call__(self, row: Row) -> str:
        """The text of a row.

        :raises BadValueError: The row has no text for this template.
        """
        return _guarded(self._render, row)


class Expression:
    """A Jinja expression whose value is kept as it is, such as the name of a column that holds a list."""

    def __init__(self, source: str, *, field: str):
        self.source = source
        self.field = field
        environment = _environment(verbatim=False)
        try:
            tree = environment.parse("{{ " + source + " }}")
            self.columns = meta.find_undeclared_variables(tree) - environment.globals.keys()
            if source.strip().isidentifier():
                name = source.strip()
                self._evaluate: Callable[[Row], Any] = lambda row: row[name]
            else:
                evaluate = environment.compile_expression(source, undefined_to_none=False)
                self._evaluate = lambda row: evaluate(_given(row, self.columns, False))
        except TemplateSyntaxError as error:
            problem = f"this expression does not parse: {error.message}"
            raise UserError(problem, where=field, hints=[source]) from error

    def __call__(self, row: Row) -> Any:
        """The value for a row.

        :raises BadValueError: The row has none.
        """
        value = _guarded(self._evaluate, row)
        if value is None or isinstance(value, StrictUndefined):
            raise BadValueError("found null, expected a value")
        return value


def _given(row: Row, columns: Set[str], verbatim: bool) -> dict[str, Any]:
    """The columns a template uses. A null is undefined: filters would print it as ``None``."""
    given: dict[str, Any] = {}
    for name in columns & row.keys():
        value = row[name]
        if value is None:
            value = StrictUndefined(
                hint=f"column '{name}': found null, expected a value", name=name
            )
        given[name] = value.strip() if isinstance(value, str) and not verbatim else value
    return given


def _guarded(function: Callable[[Row], Any], row: Row) -> Any:
    try:
        return function(row)
    except BadValueError:
        raise
    except KeyError as error:
        raise BadValueError(f"column '{error.args[0]}' is missing") from error
    except (
        TemplateError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
    ) as error:
        raise BadValueError(str(error) or type(error).__name__) from error


_NAME = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")


def _fast(source: str, *, verbatim: bool) -> Callable[[Row], str] | None:
    """A plain function for a template that only prints columns: several times faster than Jinja's own."""
    pieces = _NAME.split(source)
    literals, names = pieces[0::2], pieces[1::2]
    if any(mark in literal for literal in literals for mark in ("{{", "{%", "{#")):
        return None
    if any(name in ("true", "false", "none", "True", "False", "None") for name in names):
        return None
    if any("\r" in literal for literal in literals):
        return None  # Jinja normalises line ends

    def text(value: Any) -> str:
        if isinstance(value, str):
            return value if verbatim else value.strip()
        return str(value if verbatim else _printed(value))

    if not names:
        return lambda row: source
    if len(names) == 1:
        before, after = literals
        name = names[0]
        return lambda row: before + text(row[name]) + after

    def render(row: Row) -> str:
        parts = [literals[0]]
        for name, literal in zip(names, literals[1:], strict=True):
            parts += (text(row[name]), literal)
        return "".join(parts)

    return render
