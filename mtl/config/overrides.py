"""Reads ``KEY=VALUE`` arguments one by one against the groups and the schema, before Hydra composes anything."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from mtl.config.composition import Composition, raw_value
from mtl.config.errors import UserError, nearest
from mtl.config.keys import REQUIRED, Key, fields, find, is_list, keys, members, short, show

_OURS = re.compile(r"\+task@task\.([^=]+)=\1")
"""The choice of a task's definition, which is made anew from ``tasks``."""


NAMED = ("task", "study")
"""Groups of which some commands are given a name alone."""


@dataclass(frozen=True)
class Written:
    """One argument that was understood."""

    text: str
    """As the person wrote it."""
    override: Override
    name: str
    """The group or the dotted key."""
    prefix: str = ""
    """``++`` where the key has to be added for Hydra."""
    value: str | None = None
    """What stands behind ``=`` for Hydra, where it differs from what was written."""

    def arguments(self) -> list[str]:
        """The argument for Hydra; several where it is a sweep."""
        if self.value is not None:
            return [f"{self.prefix}{self.name}={self.value}"]
        if self.override.is_discrete_sweep():
            values = self.override.sweep_string_iterator()
            return [f"{self.prefix}{self.name}={value}" for value in values]
        return [f"{self.prefix}{self.name}={raw_value(self.override)}"]

    def argument(self) -> str:
        """The argument for Hydra with its sweep left in."""
        value = self.value if self.value is not None else raw_value(self.override)
        return f"{self.prefix}{self.name}={value}"


class Reader:
    """Sorts arguments into choices of groups, values of keys and Hydra's own, and keeps what is wrong.

    :param place: Where the arguments were written, for messages: ``command line`` or ``override``.
    """

    def __init__(
        self, composition: Composition, schema: type, *, multirun: bool = False, place: str
    ):
        self.composition = composition
        self.schema = schema
        self.multirun = multirun
        self.place = place
        self.errors: list[tuple[int, UserError]] = []
        self.choices: list[Written] = []
        self.values: list[Written] = []
        self.hydra: list[str] = []
        self.strategy_is_known = True

    def read(self, texts: Sequence[str]) -> None:
        """Sort all arguments; nothing is raised."""
        parser = OverridesParser.create(config_loader=self.composition.loader)
        for position, text in enumerate(texts):
            try:
                self._read(parser, text)
            except UserError as error:
                self.errors.append((position, error))

    def where(self, text: str) -> str:
        """The place of an argument for a message."""
        return f"{self.place}: {text}"

    def _read(self, parser: OverridesParser, text: str) -> None:
        where = self.where(text)
        if _OURS.fullmatch(text):  # this command, started once more for another device
            return
        if "=" not in text and not text.startswith("~"):
            raise UserError(f"'{text}' is not of the form KEY=VALUE", where=where)
        name = text.partition("=")[0].lstrip("+")
        literal = self._literal(name)
        try:
            override = parser.parse_overrides([text])[0]
        except HydraException as error:
            if literal:
                self.values.append(self._quoted(parser, text, name))
                return
            raise UserError(
                f"the value of '{name}' cannot be read",
                where=where,
                hints=["quote text with special signs twice: 'KEY=\"a value\"'; lists read [a,b]"],
            ) from error
        if literal and not self.multirun and override.is_sweep_override():
            self.values.append(self._quoted(parser, text, name))
            return
        if override.is_delete():
            raise UserError(
                f"a key cannot be removed: '{text}'",
                where=where,
                hints=["give it another value, or null"],
            )
        if override.is_sweep_override() and not self.multirun and not override.is_hydra_override():
            self._refuse_sweep(override, where)
        if self._is_choice(override):
            self._choice(override, text, where)
        elif override.is_hydra_override():
            self.hydra.append(text)
        else:
            self._value(override, text, where)

    def _literal(self, name: str) -> bool:
        """True for keys that hold text only: their value needs no quotes against Hydra's grammar."""
        if self._is_group_name(name):
            return False
        key = find(self.schema, name.split("."))
        return key is not None and str in members(key.type) and not is_list(key.type)

    def _quoted(self, parser: OverridesParser, text: str, name: str) -> Written:
        value = QuotedString(text.partition("=")[2], Quote.single).with_quotes()
        override = parser.parse_overrides([f"{name}={value}"])[0]
        if self._names_one(name):
            value = f"{{name: {value}}}"
        return Written(text, override, name, value=value)

    def _refuse_sweep(self, override: Override, where: str) -> None:
        name, value = override.key_or_group, raw_value(override)
        key = find(self.schema, name.split("."))
        hints = ["several runs, one per value: add --multirun"]
        if key is not None and is_list(key.type):
            hints.insert(0, f"a list is written in brackets: {name}=[{value}]")
        raise UserError(f"'{name}' has several values", where=where, hints=hints)

    def _is_group_name(self, name: str) -> bool:
        # `task` is a group of files and, in every schema, a key of its own; `study` is in one of them.
        return name != "task" and not self._names_one(name) and self.composition.is_group(name)

    def _names_one(self, name: str) -> bool:
        """True for a key that takes the name of one of a group's files rather than its content."""
        key = find(self.schema, [name])
        return name in NAMED and key is not None and str in members(key.type)

    def _is_choice(self, override: Override) -> bool:
        name = override.key_or_group
        if not self._is_group_name(name) or override.package is not None:
            return False
        return name.startswith("hydra/") or find(self.schema, [name]) is not None

    def _choice(self, override: Override, text: str, where: str) -> None:
        group = override.key_or_group
        if group not in self.composition.default_choices:
            raise UserError(
                f"a choice of '{group}' cannot be replaced in the config '{self.composition.config_name}', "
                "which is complete",
                where=where,
                hints=[f"set single keys: {group}.KEY=VALUE"],
            )
        offered = self.composition.options(group)
        names = [name for names in offered.values() for name in names]
        if override.is_discrete_sweep():
            wanted = [str(value) for value in override.sweep_iterator(lambda value: value)]
        else:
            value = override.value()
            wanted = [show(item) for item in (value if isinstance(value, list) else [value])]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            self.strategy_is_known &= group != "strategy"
            raise self._unknown_choice(group, unknown[0], offered, where)
        written = Written(text, override, group)
        if group.startswith("hydra/"):
            self.hydra.append(written.argument())
        else:
            self.choices.append(written)

    def _unknown_choice(
        self, group: str, name: str, offered: dict[str, list[str]], where: str
    ) -> UserError:
        hints = []
        if guess := nearest(name, itertools.chain(*offered.values())):
            hints.append(f"did you mean: {guess}")
        hints += [f"available in {place}: {', '.join(names)}" for place, names in offered.items()]
        hints.append("describe them: python -m mtl")
        return UserError(f"unknown {group} '{name}'", where=where, hints=hints)

    def _value(self, override: Override, text: str, where: str) -> None:
        name = override.key_or_group
        key = find(self.schema, name.split(".")) if override.package is None else None
        if key is None or name == "strategy.name":
            raise unknown_key(self.schema, name, (), {}, where=where)
        value = None
        if self._names_one(name):
            # Hydra would take the bare name for a choice of the group.
            value = f"{{name: {raw_value(override)}}}"
        prefix = "++" if override.is_add() or override.is_force_add() else ""
        self.values.append(Written(text, override, name, prefix, value))


