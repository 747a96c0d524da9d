"""A strategy in another distribution, ``tests/stranger``: installed, it is one like those of strategies/."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere

from mtl.config.errors import UserError
from mtl.config.strategies import find_strategies, load_strategy_class
from mtl.learning.strategy import Strategy
from mtl.testing.strategies import StrategyConformance

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "stranger"
RUN = [
    "strategy=annealed",
    "strategy.steps=5",
    "suite=moods_and_words",
    "decoder=nano",
    "trainer=cpu",
    "budget.tokens=null",
    "budget.steps=8",
    "batch.tokens=256",
    "evaluation.times=1",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "evaluation.resamples=20",
    "record.checkpoint_every=3",
    "record.every=1",
    "record.mlflow=false",
]
KILLED = """
import os, signal, sys
from mtl import fit
from mtl.learning.module import MultiTaskModule
training_step = MultiTaskModule.training_step
def struck(self, batch, batch_index):
    if self.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, batch, batch_index)
MultiTaskModule.training_step = struck
fit.main()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stranger's distribution is installed, without network."""
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--no-compile"]
    subprocess.run(
        [*pip, *offline, "--target", folder / "site", folder / "source"], check=True, cwd=folder
    )
    return folder / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The distribution is known to this process too."""
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield site
    sys.modules.pop("mtl_annealed", None)


def mtl(site: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """``python`` in another folder, by somebody who has both distributions."""
    surroundings = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    return elsewhere.python(*command, cwd=cwd, env=surroundings)


@pytest.fixture(scope="module")
def run(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of it, with a suite and a decoder of the stranger's own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = mtl(site, folder, "-m", "mtl.fit", *RUN, "run_dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


class TestAnnealed(StrategyConformance):
    @pytest.fixture(autouse=True)
    def _installed(self, installed: Path) -> None:
        pass

    def strategy(self) -> Strategy:
        return load_strategy_class("annealed")(bottleneck=4)


def test_it_is_found_with_its_package_and_not_imported(installed: Path) -> None:
    found = find_strategies()["annealed"]
    assert (found.place, found.file) == (
        "package mtl_annealed",
        installed / "mtl_annealed" / "__init__.py",
    )
    assert "mtl_annealed" not in sys.modules


def test_its_own_refusals_are_users_errors(installed: Path) -> None:
    with pytest.raises(UserError, match=r"steps must be at least 1 \(strategy\.steps=0\)"):
        load_strategy_class("annealed")(steps=0)


def test_the_map_lists_it(site: Path, tmp_path: Path) -> None:
    lines = mtl(site, tmp_path, "-m", "mtl").stdout.splitlines()
    place = lines.index("  strategy=  from package mtl_annealed")
    assert lines[place + 1].startswith("    annealed  Annealed: one decoder, answers as text")
    assert "  decoder=  from package mtl_annealed.configs" in lines
    assert "    nano  Smaller than micro" in lines


def test_help_says_its_settings(site: Path, tmp_path: Path) -> None:
    shown = mtl(site, tmp_path, "-m", "mtl.fit", "strategy=annealed", "--help")
    assert shown.returncode == 0
    text = " ".join(shown.stdout.split())
    assert "Optimizer steps until they work with full strength." in text
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_setting_is_answered_like_any_other(site: Path, tmp_path: Path) -> None:
    done = mtl(site, tmp_path, "-m", "mtl.fit", *RUN, "strategy.botleneck=3", "run_dir=run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: the strategy 'annealed' has no setting 'botleneck' (command line: strategy.botleneck=3)\n"
        "  did you mean: strategy.bottleneck\n"
        "  strategy.bottleneck: int, default 8. Width of the adapters.\n"
        "  strategy.steps: int, default 100. Optimizer steps until they work with full strength.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_it_trains_and_is_recorded(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["strategy"], summary["status"]) == ("annealed", "finished")
    assert list(summary["tasks"]) == ["microworld_sentiment", "microworld_similarity"]
    # Down and up, 8 wide, at a decoder of width 16.
    own = dict.fromkeys(summary["tasks"], 2 * 8 * 16)
    assert summary["ledger"]["parameters"]["per_task"] == own
    assert summary["ledger"]["steps"] == 8
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert weights["strategy.strength"] == 1.0


def test_killed_and_resumed_it_is_the_same_run(site: Path, run: Path, tmp_path: Path) -> None:
    killed = mtl(site, tmp_path, "-c", KILLED, *RUN, "run_dir=run")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = mtl(site, tmp_path, "-m", "mtl.fit", "resume=run")
    assert resumed.returncode == 0, resumed.stderr
    written = [run / "metrics.jsonl", *(run / "predictions").iterdir()]
    assert len(written) == 3
    for path in written:
        assert (tmp_path / "run" / path.relative_to(run)).read_bytes() == path.read_bytes()
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (run, tmp_path / "run")
    )
    assert one.keys() == other.keys()
    assert all(other[name].equal(value) for name, value in one.items())


def test_it_answers(site: Path, run: Path, tmp_path: Path) -> None:
    asked = ["task=microworld_sentiment", "text=What a splendid day."]
    done = mtl(site, tmp_path, "-m", "mtl.predict", f"run={run}", *asked)
    assert done.returncode == 0, done.stderr
    assert "positive" in done.stdout or "negative" in done.stdout
