"""Strategies are found by reading their files; only a chosen one is imported."""

import importlib.metadata
import sys
import typing

import pytest

from mtl.config import packages, strategies
from mtl.config.compose import compose
from mtl.config.constructor import REQUIRED
from mtl.config.errors import UserError
from mtl.config.schema import FitConfig
from mtl.config.strategies import find_strategies, find_strategy, load_strategy_class

SOURCE = '''
from typing import Literal
import missing_module

Reading = Literal["rank", "decode"]
HALF = 0.5

class Base:
    """Shared."""

    def __init__(self, *, width: int, keep: bool = True):
        pass

class _Hidden:
    pass

class Own(Base):
    """Own way: first line.

    More.

    :param share: Share of
        rows.
    :param reading: How it is read.
    """

    def __init__(self, *, share: float = HALF, reading: Reading | None = None, depths: list[int] = (1, 2), **rest):
        pass
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # The strategy that fit.yaml chooses by default.
    (tmp_path / "task_signal.py").write_text("class TaskSignal:\n    pass\n")
    monkeypatch.setattr(strategies, "FOLDER", tmp_path)
    return tmp_path


def test_a_file_is_read_and_not_run(folder):
    (folder / "own.py").write_text(SOURCE)
    found = find_strategies()["own"]
    assert (found.class_name, found.description, found.place) == (
        "Own",
        "Own way: first line",
        "strategies/",
    )
    settings = {name: (s.type, s.default) for name, s in found.settings.items()}
    assert settings == {
        "width": (int, REQUIRED),
        "keep": (bool, True),
        "share": (float, 0.5),
        "reading": (typing.Literal["rank", "decode"] | None, None),
        "depths": (list[int], [1, 2]),
    }
    assert found.settings["share"].help == "Share of rows."
    assert "missing_module" not in sys.modules


def test_adding_a_strategy_is_adding_a_file(folder):
    (folder / "own.py").write_text(SOURCE)
    config = compose("fit", FitConfig, ["strategy=own", "strategy.width=3", "tasks=[cola]"])
    assert config.strategy == {
        "name": "own",
        "width": 3,
        "keep": True,
        "share": 0.5,
        "reading": None,
        "depths": [1, 2],
    }
    with pytest.raises(UserError, match=r"strategy\.width must be given"):
        compose("fit", FitConfig, ["strategy=own", "tasks=[cola]"])


def test_failing_import_names_the_line_of_the_strategy(folder):
    (folder / "own.py").write_text(SOURCE)
    with pytest.raises(UserError) as caught:
        load_strategy_class("own")
    assert str(caught.value) == (
        "strategy 'own' cannot be imported: ModuleNotFoundError: No module named 'missing_module' "
        f"({folder / 'own.py'}, line 3)"
    )
    assert "strategies.own" not in sys.modules


def test_syntax_error_is_said_when_chosen_and_stops_no_other(folder):
    (folder / "broken.py").write_text("class Broken:\n    def x(:\n")
    (folder / "own.py").write_text(SOURCE)
    assert set(find_strategies()) == {"broken", "own", "task_signal"}
    with pytest.raises(UserError, match=r"broken\.py, line 2"):
        load_strategy_class("broken")
    with pytest.raises(UserError, match=r"broken\.py, line 2"):
        compose("fit", FitConfig, ["strategy=broken", "tasks=[cola]"])


def test_annotation_that_no_config_can_hold(folder):
    (folder / "own.py").write_text(
        "class Own:\n    def __init__(self, *, model: Tensor):\n        pass\n"
    )
    with pytest.raises(UserError, match=r"'model' has the annotation 'Tensor'.*line 2"):
        _ = find_strategy("own").settings


def test_strategy_and_configs_of_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "mtl_other"
    (package / "conf" / "strategy").mkdir(parents=True)
    (package / "conf" / "__init__.py").write_text("")
    (package / "conf" / "strategy" / "far_preset.yaml").write_text("name: far\nalpha: 9\n")
    (package / "__init__.py").write_text("")
    (package / "far.py").write_text(
        'class Far:\n    """Far away."""\n\n    def __init__(self, *, alpha: int = 1):\n        self.alpha = alpha\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = importlib.metadata.EntryPoint
    entries = {
        "mtl.strategies": [entry("far", "mtl_other.far:Far", "mtl.strategies")],
        "mtl.configs": [entry("other", "mtl_other.conf", "mtl.configs")],
    }
    import hydra_plugins.mtl_searchpath as plugin

    for module in (strategies, plugin):
        monkeypatch.setattr(module, "entry_points", lambda group: entries[group])
    assert find_strategies()["far"].place == "package mtl_other"
    assert "mtl_other.far" not in sys.modules
    config = compose("fit", FitConfig, ["strategy=far_preset", "tasks=[cola]"])
    assert config.strategy == {"name": "far", "alpha": 9}
    with pytest.raises(UserError, match=r"package mtl_other\.conf: far_preset"):
        compose("fit", FitConfig, ["strategy=farr", "tasks=[cola]"])
    assert load_strategy_class("far")(alpha=2).alpha == 2


def test_a_foreign_package_of_the_same_name_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    import configs

    assert configs.__file__ == str(tmp_path / "configs" / "__init__.py")
    packages.pin_packages("configs")
    assert sys.modules["configs"].__file__ == str(packages.ROOT / "configs" / "__init__.py")
