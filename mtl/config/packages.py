"""Makes the folders beside this package be the ones that Python finds.

``python -m`` puts the working directory first, so a folder ``configs`` of the user's own would stand in for
ours without a word.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import mtl

ROOT = Path(mtl.__file__).resolve().parent.parent
"""The folder that holds mtl/, configs/ and strategies/: the checkout or site-packages."""


def pin_packages(*names: str) -> None:
    """Import packages from beside this one, whatever lies in the working directory."""
    for name in names:
        file = ROOT / name / "__init__.py"
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and Path(loaded).resolve() == file:
            continue
        spec = importlib.util.spec_from_file_location(
            name, file, submodule_search_locations=[str(file.parent)]
        )
        if spec is None or spec.loader is None or not file.exists():
            raise RuntimeError(f"{file} is missing: the installation is not whole")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def find_module_file(module: str) -> Path | None:
    """The source file of a module, found without importing it or its packages."""
    if module in sys.modules and (loaded := getattr(sys.modules[module], "__file__", None)):
        return Path(loaded)
    path: list[str] | None = None
    spec = None
    parts = module.split(".")
    for depth in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin else None
