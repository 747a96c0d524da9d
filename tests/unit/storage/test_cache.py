"""The cache: whole entries only, whoever builds and whoever is killed."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtl.config.errors import UserError
from mtl.storage.cache import STALE_SECONDS, build, cache_root, content_key, lock

BUILDER = """
import sys, time
from pathlib import Path
from mtl.storage.cache import build

root, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])

def make(folder):
    (folder / "first").write_text(name)
    print("building", flush=True)
    time.sleep(seconds)
    (folder / "second").write_text(name)

entry = build("key", make, root)
print((entry / "first").read_text(), (entry / "second").read_text(), flush=True)
"""


def builder(root: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(root), name, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once_use_one_entry(tmp_path: Path) -> None:
    with builder(tmp_path, "a", 0.3) as one, builder(tmp_path, "b", 0.6) as two:
        said = [one.communicate(timeout=60)[0].split(), two.communicate(timeout=60)[0].split()]
    assert [s[-2:] for s in said] == [["a", "a"]] * 2 or [s[-2:] for s in said] == [["b", "b"]] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_a_killed_builder_leaves_nothing_taken_for_whole(tmp_path: Path) -> None:
    with builder(tmp_path, "killed", 60) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        process.send_signal(signal.SIGKILL)
    (rest,) = tmp_path.iterdir()
    assert rest.name != "key"
    entry = build("key", lambda folder: (folder / "first").write_text("whole") and None, tmp_path)
    assert (entry / "first").read_text() == "whole"
    # What it left is removed once it is old.
    old = time.time() - STALE_SECONDS - 1
    os.utime(rest, (old, old))
    build("other", lambda folder: None, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"key", "other"}


def test_built_once_and_not_after_a_failure(tmp_path: Path) -> None:
    calls = []

    def fail(folder: Path) -> None:
        calls.append(folder)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        build("key", fail, tmp_path)
    assert list(tmp_path.iterdir()) == []
    build("key", calls.append, tmp_path)
    build("key", calls.append, tmp_path)
    assert len(calls) == 2


def test_root_is_configured_then_environment_then_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_CACHE", "/somewhere")
    assert cache_root("/else") == Path("/else")
    assert cache_root() == Path("/somewhere")
    monkeypatch.delenv("MTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/a/.c")
    assert cache_root() == Path("/home/a/.c/mtl")


def test_a_folder_that_cannot_be_written_is_the_persons_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the cache folder cannot be written") as raised:
        build("key", lambda folder: None, tmp_path / "file")
    assert raised.value.where == str(tmp_path / "file")


def test_content_key_tells_parts_apart() -> None:
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key("ab", 1) == content_key("ab", 1)


@pytest.mark.parametrize("key", ["", "../up", ".hidden", "a/b"])
def test_keys_stay_inside_the_folder(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`key` should be"):
        build(key, lambda folder: None, tmp_path)


INSIDE = """
import sys, time
from mtl.storage.cache import lock

with lock("key", sys.argv[1]):
    print("inside", flush=True)
    sys.stdin.readline()
"""


def inside(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INSIDE, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("killed", [False, True])
def test_one_process_at_a_time_until_the_other_leaves_or_dies(tmp_path: Path, killed: bool) -> None:
    seen: list[str] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        seen.append("waits")
        if killed:
            other.kill()
        else:
            other.communicate("leave\n")
        yield
        seen.append("goes in")

    with inside(tmp_path) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "inside\n"
        with lock("another key", tmp_path, waiting=waiting()):
            assert seen == []
        with lock("key", tmp_path, waiting=waiting()):
            assert seen == ["waits", "goes in"]
    assert other.returncode == (-signal.SIGKILL if killed else 0)


def test_where_the_file_system_knows_no_locks_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    with lock("key", tmp_path), lock("key", tmp_path):
        pass
