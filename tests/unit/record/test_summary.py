from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mtl.config.errors import UserError
from mtl.record.folder import RunFolder
from mtl.record.summary import Summary, git_state, read_summary, versions, write_summary


def test_round_trip_and_null_for_what_is_not_finite(tmp_path: Path, summary: Summary) -> None:
    folder = RunFolder(tmp_path)
    summary["tasks"]["sst2"]["metrics"]["accuracy"]["low"] = float("nan")
    write_summary(folder, summary)
    text = folder.summary.read_text()
    assert "NaN" not in text
    summary["tasks"]["sst2"]["metrics"]["accuracy"]["low"] = None
    assert read_summary(folder) == summary == json.loads(text)


def test_a_run_without_summary_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"python -m mtl.fit resume={tmp_path}"):
        read_summary(RunFolder(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_summary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(UserError, match=r"summary\.json"):
        read_summary(RunFolder(tmp_path))


def test_versions_name_what_can_change_a_result() -> None:
    found = versions()
    assert {"python", "mtl", "torch", "pytorch-lightning", "transformers", "numpy"} <= found.keys()
    assert all(isinstance(version, str) for version in found.values())


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "mtl").mkdir()
    (tmp_path / "mtl" / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    return tmp_path


def test_git_tells_the_commit_and_whether_the_code_differs(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(checkout, "add", "mtl")
    git(checkout, "commit", "-qm", "first")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")  # as inside a hook of another repository
    commit = (checkout / ".git" / "refs" / "heads").iterdir().__next__().read_text().strip()
    assert git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / "notes.txt").write_text("not code")
    assert git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / "strategies").mkdir()
    (checkout / "strategies" / "mine.py").write_text("")
    assert git_state(checkout) == {"commit": commit, "dirty": True}


def test_code_that_is_not_tracked_has_no_commit(checkout: Path) -> None:
    assert git_state(checkout) == {"commit": None, "dirty": None}
    assert git_state(checkout / "absent") == {"commit": None, "dirty": None}


def test_no_git_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) == {"commit": None, "dirty": None}
