"""Finds the line of a YAML file on which a key is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from mtl.config import packages

# Of libyaml where PyYAML was built with it: an eighth of the time.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


@dataclass(frozen=True)
class Place:
    """Where a key stands in its file."""

    line: int
    """Counted from 1."""
    text: str
    """The value as it is written; empty for lists and mappings."""


def find(file: Path, key: Sequence[str]) -> Place | None:
    """The place of a key inside a file, or None where the file does not write it."""
    node = _tree(file)
    line = 1
    for part in key:
        if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            return None
        pair = next((pair for pair in node.value if pair[0].value == part), None)
        if pair is None:
            return None
        line, node = pair[0].start_mark.line + 1, pair[1]
    return Place(line, node.value if isinstance(node, yaml.ScalarNode) else "")


def reference(text: str) -> str | None:
    """The other key that a value ``${other.key}`` stands for."""
    match = _REFERENCE.fullmatch(text.strip())
    return match.group(1) if match else None


def first_comment(file: Path) -> str:
    """The first line of comment of a file, Hydra's ``@package`` line aside."""
    with file.open(encoding="utf-8") as source:
        for line in source:
            text = line.strip().lstrip("#").strip()
            if line.startswith("#") and text and not text.startswith("@package"):
                return text.rstrip(".")
            if not line.startswith("#") and line.strip():
                break
    return ""


def shown(file: Path) -> str:
    """A file as it is named in messages: short where it is one of ours or below the working directory."""
    for root in (packages.ROOT, Path.cwd()):
        if file.is_relative_to(root):
            return str(file.relative_to(root))
    return str(file)


@lru_cache(maxsize=256)
def _tree(file: Path) -> Any:
    with file.open(encoding="utf-8") as source:
        return yaml.compose(source, Loader=LOADER)
