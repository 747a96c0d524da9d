"""Checks a plain mapping against the schema, and turns it into the dataclass it describes."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from mtl.config.keys import as_dataclass, expected, fields, is_list, mapping_value, members

_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
MISSING = "???"
"""How Hydra writes a value that must be given."""


@dataclass(frozen=True)
class Problem:
    """One value that is not admissible."""

    key: str
    """Dotted name."""
    kind: Literal["unknown", "missing", "type", "range"]
    found: Any = None
    expected: str = ""


def convert(tp: Any, value: Any) -> Any:
    """The value as its type writes it: ``2e6`` as an integer, ``32`` as one of ``32`` and ``bf16``, ``1`` as 1.0.

    What cannot be converted is returned as it is; :func:`check` says so.
    """
    for member in members(tp):
        converted = _convert(member, value)
        if _is_plausible(member, converted):
            return converted
    return value


def check(tp: Any, value: Any, prefix: Sequence[str] = ()) -> tuple[Any, list[Problem]]:
    """A value of the type, and what is wrong with ``value``; the first is None where anything is."""
    problems: list[Problem] = []
    cleaned = _clean(tp, convert(tp, value), tuple(prefix), problems)
    adapter = _adapter(tp)
    from pydantic import ValidationError

    try:
        # The JSON mode is the strict one that still reads mappings as dataclasses.
        instance = adapter.validate_json(json.dumps(cleaned), strict=True)
    except ValidationError as error:
        seen: set[str] = set()
        for detail in error.errors(include_url=False, include_context=False):
            problem = _problem(tp, detail, tuple(prefix), cleaned)
            if problem.key not in seen:
                seen.add(problem.key)
                problems.append(problem)
        return None, problems
    return (None if problems else instance), problems


@cache
def _adapter_of(tp: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(tp)


def _adapter(tp: Any) -> Any:
    try:
        return _adapter_of(tp)
    except TypeError:  # a type that cannot be hashed is not kept
        from pydantic import TypeAdapter

        return TypeAdapter(tp)


def _convert(member: Any, value: Any) -> Any:
    origin = typing.get_origin(member)
    if dataclasses.is_dataclass(member) and isinstance(member, type) and isinstance(value, dict):
        types = {field.name: field.type for field in fields(member)}
        return {
            name: convert(types[name], item) if name in types else item
            for name, item in value.items()
        }
    if origin is dict and isinstance(value, dict):
        return {name: convert(typing.get_args(member)[1], item) for name, item in value.items()}
    if origin is list and isinstance(value, (list, tuple)):
        return [convert(typing.get_args(member)[0], item) for item in value]
    if origin is Literal and value not in typing.get_args(member):
        return next((c for c in typing.get_args(member) if str(c) == str(value)), value)
    if isinstance(value, bool):
        return value
    if member is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if member is float and isinstance(value, int):
        return float(value)
    if member is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if member is str and isinstance(value, int):
        return str(value)
    return value


def _is_plausible(member: Any, value: Any) -> bool:
    origin = typing.get_origin(member)
    if member is Any:
        return True
    if origin is Literal:
        return value in typing.get_args(member)
    if origin in (dict, list):
        return isinstance(value, origin)
    if dataclasses.is_dataclass(member):
        return isinstance(value, dict)
    if isinstance(value, bool) or value is None:
        return member is type(value)
    return isinstance(value, member)


def _clean(tp: Any, value: Any, key: tuple[str, ...], problems: list[Problem]) -> Any:
    """Drop what is unknown (and say so) and what is still missing."""
    inner = as_dataclass(tp)
    if isinstance(value, list) and is_list(tp):
        element = next(typing.get_args(m)[0] for m in members(tp) if typing.get_origin(m) is list)
        return [_clean(element, v, (*key, str(i)), problems) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if inner is None:
        element = mapping_value(tp)
        if element is None:
            return value
        return {str(n): _clean(element, v, (*key, str(n)), problems) for n, v in value.items()}
    known = {field.name: field.type for field in fields(inner)}
    cleaned = {}
    for name, item in value.items():
        if name not in known:
            problems.append(Problem(".".join((*key, str(name))), "unknown", found=item))
        elif item != MISSING:
            cleaned[name] = _clean(known[name], item, (*key, name), problems)
    return cleaned


def _problem(tp: Any, detail: Any, prefix: tuple[str, ...], value: Any) -> Problem:
    """One pydantic detail under the schema's key; the names of a union's alternatives are left out."""
    key = list(prefix)
    for part in detail["loc"]:
        inner = as_dataclass(tp)
        if inner is not None:
            field = next((field for field in fields(inner) if field.name == part), None)
            if field is None:
                break
            tp = field.type
        elif (element := mapping_value(tp)) is not None and len(members(tp)) == 1:
            tp = element
        elif typing.get_origin(tp) is list:
            tp = typing.get_args(tp)[0]
        else:
            break
        key.append(str(part))
        value = _inside(value, part)
    if detail["type"] == "missing":
        return Problem(".".join(key), "missing", expected=expected(tp))
    return Problem(".".join(key), "type", found=value, expected=expected(tp))


def _inside(value: Any, part: Any) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) else None
