"""The one door to Hydra: where configs lie, what a group offers, and composition without side effects.

Nothing here touches Hydra's global state for longer than a call, so that composing works inside a notebook, twice
in a row, and inside a running ``hydra.main``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mtl.config import lines, packages
from mtl.config.errors import UserError, unknown_name
from mtl.config.strategies import find_strategies, store_strategies
from mtl.config.studies import find_studies, store_studies

VERSION_BASE = "1.3"


class Composition:
    """A primary config, and the search path it is composed along.

    :param config_name: Name of the primary config, such as ``fit``.
    :param config_dir: A folder of the user's, searched before anything else.
    :param search_path: The override of ``hydra.searchpath``, where there is one.
    :raises UserError: where the folder or the primary config is missing.
    """

    def __init__(
        self, config_name: str, *, config_dir: str | None = None, search_path: Sequence[str] = ()
    ):
        self.config_name = config_name
        self.config_dir = config_dir
        self._search_path = list(search_path)
        folder = Path(config_dir).absolute() if config_dir is not None else None
        if folder is not None and not folder.is_dir():
            raise UserError(
                f"the config folder '{config_dir}' is missing", hints=[f"tried: {folder}"]
            )
        with _hydra_state():
            store_strategies()
            store_studies()
            path = create_config_search_path(str(packages.ROOT / "configs"))
            if folder is not None:
                path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
            self.loader = ConfigLoaderImpl(config_search_path=path)
            _, self._repository = _user_errors(
                lambda: self.loader._parse_overrides_and_create_caching_repo(
                    None, list(search_path)
                )
            )
        names = self._repository.get_group_options("", ObjectType.CONFIG)
        if config_name not in names:
            raise unknown_name("config", config_name, names)
        self._groups = set(self._repository.get_group_options("", ObjectType.GROUP))

    def groups(self) -> list[str]:
        """Names of the top-level groups, Hydra's own aside."""
        return sorted(g for g in self._groups if g != "hydra" and any(self.options(g).values()))

    def is_group(self, name: str) -> bool:
        """True where ``name=`` chooses a file rather than sets a value."""
        return bool(self._repository.group_exists(name))

    def options(self, group: str) -> dict[str, list[str]]:
        """Choices of a group by the place they come from."""
        offered: dict[str, list[str]] = {}
        for source in self._repository.get_sources():
            if not source.is_group(group):
                continue
            for name in source.list(group, ObjectType.CONFIG):
                if any(name in names for names in offered.values()):
                    continue
                offered.setdefault(self._place(source, group, name), []).append(name)
        return offered

    @cached_property
    def default_choices(self) -> frozenset[str]:
        """Groups the primary config chooses from: only these can be chosen anew."""
        defaults = self._defaults([])
        return frozenset(defaults.overrides.known_choices)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The composed config; sweeps are not allowed in ``overrides``.

        Hydra's own node, most of the work of composing, is there only where something refers to it.
        """
        if not any("hydra" in text for text in overrides):
            with _hydra_state():
                config = _user_errors(lambda: self._compose_without_hydra(list(overrides)))
            if "${hydra:" not in str(OmegaConf.to_container(config, resolve=False)):
                return config
        with _hydra_state():
            return _user_errors(
                lambda: self.loader.load_configuration(
                    config_name=self.config_name, overrides=list(overrides), run_mode=RunMode.RUN
                )
            )

    def _compose_without_hydra(self, overrides: list[str]) -> DictConfig:
        parsed, repository = self.loader._parse_overrides_and_create_caching_repo(
            self.config_name, [*self._search_path, *overrides]
        )
        parsed = [override for override in parsed if not override.is_hydra_override()]
        defaults = create_defaults_list(
            repo=repository,
            config_name=self.config_name,
            overrides_list=parsed,
            prepend_hydra=False,
            skip_missing=False,
        )
        config = self.loader._compose_config_from_defaults_list(defaults.defaults, repository)
        OmegaConf.set_struct(config, True)
        self.loader._apply_overrides_to_config(defaults.config_overrides, config)
        return config

    def file_of(self, config_path: str) -> Path | None:
        """The YAML file that ``group/name`` is read from."""
        group, _, name = config_path.partition("/")
        if group == "study" and (own := find_studies().get(name.removesuffix(".yaml"))) is not None:
            return own
        source = self._repository.delegate._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() not in ("file", "pkg"):
            return None
        folder = resources.files(source.path) if source.scheme() == "pkg" else Path(source.path)
        return Path(str(folder)) / f"{config_path.removesuffix('.yaml')}.yaml"

    def where(self, key: str, overrides: Sequence[str]) -> str | None:
        """File and line where a key is written, or None; a value ``${other}`` leads on to the other key."""
        inside = key.split(".")
        for default in reversed(self._defaults(overrides).defaults):
            path = default.config_path
            if path is None or path.startswith("hydra/") or (file := self.file_of(path)) is None:
                continue
            package = (default.package or "").replace("_global_", "")
            parts = package.split(".") if package else []
            if inside[: len(parts)] != parts:
                continue
            below = inside[len(parts) :]
            if (place := lines.find(file, below)) is not None:
                reference = lines.reference(place.text)
                followed = self.where(reference, overrides) if reference else None
                return followed or f"{lines.shown(file)}, line {place.line}"
            if below[-1].isdigit() and (place := lines.find(file, below[:-1])) is not None:
                reference = lines.reference(place.text)
                return self.where(f"{reference}.{below[-1]}", overrides) if reference else None
        return None

    def _defaults(self, overrides: Sequence[str]) -> Any:
        with _hydra_state():
            return _user_errors(
                lambda: self.loader.compute_defaults_list(
                    self.config_name, list(overrides), RunMode.RUN
                )
            )

    def _place(self, source: Any, group: str, name: str) -> str:
        if source.provider == "schema":
            if group == "study":
                return "studies/"
            found = find_strategies().get(name)
            return found.place if found is not None else group
        if source.provider == "main":
            return f"configs/{group}/"
        if source.scheme() == "pkg":
            return f"package {source.path}"
        folder = self.config_dir if source.provider == "command-line" else source.path
        return f"{os.path.join(str(folder), group)}/"


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers with everything resolved, without Hydra's node."""
    config = config.copy()
    current = HydraConfig.instance().cfg
    try:
        if "hydra" in config:
            with open_dict(config.hydra.job):
                config.hydra.job.setdefault("num", 0)
                for name in ("num", "id"):  # a sweep numbers its jobs later
                    if OmegaConf.is_missing(config.hydra.job, name):
                        config.hydra.job[name] = 0
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                del config["hydra"]
        data = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        problem = str(error).splitlines()[0]
        raise UserError(f"{key}: {problem}" if key else problem) from error
    finally:
        HydraConfig.instance().cfg = current
    assert isinstance(data, dict)
    return {str(name): value for name, value in data.items()}


