"""The wheel, installed somewhere else, works from any folder and finds its own configs and strategies.

The other environment is a fresh one that borrows this environment's libraries by path. Paths in a .pth file are
not searched for further .pth files, so an editable installation of the checkout does not leak into it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mtl", "strategies", "configs", "studies", "hydra_plugins")


def succeed(*command: str | Path, cwd: Path) -> str:
    """Run a command as somebody who knows nothing of the checkout, and return what it printed."""
    surroundings = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MTL_DATA_ROOT")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the environment the wheel is installed in."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    # Offline, and before the libraries become visible: pip must not find another installation of mtl to remove.
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"]
    succeed(*pip, "--no-deps", "--no-index", "--no-compile", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(borrowed)))
    return interpreter


def test_the_wheel_holds_every_file_of_ours_and_nothing_else(wheel: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("needs a git checkout to know which files are ours")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {name for name in listed.stdout.split() if (ROOT / name).exists()}
    assert "mtl/py.typed" in held


def test_packages_come_from_the_wheel_and_not_from_the_checkout(
    python: Path, tmp_path: Path
) -> None:
    program = f"""
import importlib, json
print(json.dumps({{n: list(importlib.import_module(n).__path__) for n in {PACKAGES!r}}}))
"""
    found = json.loads(succeed(python, "-c", program, cwd=tmp_path))
    environment = str(python.parent.parent)
    assert {name: [p.startswith(environment) for p in paths] for name, paths in found.items()} == {
        name: [True] for name in PACKAGES
    }


needs_fit = pytest.mark.skipif(
    not (ROOT / "mtl/fit.py").exists(), reason="mtl.fit does not exist yet"
)


@needs_fit
def test_help_lists_the_strategies_from_another_folder(python: Path, tmp_path: Path) -> None:
    printed = succeed(python, "-m", "mtl.fit", "--help", cwd=tmp_path)
    strategies = {path.stem for path in (ROOT / "strategies").glob("[!_]*.py")}
    assert strategies
    assert {name for name in strategies if name not in printed} == set()
    assert list(tmp_path.iterdir()) == []


@needs_fit
def test_configs_of_the_working_directory_do_not_replace_ours(python: Path, tmp_path: Path) -> None:
    """``python -m`` puts the working directory first, and ``configs`` is a common name."""
    plain, shadowed = tmp_path / "plain", tmp_path / "shadowed"
    plain.mkdir()
    (shadowed / "configs").mkdir(parents=True)
    (shadowed / "configs/__init__.py").write_text("")
    (shadowed / "configs/fit.yaml").write_text("seed: 99\n")
    command = [python, "-m", "mtl.fit", "--cfg", "job"]
    expected = succeed(*command, cwd=plain)
    assert "seed: 0" in expected
    shown = subprocess.run(
        [str(word) for word in command], cwd=shadowed, capture_output=True, text=True, check=False
    )
    # Either ours is used all the same, or the person is told what is in the way.
    assert shown.stdout == expected or (shown.returncode == 2 and str(shadowed) in shown.stderr)


@needs_fit
def test_a_short_run_from_another_folder(python: Path, tmp_path: Path) -> None:
    few = ["tasks=[microworld_sentiment]", "evaluation.rows=4", "evaluation.selection_rows=4"]
    settings = ["decoder=micro", "budget.tokens=null", "budget.steps=2", "run_dir=run", *few]
    succeed(python, "-m", "mtl.fit", *settings, cwd=tmp_path)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["ledger"]["steps"] == 2
    assert summary["versions"]["mtl"] == succeed(
        python, "-c", "import mtl; print(mtl.__version__, end='')", cwd=tmp_path
    )
