"""Composition for Python: the same checks and the same config as the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml  # type: ignore[import-untyped]
from omegaconf._utils import get_omega_conf_dumper

from mtl.config.check import check_config
from mtl.config.complete import RUN_CONFIG
from mtl.config.composition import Composition
from mtl.config.errors import UserError, nearest

Schema = TypeVar("Schema")


def compose(
    config_name: str,
    schema: type[Schema],
    overrides: Sequence[str] = (),
    *,
    config_dir: str | None = None,
) -> Schema:
    """The configuration that ``python -m mtl.<config_name> <overrides>`` would run.

    Works in a notebook, any number of times, and inside a running ``hydra.main``.

    :param overrides: As on the command line: ``["strategy=mt_dnn", "seed=1"]``.
    :param config_dir: A folder of the user's with further configs, as ``--config-dir``.
    :raises UserError: with every mistake in one message.
    """
    resumed = resumed_run(overrides, extra=["config_dir"] if config_dir is not None else [])
    if resumed is not None:
        config_name, config_dir = Path(RUN_CONFIG).stem, resumed
    search_path = [text for text in overrides if text.startswith("hydra.searchpath=")]
    composition = Composition(config_name, config_dir=config_dir, search_path=search_path)
    instance: Schema = check_config(composition, schema, overrides).instance
    return instance


def to_yaml(config: Any) -> str:
    """A configuration as YAML that composes to the same configuration again, keys in the schema's order."""
    text = yaml.dump(
        _escaped(dataclasses.asdict(config)),
        Dumper=get_omega_conf_dumper(),
        default_flow_style=False,
        allow_unicode=True,
        sort_keys=False,
    )
    return str(text)


def differing_keys(first: Any, second: Any) -> list[tuple[str, Any, Any]]:
    """The dotted keys in which two configurations differ, with both values; None where one lacks it."""
    return differences(dataclasses.asdict(first), dataclasses.asdict(second))


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The same of two mappings."""
    one, other = _flat(first), _flat(second)
    return [
        (key, one.get(key), other.get(key))
        for key in [*one, *(key for key in other if key not in one)]
        if one.get(key) != other.get(key)
    ]


def resumed_run(overrides: Sequence[str], *, extra: Sequence[str] = ()) -> str | None:
    """The run folder of ``resume=RUN_DIR``, or None where nothing is resumed.

    :raises UserError: where anything else is given beside it, or the folder holds no run.
    """
    given = [text for text in overrides if text.lstrip("+").startswith("resume=")]
    if not given or given[-1].partition("=")[2] in ("", "null"):
        return None
    others = [t for t in overrides if t not in given and not t.startswith(("hydra.", "hydra/"))]
    if others or extra or len(given) > 1:
        raise UserError(
            f"resume= goes on with a run as it was configured, found beside it: {' '.join([*others, *extra])}",
            hints=[
                "to change something, start a new run from its config:",
                "--config-dir RUN_DIR --config-name config",
            ],
        )
    folder = given[0].partition("=")[2].strip("'\"")
    if not (Path(folder) / RUN_CONFIG).is_file():
        raise UserError(
            f"no run in '{folder}'",
            where=given[0],
            hints=[
                f"missing: {(Path(folder) / RUN_CONFIG).absolute()}",
                *_nearest_run(Path(folder)),
            ],
        )
    return folder


def _nearest_run(folder: Path) -> list[str]:
    candidates = {
        str(config.parent): config.parent.name
        for root in dict.fromkeys([folder.parent, Path("runs")])
        if root.is_dir()
        for config in sorted(root.glob(f"*/{RUN_CONFIG}"))
    }
    guess = nearest(folder.name, candidates.values())
    return [f"did you mean: {path}" for path, name in candidates.items() if name == guess][:1]


def _escaped(value: Any) -> Any:
    """Text in which ``${`` is no reference."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found