def raw_value(override: Override) -> str:
    """What stands behind the first ``=`` of an override."""
    return (override.input_line or "").partition("=")[2]


@contextmanager
def _hydra_state() -> Iterator[None]:
    base = version.VersionBase.instance()
    before = base.version_base
    version.setbase(VERSION_BASE)
    setup_globals()
    try:
        yield
    finally:
        base.version_base = before


def _user_errors(action: Any) -> Any:
    """Whatever Hydra or YAML finds wrong in a config is a person's mistake."""
    try:
        return action()
    except MissingConfigException as error:
        name = error.missing_cfg_file or ""
        if error.options is not None and "/" in name:
            group, _, choice = name.rpartition("/")
            raise unknown_name(group, choice, error.options) from error
        raise UserError(str(error).splitlines()[0]) from error
    except HydraException as error:
        text = [line for line in str(error).splitlines() if "use +" not in line and line.strip()]
        cause = str(error.__cause__).splitlines()[:1] if error.__cause__ is not None else []
        first, *rest = text or cause or [type(error).__name__]
        raise UserError(first, hints=[*rest, *(line for line in cause if line != first)]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = (
            f"{lines.shown(Path(mark.name))}, line {mark.line + 1}" if mark is not None else None
        )
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"not valid YAML: {problem}", where=where) from error
