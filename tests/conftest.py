"""What every test stands on: no network, nothing written outside temporary folders, the same numbers each time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Read when the libraries are imported, so they are set before any test module is; child processes inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# One thread: sums in another order are other numbers, and pytest-xdist fills the processors already.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
# The width that help is wrapped to; pytest-xdist gives its workers another than a plain pytest has.
os.environ["COLUMNS"] = "110"
# The rest of a person's surroundings that changes what a command does.
for variable in (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "HYDRA_FULL_ERROR",
    "MTL_TRACEBACK",
):
    os.environ.pop(variable, None)

# Every run tries the same examples: a commit that touches nothing cannot turn red.
hypothesis.settings.register_profile("repeat", derandomize=True, deadline=None, database=None)
# pytest --hypothesis-profile=explore looks further.
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("repeat")

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_configure(config: pytest.Config) -> None:
    if named := os.environ.get("MTL_DATA_ROOT"):
        # Every test has its own working directory, so a relative path would name nothing.
        os.environ["MTL_DATA_ROOT"] = str(Path(named).absolute())
    # pytest-xdist's processes inherit the folder of the process that started them.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tempfile.mkdtemp(prefix="mtl-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["MTL_CACHE"] = str(Path(folder, "cache"))
        os.environ["HF_HOME"] = str(Path(folder, "huggingface"))


def pytest_report_header() -> list[str]:
    packages = ("torch", "pytorch-lightning", "transformers", "hydra-core", "mlflow", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return [
        f"versions: python {platform.python_version()}, {versions}",
        f"data: {os.environ.get('MTL_DATA_ROOT', 'none (MTL_DATA_ROOT is not set)')}",
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if (execution := sys.modules.get("mtl.execution")) is not None:
        execution.draw_curves = draw_each_kind_once  # type: ignore[attr-defined]
    if item.get_closest_marker("gpu"):
        import torch  # takes a second that most sessions need not spend here

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


_drawn: dict[object, bytes] = {}


def draw_each_kind_once(folder: Any, *, title: str = "") -> Path | None:
    """Drawing takes a quarter of a small run's time, so runs whose curves differ in nothing but their values have one
    picture; what a picture shows is tested where it is drawn by itself."""
    from mtl.record.curves import draw_curves, read_series

    losses, scores = read_series(folder)
    lengths = [(name, len(series)) for name, series in losses.items()]
    named = [(task, sorted(own)) for task, own in scores.items()]
    if (kind := repr((lengths, named))) in _drawn:
        folder.curves.write_bytes(_drawn[kind])
        return Path(folder.curves)
    if (path := draw_curves(folder, title=title)) is not None:
        _drawn[kind] = path.read_bytes()
    return path


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in a folder of its own, with seeded generators and one thread."""
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)
    yield
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with ``<dataset>/<split>.parquet`` that MTL_DATA_ROOT names."""
    named = os.environ.get("MTL_DATA_ROOT")
    if not named:
        pytest.skip("needs real data: MTL_DATA_ROOT is not set")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"needs real data: MTL_DATA_ROOT={named} is not a folder")
    return folder
