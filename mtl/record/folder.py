"""The folder of a run: which files it holds, who may write in it, and how they are written."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mtl.config.errors import UserError, nearest
from mtl.record.files import to_json, write_atomically

State = Literal["new", "resume", "finished"]
"""What a claimed folder is: just created, an unfinished run of the same config, or a finished one."""

Differing = Callable[[str], list[tuple[str, str, str]]]
"""From the text of the config.yaml found to ``(key, value there, value here)`` of each key that differs."""

SHOWN = 4
"""Differing keys named in one message."""


class RunFolder:
    """A run folder and the paths in it.

    Constructing one touches nothing on disk; :meth:`claim` and :meth:`dated` create, :meth:`open` expects to find.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        """The resolved configuration; feeding it back repeats the run."""
        self.summary = self.path / "summary.json"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "log.txt"
        self.curves = self.path / "curves.png"
        self.tracking = self.path / "mlflow.json"
        """Which MLflow run this is, so that a resumed run goes on with it."""
        self.last_checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.best_checkpoint = self.path / "checkpoints" / "best.ckpt"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @staticmethod
    def check_place(path: Path, *, where: str | None = None) -> None:
        """Refuse a place where no run folder can be, without creating anything.

        :raises UserError: a file is in the way, or what is there is no run folder.
        """
        where = where or f"run_dir={path}"
        existing = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not existing.is_dir():
            raise UserError(
                f"cannot use {path} as a run folder: {existing} is a file",
                where=where,
                hints=["name a folder that does not exist yet, or an empty one"],
            )
        if existing == path and not (path / "config.yaml").is_file() and any(path.iterdir()):
            raise _no_run_folder(path, where)
        if not os.access(existing, os.W_OK):
            raise UserError(
                f"cannot use {path} as a run folder: {existing} cannot be written to", where=where
            )

    @classmethod
    def claim(
        cls, path: Path, config_yaml: str, differing: Differing, *, where: str | None = None
    ) -> tuple[RunFolder, State]:
        """Take ``path`` for a run of this config, or go on with the run that is there.

        :param config_yaml: Text of config.yaml, written where the folder is new or empty.
        :param differing: Compares a config.yaml that is already there with ours; empty means the same run.
        :param where: Where the path was written, for messages.
        :raises UserError: if another config, or something that is no run, occupies the folder, or it cannot be made.
        """
        folder = cls(path)
        where = where or f"run_dir={path}"
        try:
            if _create(folder.path, config_yaml):
                return folder, "new"
            if not folder.config.is_file():
                if any(folder.path.iterdir()):
                    raise _no_run_folder(path, where)
                write_atomically(folder.config, config_yaml)
                return folder, "new"
            found = folder.config.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"cannot use {path} as a run folder: {error.strerror or error}", where=where
            ) from error
        if differences := differing(found):
            raise _occupied(path, differences, where)
        return folder, "finished" if folder.finished else "resume"

    @classmethod
    def dated(
        cls,
        config_yaml: str,
        *,
        strategy: str,
        seed: int,
        parent: Path = Path("runs"),
        now: datetime | None = None,
    ) -> RunFolder:
        """A new folder ``<parent>/<date>_<time>_<strategy>_seed<seed>`` that no other process has.

        :raises UserError: if it cannot be made.
        """
        for path in _dated_names(parent, strategy, seed, now or datetime.now()):
            try:
                if _create(path, config_yaml):
                    return cls(path)
            except OSError as error:
                raise UserError(
                    f"cannot make a run folder in {parent}: {error.strerror or error}",
                    hints=["name another place with run_dir=DIR"],
                ) from error
        raise AssertionError("the names do not end")

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, where: str | None = None) -> RunFolder:
        """The run folder at ``path``.

        :raises UserError: if there is none; the message names the nearest run beside it.
        """
        folder = cls(path)
        if folder.config.is_file():
            return folder
        if folder.path.is_dir():
            problem = f"{path} is no run folder: it has no config.yaml"
        else:
            problem = f"there is no run folder {path}"
        parent = folder.path.absolute().parent
        beside = [entry.parent.name for entry in sorted(parent.glob("*/config.yaml"))]
        hints = []
        if (guess := nearest(folder.path.name, beside)) is not None:
            hints.append(f"did you mean: {folder.path.parent / guess}")
        if beside:
            hints.append(f"runs in {parent}: {', '.join(beside[-5:])}")
        raise UserError(problem, where=where, hints=hints)

    @property
    def finished(self) -> bool:
        """Whether the run in this folder came to its end."""
        try:
            summary = json.loads(self.summary.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(summary, dict) and summary.get("status") == "finished"

    def say(self, text: str) -> None:
        """Append to log.txt, each line with the time."""
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        lines = "".join(f"{time} {line}\n" for line in text.splitlines())
        with self.log.open("a", encoding="utf-8") as file:
            file.write(lines)

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """Append one object to metrics.jsonl (a number that is not finite is written as null)."""
        with self.metrics.open("a", encoding="utf-8", newline="\n") as file:
            file.write(to_json(entry) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The objects of metrics.jsonl; a last line that a killed process left half-written is left out."""
        return [entry for _, entry in self._metric_lines()]

    def truncate_after(self, step: int) -> int:
        """Drop what metrics.jsonl says of steps later than ``step``, and a half-written last line.

        A resumed run calls it with the step of its checkpoint, and so writes every later step exactly once.

        :returns: how many whole lines were dropped.
        """
        if not self.metrics.exists():
            return 0
        lines = list(self._metric_lines())
        kept = [line for line, entry in lines if entry["step"] <= step]
        write_atomically(self.metrics, "".join(f"{line}\n" for line in kept))
        return len(lines) - len(kept)

    def _metric_lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            lines = self.metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                if number == len(
                    lines
                ):  # no newline follows: the process was killed inside the write
                    return
                raise UserError(
                    "this line is no JSON object", where=f"{self.metrics}, line {number}"
                ) from None
            yield line, entry


def _create(path: Path, config_yaml: str) -> bool:
    """Make ``path`` with config.yaml in it, in one step; False if something is there already.

    The folder is built beside its place and renamed into it, so that of two processes exactly one gets it and
    nobody meets a run folder without config.yaml.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    building.mkdir()
    try:
        write_atomically(building / "config.yaml", config_yaml)
        building.rename(path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY) or path.exists():
            return False
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def _dated_names(parent: Path, strategy: str, seed: int, now: datetime) -> Iterator[Path]:
    name = f"{now:%Y-%m-%d_%H%M%S}_{strategy}_seed{seed}"
    yield parent / name
    number = 2
    while True:
        yield parent / f"{name}_{number}"
        number += 1


def _no_run_folder(path: Path, where: str) -> UserError:
    return UserError(
        f"{path} is not empty and is no run folder: it has no config.yaml",
        where=where,
        hints=["name a folder that does not exist yet, or an empty one"],
    )


def _occupied(path: Path, differences: list[tuple[str, str, str]], where: str) -> UserError:
    hints = [f"{key}: {there} there, {here} here" for key, there, here in differences[:SHOWN]]
    if len(differences) > SHOWN:
        hints.append(f"and {len(differences) - SHOWN} more keys")
    hints.append(f"name another folder, or go on with that run: resume={path}")
    return UserError(f"{path} holds a run with another config", where=where, hints=hints)
