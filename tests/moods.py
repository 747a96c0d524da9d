"""A person's own data, as tests make it: two small tasks as JSON lines, and the commands called in this process."""

import contextlib
import importlib
import io
import json
import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LABELS = ("bad", "good")
WORDS = {
    "bad": ["poor", "awful", "grim", "sad", "cold"],
    "good": ["fine", "lovely", "bright", "happy", "warm"],
}
MOODS = """kind: classification
source: {folder: moods}
segments: ["{{ text }}"]
target: "{{ label }}"
labels: [bad, good]
"""
PAIRS = """kind: pair_classification
source: {folder: pairs}
segments: ["{{ first }}", "{{ second }}"]
target: "{{ label }}"
labels: [different, same]
"""
ECHO = """kind: generation
source: {folder: moods}
segments: ["{{ text }}"]
target: "{{ label }}"
metrics: [exact_match]
max_answer_tokens: 4
"""
SMALL = (
    "decoder=micro",
    "decoder.context=64",
    "trainer=cpu",
    "tokenizer.vocabulary=300",
    "batch.tokens=1024",
    "data.root=data",
    "evaluation.times=2",
    "evaluation.resamples=50",
    "record.mlflow=false",
)
"""What all small runs share."""


def write(file, text):
    """Write a file and the folders above it."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def lines(rows):
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def mood_rows(count, seed):
    """A few words of one mood, and its label."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label = LABELS[number % 2]
        text = " ".join(draw.choice(WORDS[label]) for _ in range(3 + number % 4))
        rows.append({"text": text, "label": label})
    return rows


def pair_rows(count, seed):
    """Two words, of one mood or of both."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        first, second = draw.choice(LABELS), draw.choice(LABELS)
        label = "same" if first == second else "different"
        words = {"first": draw.choice(WORDS[first]), "second": draw.choice(WORDS[second])}
        rows.append({**words, "label": label, "number": number})
    return rows


def build(folder):
    """``data/`` with two datasets and ``mine/`` with three tasks over them."""
    folder = Path(folder)
    for name, make in (("moods", mood_rows), ("pairs", pair_rows)):
        write(folder / "data" / name / "train.jsonl", lines(make(120, seed=1)))
        write(folder / "data" / name / "validation.jsonl", lines(make(24, seed=2)))
    for name, text in (("moods", MOODS), ("pairs", PAIRS), ("echo", ECHO)):
        write(folder / "mine" / "task" / f"{name}.yaml", text)
    return folder


def command(verb, *arguments, given=""):
    """``python -m mtl.<verb> <arguments>`` in this process.

    :param given: Standard input.
    :return: Exit status, standard output, standard error.
    """
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = [f"mtl.{verb}", *arguments], io.StringIO(given)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            importlib.import_module(f"mtl.{verb}").main()
    except SystemExit as ending:
        return ending.code, out.getvalue(), err.getvalue()
    finally:
        sys.argv, sys.stdin = before
    raise AssertionError("a command ends with an exit status")


_worlds = []


def world(factory):
    """A folder with the data, and a finished run of three strategies in it; made once for all tests.

    :param factory: pytest's ``tmp_path_factory``.
    """
    if not _worlds:
        folder = build(factory.mktemp("world"))
        before = Path.cwd()
        os.chdir(folder)
        try:
            for strategy in ("task_signal", "mt_dnn", "zero_shot"):
                chosen = ["tasks=[moods,pairs,echo]", f"strategy={strategy}", f"run_dir={strategy}"]
                training = ["budget.steps=60", "optimizer.learning_rate=0.01"]
                ending = command("fit", "--config-dir", "mine", *SMALL, *chosen, *training)
                assert ending[0] == 0, ending[2]
        finally:
            os.chdir(before)
        _worlds.append(folder)
    return _worlds[0]


def tree(folder):
    """Every file below a folder with its content, and every folder."""
    folder = Path(folder)
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
