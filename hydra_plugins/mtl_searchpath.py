"""Adds the config packages of other distributions to Hydra's search path."""

from importlib.metadata import entry_points

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class MtlSearchPathPlugin(SearchPathPlugin):
    """Appends the package that each entry point of the group ``mtl.configs`` names; none is imported here."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra for `hydra.main` and for composition from Python."""
        for entry in entry_points(group="mtl.configs"):
            package = entry.value.removeprefix("pkg://")
            search_path.append(provider=f"mtl.configs {entry.name}", path=f"pkg://{package}")
