"""docs/export.md keeps its word: its blocks are run one after the other in one folder, trainings cut to a few steps."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import elsewhere
import moods

PAGE = Path(__file__).resolve().parents[1] / "docs" / "export.md"
TINY = (
    "decoder=micro",
    "trainer=cpu",
    "tokenizer.vocabulary=400",
    "budget.tokens=null",
    "budget.steps=2",
    "evaluation.times=1",
    "evaluation.rows=4",
    "evaluation.resamples=10",
    "record.mlflow=false",
    "corpus.documents=200",
)
BLOCK = re.compile(r"^(?:<!-- test: ([^>]+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore")
def test_every_block_of_the_page_works(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lm_eval")
    said = []
    for way, language, text in BLOCK.findall(PAGE.read_text()):
        if way.startswith("file "):
            moods.write(way.removeprefix("file "), text)
        elif language == "python":
            exec(compile(text, str(PAGE), "exec"), {"__name__": "page"})
        else:
            assert (way, language) == ("run", "sh")
            said += [command(shlex.split(line)) for line in text.splitlines()]
    printed = capsys.readouterr().out
    assert "Mia said" in printed
    assert printed.count("log_probabilities") == 2
    assert re.search(r"\|reviews\|.*\|acc +\|", "".join(said))


def command(words: list[str]) -> str:
    assert words[:2] == ["python", "-m"]
    if words[2] == "lm_eval":
        done = elsewhere.python(*words[1:], env=os.environ | {"PYTHONPATH": str(PAGE.parents[1])})
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout
    verb = words[2].removeprefix("mtl.")
    tiny = TINY if verb == "fit" else ()
    if "tokenizer=folder" in words:
        tiny = tuple(word for word in tiny if not word.startswith("tokenizer."))
    status, out, err = moods.command(verb, *words[3:], *tiny)
    assert status == 0, err
    return out
