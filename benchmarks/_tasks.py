"""Task files as they stand, without composing a command: Hydra and pydantic may be absent where benchmarks run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from mtl.config.errors import UserError, unknown_name
from mtl.config.keys import as_dataclass, fields, mapping_value
from mtl.config.schema import TaskConfig

TASK_FILES = Path(__file__).resolve().parent.parent / "configs" / "task"


def read_task(name: str) -> TaskConfig:
    """The task file of that name. A file that builds on another one is not read.

    :raises UserError: there is none, or it has a key that a task has not.
    """
    path = TASK_FILES / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name("task", name, [file.stem for file in TASK_FILES.glob("*.yaml")])
    try:
        return cast(
            "TaskConfig", _made(TaskConfig, yaml.safe_load(path.read_text(encoding="utf-8")))
        )
    except TypeError as error:
        raise UserError(
            f"a task file that does not fit the schema: {error}", where=str(path)
        ) from None


def _made(kind: Any, value: Any) -> Any:
    """Mappings as the dataclasses they stand for, however deep."""
    if not isinstance(value, dict):
        return value
    if (one := mapping_value(kind)) is not None:
        return {name: _made(one, inner) for name, inner in value.items()}
    made = as_dataclass(kind)
    if made is None:
        return value
    types = {key.name: key.type for key in fields(made)}
    return made(**{name: _made(types.get(name), inner) for name, inner in value.items()})
