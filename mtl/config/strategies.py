"""Finds strategies without importing them, so that help and mistakes answer at once.

A strategy is one file: its name is the strategy's name, its first docstring line the description, and the
keyword arguments of its constructor the settings. The file is read as syntax; nothing in it runs until
:func:`load_strategy_class` is asked for it. Installed packages add theirs by the entry-point group
``mtl.strategies`` (``name = module:Class``).
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

import mtl
from mtl.config.constructor import Module, Setting, class_description, class_settings
from mtl.config.errors import UserError, unknown_name
from mtl.config.packages import find_module_file

FOLDER = Path(mtl.__file__).resolve().parent.parent / "strategies"
"""The folder beside this package: a checkout's, or the installed one."""
BASE = "Strategy"


@dataclass(frozen=True)
class FoundStrategy:
    """A strategy as its file describes it."""

    name: str
    """Name on the command line."""
    place: str
    """Where it comes from, for lists of choices: ``strategies/`` or ``package NAME``."""
    file: Path
    """The file that defines it."""
    class_name: str
    module: str
    """Name under which the file is imported."""
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def description(self) -> str:
        """First line of the docstring."""
        return class_description(Module.read(self.file), self.class_name)

    @property
    def settings(self) -> dict[str, Setting]:
        """Settings by name; raises :class:`UserError` where a constructor cannot be read."""
        if "settings" not in self._cache:
            self._cache["settings"] = class_settings(Module.read(self.file), self.class_name)
        settings: dict[str, Setting] = self._cache["settings"]
        return settings


def find_strategies() -> dict[str, FoundStrategy]:
    """Every strategy by name; the checkout's folder wins over an installed package."""
    found = {strategy.name: strategy for strategy in _in_packages()}
    found.update({strategy.name: strategy for strategy in _in_folder()})
    return dict(sorted(found.items()))


def find_strategy(name: str, *, where: str | None = None) -> FoundStrategy:
    """The strategy of that name, or the error that lists them."""
    found = find_strategies()
    if name not in found:
        raise unknown_name("strategy", name, found, where=where)
    return found[name]


def load_strategy_class(name: str) -> type:
    """Import the class of a strategy.

    A strategy that fails on import is reported by the real exception with the file and line that raised it.
    """
    found = find_strategy(name)
    try:
        module = _import(found)
    except Exception as error:
        raise _import_error(found, error) from error
    loaded = getattr(module, found.class_name, None)
    if not isinstance(loaded, type):
        raise UserError(f"strategy '{name}': {found.file} defines no class {found.class_name}")
    return loaded


def store_strategies() -> None:
    """Register every strategy with Hydra as a choice of the group ``strategy``."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    group = store.repo.get("strategy")
    if group is not None:
        group.clear()
    for found in find_strategies().values():
        try:
            settings = found.settings
        except UserError:
            settings = {}  # said when it is chosen, so that one broken file does not stop the others
        defaults = {
            setting.name: setting.default for setting in settings.values() if setting.optional
        }
        node = {"name": found.name, **defaults}
        store.store(group="strategy", name=found.name, node=node, provider=found.place)


def _in_folder() -> Iterator[FoundStrategy]:
    if not FOLDER.is_dir():
        return
    for file in sorted(FOLDER.glob("*.py")):
        if file.stem.startswith("_"):
            continue
        module = f"strategies.{file.stem}"
        try:
            name = _class_of_file(file)
        except UserError:
            name = ""  # a syntax error: said when it is chosen
        yield FoundStrategy(file.stem, "strategies/", file, name, module)


@lru_cache(maxsize=4)
def _entries(installed: Callable[..., EntryPoints], path: tuple[str, ...]) -> EntryPoints:
    """To read what all installed packages say of themselves takes 40 ms, and ``--help`` asks thirty times.

    :param path: Where Python looks for packages.
    """
    return installed(group="mtl.strategies")


def _in_packages() -> Iterator[FoundStrategy]:
    for entry in _entries(entry_points, tuple(sys.path)):
        module, _, class_name = entry.value.partition(":")
        file = find_module_file(module)
        if file is not None and class_name:
            place = f"package {module.partition('.')[0]}"
            yield FoundStrategy(entry.name, place, file, class_name, module)


def _class_of_file(file: Path) -> str:
    """Name of the strategy's class: the one named like the file, else the only one derived from a strategy."""
    classes = [name for name in Module.read(file).classes if not name.startswith("_")]
    wanted = file.stem.replace("_", "").lower()
    named = [name for name in classes if name.lower() == wanted]
    derived = [
        name
        for name in classes
        if any(base.endswith(BASE) for base in Module.read(file).base_names(name))
    ]
    for candidates in (named, derived, classes):
        if len(candidates) == 1:
            return candidates[0]
    expected = "".join(part.capitalize() for part in file.stem.split("_"))
    raise UserError(f"{file} has no class named like it", hints=[f"expected: class {expected}"])


def _import(found: FoundStrategy) -> Any:
    loaded = sys.modules.get(found.module)
    if loaded is not None and Path(loaded.__file__ or "").resolve() == found.file.resolve():
        return loaded
    # By file rather than by name: a folder `strategies` in the working directory must not stand in for ours.
    spec = importlib.util.spec_from_file_location(found.module, found.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{found.file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[found.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[found.module]
        raise
    return module


def _import_error(found: FoundStrategy, error: Exception) -> UserError:
    problem = f"strategy '{found.name}' cannot be imported: {type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return UserError(problem, where=f"{error.filename}, line {error.lineno}")
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == found.file.resolve()
    ]
    where = f"{found.file}, line {lines[-1]}" if lines else str(found.file)
    return UserError(problem, where=where)
