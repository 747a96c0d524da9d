"""The README keeps its word: every command and every piece of Python in it is tried.

How a fenced block is tried is said by its language, and by a comment on the line above it where the usual way does
not fit:

``sh``      each ``python -m mtl.VERB`` is composed and checked (``--cfg job``: it names only what exists), each
            ``make TARGET`` has its target; nothing is trained. ``resume=`` needs a run, so it is only run.
            A program that is not ours must stand in ELSEWHERE, so that a misspelt command is not passed over.
``<!-- test: run -->`` above ``sh``
            the commands are run one after the other in one empty folder, trainings cut to a few steps (TINY).
``python``  the block is run in an empty folder, trainings that ``mtl.fit.run`` starts cut to a few steps (TINY).

Other languages (``yaml``, ``text``, ...) are read by people only.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import elsewhere

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TINY = (
    "decoder=micro",
    "budget.tokens=null",
    "budget.epochs=null",
    "budget.steps=2",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "evaluation.times=1",
    "evaluation.resamples=20",
)
ELSEWHERE = {"git", "cd", "pip", "export"}

pytestmark = pytest.mark.skipif(not README.exists(), reason="README.md does not exist yet")


@dataclass(frozen=True)
class Block:
    """A fenced block: its first line in the file, its language, how it is tried, and what it says."""

    line: int
    language: str
    way: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, comments and continued lines resolved."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
        return [command for command in words if command]


def blocks(text: str) -> list[Block]:
    fence = re.compile(
        r"^(?:<!-- test: (\w+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
    )
    return [
        Block(text.count("\n", 0, found.start(2)) + 1, found[2], found[1] or "", found[3])
        for found in fence.finditer(text)
    ]


FOUND = blocks(README.read_text()) if README.exists() else []


def chosen(language: str, way: str) -> list[object]:
    return [
        pytest.param(block, id=f"line-{block.line}")
        for block in FOUND
        if (block.language, block.way) == (language, way)
    ]


def run(*command: str, fresh: bool = False) -> None:
    """What stands behind ``python``; ``fresh`` is in an interpreter that nothing was imported in."""
    surroundings = os.environ | {"PYTHONPATH": str(ROOT)}
    if fresh:
        done = subprocess.run(
            [sys.executable, *command],
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
    else:
        done = elsewhere.python(*command, env=surroundings)
    assert done.returncode == 0, (
        f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )


def without_sweep(words: list[str]) -> list[str]:
    """A multirun as its first job: every list of values as its first value."""
    if "--multirun" not in words and "-m" not in words:
        return words
    return [
        word if "[" in word or "{" in word else word.split(",")[0]
        for word in words
        if word not in ("--multirun", "-m")
    ]


def test_every_block_is_tried_in_a_known_way() -> None:
    known = {("sh", ""), ("sh", "run"), ("python", "")}
    tried = [block for block in FOUND if block.way or block.language in ("sh", "bash", "python")]
    assert {
        f"line {b.line}: {b.language} {b.way}" for b in tried if (b.language, b.way) not in known
    } == set()
    assert chosen("sh", "") or chosen("sh", "run"), (
        "no command is tried: is the README still read as it is written?"
    )


@pytest.mark.parametrize("block", chosen("sh", ""))
def test_commands_name_only_what_exists(block: Block) -> None:
    for command in block.commands:
        while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
            del command[0]  # a setting of the environment
        match command:
            case ["python", "-m", verb, *words] if verb.startswith("mtl"):
                if any(word.startswith("resume=") for word in words) or not words:
                    assert (ROOT / f"{verb.replace('.', '/')}.py").exists() or verb == "mtl", verb
                elif "--help" in words:
                    run("-m", verb, *words)
                else:
                    run("-m", verb, *without_sweep(words), "--cfg", "job")
            case ["make", *targets]:
                for target in targets:
                    if "=" not in target:
                        assert re.search(
                            rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE
                        ), command
            case ["python", script, *_] if script.endswith(".py"):
                assert (ROOT / script).exists(), command
            case [program, *_]:
                assert program in ELSEWHERE, f"line {block.line}: what is '{program}'?"


@pytest.mark.parametrize("block", chosen("sh", "run"))
def test_commands_run(block: Block) -> None:
    commands = block.commands
    for number, command in enumerate(commands, 1):
        assert command[:2] == ["python", "-m"], (
            f"line {block.line}: only python -m is run, not {command}"
        )
        program, *words = command[2:]
        # A run that is resumed or repeated is as small as the one before it.
        again = "--config-name" in words or any(word.startswith("resume=") for word in words)
        cut = TINY if program == "mtl.fit" and not again else ()
        run("-m", program, *words, *cut, fresh=number == len(commands))


@pytest.mark.parametrize("block", chosen("python", ""))
def test_python_runs(block: Block) -> None:
    tiny = f"""
import mtl.fit
_run = mtl.fit.run
mtl.fit.run = lambda overrides=(), **more: _run([*overrides, *{TINY!r}], **more)
"""
    run("-c", tiny + block.text)
