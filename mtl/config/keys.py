"""The schema seen as a tree of keys: what may be written, of which type, and what it means."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()
"""Stands for the default of a key that has none."""


@dataclass(frozen=True)
class Key:
    """One key of a configuration."""

    name: str
    """Dotted name, as on the command line."""
    type: Any
    default: Any = REQUIRED
    help: str = ""


def keys(schema: type, prefix: str = "") -> Iterator[Key]:
    """Every key below a dataclass that holds a value, depth first in the order of its fields."""
    for key in fields(schema):
        inner = as_dataclass(key.type)
        full = dataclasses.replace(key, name=prefix + key.name)
        if inner is None:
            yield full
        else:
            yield from keys(inner, full.name + ".")


@cache
def fields(schema: type) -> tuple[Key, ...]:
    """The fields of one dataclass as keys."""
    hints = typing.get_type_hints(schema)
    documents = _documents(schema)
    found = []
    for field in dataclasses.fields(schema):
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(
            Key(
                name=field.name,
                type=hints[field.name],
                default=REQUIRED if default is dataclasses.MISSING else default,
                help=documents.get(field.name, ""),
            )
        )
    return tuple(found)


def find(schema: Any, name: Sequence[str]) -> Key | None:
    """The key of that dotted name, or None; below a mapping every name is a key."""
    key = Key("", schema)
    for position, part in enumerate(name):
        dotted = ".".join(name[: position + 1])
        inner = as_dataclass(key.type)
        if inner is not None:
            matches = [field for field in fields(inner) if field.name == part]
            if not matches:
                return None
            key = dataclasses.replace(matches[0], name=dotted)
        elif (value := mapping_value(key.type)) is not None:
            key = Key(dotted, value, help=key.help)
        else:
            return None
    return key


def members(tp: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    if typing.get_origin(tp) in (Union, types.UnionType):
        return typing.get_args(tp)
    return (type(None) if tp is None else tp,)


def as_dataclass(tp: Any) -> type | None:
    """The dataclass that a type is, null allowed."""
    for member in members(tp):
        if dataclasses.is_dataclass(member) and isinstance(member, type):
            return member
    return None


def mapping_value(tp: Any) -> Any:
    """Type of the values of a mapping, or None where the type is no mapping."""
    for member in members(tp):
        if typing.get_origin(member) is dict:
            return typing.get_args(member)[1]
    return None


def is_list(tp: Any) -> bool:
    """True where the type can be a list."""
    return any(typing.get_origin(member) is list for member in members(tp))


def expected(tp: Any) -> str:
    """What a value of this type is, in words."""
    return " or ".join(_expected(member) for member in members(tp))


def short(tp: Any) -> str:
    """The type as it is written in help."""
    names = []
    for member in members(tp):
        origin = typing.get_origin(member)
        if origin is Literal:
            names.append("|".join(str(value) for value in typing.get_args(member)))
        elif origin is list:
            names.append(f"[{short(typing.get_args(member)[0])}, ...]")
        elif origin is dict or dataclasses.is_dataclass(member):
            names.append("mapping")
        elif member is type(None):
            names.append("null")
        elif member is Any:
            names.append("any value")
        else:
            names.append({"str": "text"}.get(member.__name__, member.__name__))
    return "|".join(names)


def show(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    return str(value)


def found(value: Any) -> str:
    """A value as it is quoted in a message: text in quotes, so that '3' and 3 differ."""
    return f"'{value}'" if isinstance(value, str) else show(value)


def _expected(member: Any) -> str:
    origin = typing.get_origin(member)
    if origin is Literal:
        values = [str(value) for value in typing.get_args(member)]
        return f"one of {', '.join(values)}" if len(values) > 1 else values[0]
    if origin is list:
        return f"a list such as [{_examples(typing.get_args(member)[0])}]"
    if origin is dict or dataclasses.is_dataclass(member):
        return "a mapping such as {name: value}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return names.get(member, "null" if member is type(None) else "any value")


def _examples(element: Any) -> str:
    return {int: "1, 2", float: "0.1, 0.2"}.get(element, "a, b")


@cache
def _documents(schema: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    tree = _module_tree(inspect.getsourcefile(schema) or "")
    for definition in tree.body:
        if isinstance(definition, ast.ClassDef) and definition.name == schema.__name__:
            return dict(_documented(definition.body))
    return {}


def _documented(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, below in itertools.pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            text = " ".join(str(below.value.value).split()).replace("``", "")
            yield statement.target.id, text


@cache
def _module_tree(file: str) -> ast.Module:
    with open(file, encoding="utf-8") as source:
        return ast.parse(source.read())