def unknown_key(
    schema: type,
    name: str,
    more: Sequence[Key],
    defaults: dict[str, Any],
    *,
    where: str | None,
) -> UserError:
    """The error for a key the schema does not have: the nearest key with type, default and help."""
    known = {key.name: key for key in [*keys(schema), *more]}
    guess = nearest_key(name, known)
    hints = []
    if guess is not None:
        # A bare last part may stand in several places.
        alike = [key for key in known if key.rpartition(".")[2] == guess.rpartition(".")[2]]
        meant = alike if "." not in name and "." in guess else [guess]
        hints = [f"did you mean: {' or '.join(meant)}"]
        hints += [describe(known[key], defaults) for key in meant]
    else:
        parent = name.rpartition(".")[0]
        starts = [key.split(".") for key in known if key.startswith(f"{parent}.")]
        below = list(dict.fromkeys(parts[parent.count(".") + 1] for parts in starts))
        if not parent or not below:
            parent, below = "", [key.name for key in fields(schema)]
        hints = [f"keys{f' of {parent}' if parent else ''}: {', '.join(below)}"]
    return UserError(f"unknown key '{name}'", where=where, hints=hints)


def nearest_key(name: str, known: dict[str, Key]) -> str | None:
    """The nearest dotted key: by its whole name, by a neighbour's name, or by its last part anywhere."""
    parent, _, last = name.rpartition(".")
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    if guess := nearest(last, siblings):
        return siblings[guess]
    if guess := nearest(name, known):
        return guess
    anywhere: dict[str, str] = {}
    for key in known:
        anywhere.setdefault(key.rpartition(".")[2], key)
    guess = nearest(last, anywhere)
    return anywhere[guess] if guess else None


def describe(key: Key, defaults: dict[str, Any]) -> str:
    """One line: type, default and help of a key."""
    default: Any = defaults
    for part in key.name.split("."):
        default = default.get(part, REQUIRED) if isinstance(default, dict) else REQUIRED
    if default is REQUIRED or default == "???":
        default = key.default
    text = "required" if default is REQUIRED else f"default {show(default)}"
    return f"{key.name}: {short(key.type)}, {text}. {key.help}".rstrip()
