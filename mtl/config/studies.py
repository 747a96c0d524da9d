"""The folder studies/: one question per file, a choice of the group ``study``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from mtl.config import lines, packages
from mtl.config.errors import UserError

FOLDER = packages.ROOT / "studies"


def find_studies() -> dict[str, Path]:
    """Every study of the folder by its name, which is the file's."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}


def store_studies() -> None:
    """Register every study with Hydra as a choice of the group ``study``; it is read where it is chosen.

    Choosing a file that is no YAML mapping raises :class:`UserError`.
    """
    from hydra.core.config_store import ConfigStore

    kind = _lazy_study()
    ConfigStore.instance().repo["study"] = {
        f"{name}.yaml": kind(file) for name, file in find_studies().items()
    }


@lru_cache(maxsize=1)
def _lazy_study() -> Any:
    from hydra.core.config_store import ConfigNode
    from omegaconf import DictConfig, OmegaConf

    class LazyStudy(ConfigNode):
        """To read all studies takes a fifth of the time of ``--help``."""

        def __init__(self, file: Path):
            self.file = file
            self.name, self.group, self.package, self.provider = file.name, "study", None, "studies"

        @property
        def node(self) -> DictConfig:
            return OmegaConf.create(_read(self.file))

        @node.setter
        def node(self, copied: DictConfig) -> None:
            """What is read is new each time, so that Hydra need not keep a copy."""

    return LazyStudy


def _read(file: Path) -> dict[str, object]:
    try:
        with file.open(encoding="utf-8") as source:
            # Through OmegaConf's loader, which reads 3e-4 as a number as all other files are read.
            from omegaconf._utils import get_yaml_loader

            found = yaml.load(source, Loader=get_yaml_loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        where = f"{lines.shown(file)}{place}"
        raise UserError(f"not valid YAML: {problem}", where=where) from error
    if not isinstance(found, dict):
        raise UserError("a study is a mapping of keys", where=lines.shown(file))
    return {"name": file.stem, **found}
