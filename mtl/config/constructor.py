"""Reads a class's description and constructor from its source, without running it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Union

from mtl.config.errors import UserError
from mtl.config.keys import REQUIRED
from mtl.config.packages import find_module_file

_SIMPLE = {"int": int, "float": float, "bool": bool, "str": str, "None": None}


@dataclass(frozen=True)
class Setting:
    """One keyword argument of a constructor."""

    name: str
    type: Any
    """``int``, ``float``, ``bool``, ``str``, ``Literal[...]``, lists, mappings and unions of them."""
    default: Any = REQUIRED
    help: str = ""

    @property
    def optional(self) -> bool:
        """True where it has a default."""
        return self.default is not REQUIRED


@dataclass(frozen=True)
class Module:
    """The syntax of a file, by top-level name."""

    file: Path
    classes: dict[str, ast.ClassDef]
    values: dict[str, ast.expr]
    imports: dict[str, tuple[str, str]]
    """Local name to (module, name there)."""

    @staticmethod
    def read(file: Path) -> Module:
        """Parse a file; a syntax error is reported with its line."""
        return _read(file, file.stat().st_mtime_ns)

    def base_names(self, class_name: str) -> list[str]:
        """Last part of each base class's name."""
        return [_last_name(base) for base in self.classes[class_name].bases]


@lru_cache(maxsize=256)
def _read(file: Path, changed: int) -> Module:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except SyntaxError as error:
        raise UserError(
            f"not valid Python: {error.msg}", where=f"{file}, line {error.lineno}"
        ) from error
    classes: dict[str, ast.ClassDef] = {}
    values: dict[str, ast.expr] = {}
    imports: dict[str, tuple[str, str]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            classes[statement.name] = statement
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            values[statement.targets[0].id] = statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.value is not None:
                values[statement.target.id] = statement.value
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            for alias in statement.names:
                imports[alias.asname or alias.name] = (statement.module, alias.name)
    return Module(file, classes, values, imports)


def class_description(module: Module, class_name: str) -> str:
    """First line of the docstring of a class, without its full stop."""
    definition = module.classes.get(class_name)
    document = ast.get_docstring(definition) if definition is not None else None
    return document.strip().splitlines()[0].rstrip(".") if document else ""


def class_settings(module: Module, class_name: str) -> dict[str, Setting]:
    """Keyword arguments of the constructor, those that a ``**keywords`` hands to a base class included."""
    definition = module.classes.get(class_name)
    if definition is None:
        raise UserError(f"{module.file} defines no class '{class_name}'")
    constructor = next(
        (s for s in definition.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"),
        None,
    )
    if constructor is None:
        return _base_settings(module, definition)
    settings = _base_settings(module, definition) if constructor.args.kwarg is not None else {}
    text = "\n".join([ast.get_docstring(definition) or "", ast.get_docstring(constructor) or ""])
    arguments = constructor.args
    positional = [*arguments.posonlyargs, *arguments.args][1:]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = [*zip(positional, [*defaults, *arguments.defaults], strict=True)]
    pairs += [*zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    for argument, default in pairs:
        settings[argument.arg] = Setting(
            name=argument.arg,
            type=_type(module, argument.annotation, argument),
            default=REQUIRED if default is None else _value(module, default),
            help=_parameter_help(text, argument.arg),
        )
    return settings


def _base_settings(module: Module, definition: ast.ClassDef) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for base in definition.bases:
        name = _last_name(base)
        if name in module.classes:
            settings |= class_settings(module, name)
        elif name in module.imports and name not in ("Strategy", "ABC", "Module"):
            source, original = module.imports[name]
            file = find_module_file(source)
            if file is not None and file.suffix == ".py":
                settings |= class_settings(Module.read(file), original)
    return settings


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _parameter_help(text: str, name: str) -> str:
    match = re.search(rf":param {re.escape(name)}:\s*(.*?)(?=\n\s*:|\n\s*\n|\Z)", text, re.DOTALL)
    return " ".join(match.group(1).split()).replace("``", "") if match else ""


def _value(module: Module, node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in module.values:
        return _value(module, module.values[node.id])
    try:
        value = ast.literal_eval(node)
    except ValueError as error:
        raise UserError(
            f"the default '{ast.unparse(node)}' of a constructor is not a plain value",
            where=f"{module.file}, line {node.lineno}",
        ) from error
    return list(value) if isinstance(value, tuple) else value


def _type(module: Module, node: ast.expr | None, argument: ast.arg) -> Any:
    """The annotation as a type, built from the few forms a configuration can hold."""
    if node is None:
        return Any
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _type(module, ast.parse(node.value, mode="eval").body, argument)
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = (_type(module, side, argument) for side in (node.left, node.right))
        return Union[left, right]  # noqa: UP007  (the members are values here)
    name = _last_name(node)
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            return Literal[tuple(_value(module, element) for element in inner)]
        if name == "Optional":
            return Union[_type(module, inner[0], argument), None]  # noqa: UP007
        if name in ("list", "List", "Sequence", "tuple"):
            return list[_type(module, inner[0], argument)]  # type: ignore[misc]
        if name in ("dict", "Dict", "Mapping"):
            return dict[str, _type(module, inner[1], argument)]  # type: ignore[misc]
    elif name in _SIMPLE:
        return _SIMPLE[name]
    elif name == "Any":
        return Any
    elif name in module.values:
        return _type(module, module.values[name], argument)
    raise UserError(
        f"the setting '{argument.arg}' has the annotation '{ast.unparse(node)}', which no configuration can hold",
        where=f"{module.file}, line {argument.lineno}",
        hints=[
            "use int, float, bool, str, Literal[...], list[...], dict[str, ...] or unions of them"
        ],
    )
