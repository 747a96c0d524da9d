"""``python -m mtl.prepare overlap`` on a person's own data: the table, the file, and mistakes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere
import moods

from mtl import overlapping
from mtl.config.compose import compose
from mtl.config.schema import DataConfig
from mtl.config.verb_schema import OverlapConfig
from mtl.record.contamination import print_parts
from mtl.scoring.contaminated import overlapping_rows, read_overlap, score_parts
from mtl.tasks.loading import load_task
from mtl.tasks.task import Answer

CORPUS = """name: notes
kind: source
source: {folder: notes, train: train, validation: validation, report: test}
"""
PASSAGES = """kind: generation
source: {folder: passages, train: train, report: test}
segments: ["{{ text.rsplit(none, 1)[0] }}"]
prompt: ["{{ text.rsplit(none, 1)[0] }}"]
target: "{{ text.rsplit(none, 1)[1] }}"
metrics: [exact_match]
"""
SENTENCE = "One day the old miller went down to the green river alone"
TEST = [
    SENTENCE,  # 12 words, 5 8-grams, all of them in the corpus
    "Then one day the old miller went down to see Ada",  # 11 words: one-day-...-to of 4
    "Nobody in the village knew where all the geese had gone",  # 11 words: 2 of 4 in own train
    "Too short by far",
]
OWN = [
    "nobody in the village; knew where all the sheep went",
    "In that village knew where all the geese had gone",
]
DOCUMENTS = [
    f"({SENTENCE.upper()}!)",
    "Something else entirely is told in this one, at some length",
]


def rows(texts):
    return moods.lines([{"text": text} for text in texts])


@pytest.fixture
def folder(tmp_path):
    moods.build(tmp_path)
    moods.write(tmp_path / "mine" / "corpus" / "notes.yaml", CORPUS)
    moods.write(tmp_path / "mine" / "task" / "passages.yaml", PASSAGES)
    moods.write(tmp_path / "data" / "notes" / "train.jsonl", rows(DOCUMENTS))
    for held_out in ("validation", "test"):
        moods.write(tmp_path / "data" / "notes" / f"{held_out}.jsonl", rows(TEST))
    moods.write(tmp_path / "data" / "passages" / "train.jsonl", rows(OWN * 6))
    moods.write(tmp_path / "data" / "passages" / "test.jsonl", rows(TEST))
    return tmp_path


def overlap(folder, *arguments):
    """The command in a process of its own."""
    surroundings = {key: value for key, value in os.environ.items() if key != "MTL_DATA_ROOT"}
    surroundings["PYTHONPATH"] = str(moods.ROOT)
    return elsewhere.python("-m", "mtl.overlapping", *arguments, cwd=folder, env=surroundings)


CHOSEN = ("--config-dir", "mine", "corpus=notes", "tasks=[passages,moods]", "data.root=data")
TABLE = """\
test set  split       rows  with 8-grams  8-grams  % in own train  % in notes  rows: own train  rows: notes
-----------------------------------------------------------------------------------------------------------
passages  test           4             3       13           15.38       46.15                1            2
moods     validation    24             0        0               -           -                0            0

%: of all 8-grams of the split, each as often as it stands there; rows: those with at least one found
notes: 2 documents, 9 8-grams
"""


def test_the_table_reckoned_by_hand(folder):
    done = overlap(folder, "overlap", *CHOSEN, "out=found.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())
    assert shown.startswith(TABLE)
    assert "false positives measured: 0 of 17 8-grams that are not there\n" in shown

    report = json.loads((folder / "found.json").read_text())
    assert (report["n"], report["false_positive_rate"]) == (8, 1e-8)
    assert report["measured_false_positive_rate"] == 0.0
    assert report["corpus"]["name"] == "notes"
    passages = report["tasks"]["passages"]
    assert (passages["found_in_train"], passages["found_in_corpus"]) == (2, 6)
    assert passages["rows"] == [{"row": "test:0", "share": 1.0}, {"row": "test:1", "share": 0.25}]
    assert passages["rows_in_train"] == [{"row": "test:2", "share": 0.5}]
    assert report["tasks"]["moods"]["rows"] == []
    assert read_overlap(folder / "found.json")["passages"].rows == {"test:0", "test:1"}


def test_the_same_from_python_twice(folder, monkeypatch):
    monkeypatch.chdir(folder)
    chosen = ["corpus=notes", "tasks=[passages]", "data.root=data"]
    first, second = (overlapping.run(chosen, config_dir="mine") for _ in range(2))
    assert first == second
    assert first["tasks"]["passages"]["found_in_corpus"] == 6
    longer = overlapping.run([*chosen, "n=12"], config_dir="mine")
    assert longer["tasks"]["passages"]["ngrams"] == 1
    assert longer["tasks"]["passages"]["found_in_corpus"] == 1


def test_the_file_fits_the_rows_that_are_scored(folder, monkeypatch):
    """A model that has read the corpus knows what overlaps with it, and nothing else."""
    monkeypatch.chdir(folder)
    chosen = ["corpus=notes", "tasks=[passages]", "data.root=data", "out=found.json"]
    overlapping.run(chosen, config_dir="mine")
    config = compose("overlap", OverlapConfig, chosen, config_dir="mine")
    task = load_task(config.task["passages"], DataConfig(root="data"), seed=5)
    rows = overlapping_rows(read_overlap("found.json"), task, task.report, path="found.json")
    answers = [
        Answer(example.references[0] if example.row in rows else "")
        for example in task.report.examples
    ]
    parts = score_parts(task, task.report, answers, rows, resamples=50)
    values = {name: part.metrics["exact_match"].value for name, part in parts.items()}
    assert values == {"all": 0.5, "clean": 0.0, "overlapping": 1.0}
    file = io.StringIO()
    print_parts({"passages": {name: part.as_summary() for name, part in parts.items()}}, file=file)
    shown = [line.split() for line in file.getvalue().splitlines()]
    assert ["rows", "4", "2", "2"] in shown
    assert shown[2][:3] == ["passages", "exact_match", "*"]
    assert shown[2][-6:] == ["0.000", "[0.000,", "0.000]", "1.000", "[1.000,", "1.000]"]


def test_test_sets_too_large_for_the_oracle_are_said(folder, monkeypatch):
    from mtl.tasks import contamination

    monkeypatch.chdir(folder)
    monkeypatch.setattr(contamination.asked_ngrams, "__kwdefaults__", {"at_most": 11})
    report = overlapping.run(
        ["corpus=notes", "tasks=[passages]", "data.root=data"], config_dir="mine"
    )
    assert report["measured_false_positive_rate"] is None
    assert report["filter"]["absent"] is None
    assert report["tasks"]["passages"]["found_in_corpus"] == 6


def test_the_generated_default_needs_no_data(tmp_path, monkeypatch):
    """Running text without demonstrations tells no test row of summarisation; its own train split is of other days."""
    monkeypatch.delenv("MTL_DATA_ROOT", raising=False)
    chosen = ["tasks=[microworld_summarisation]", "corpus.documents=400"]
    report = overlapping.run([*chosen, "corpus.demonstrations=0"])
    task = report["tasks"]["microworld_summarisation"]
    assert task["total"] == 500
    assert task["ngrams"] > 500
    assert task["found_in_corpus"] / task["ngrams"] < 0.05
    assert report["measured_false_positive_rate"] == 0.0


def test_help_says_how_it_is_called(folder):
    done = overlap(folder, "--help")
    assert done.returncode == 0
    assert "python -m mtl.prepare overlap KEY=VALUE ..." in done.stdout
    assert "python -m mtl.prepare overlap corpus=gutenberg tasks=[lambada] out=overlap.json" in (
        done.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["n=0", "false_positive_rate=0"],
            "error: n must be at least 1, found 0 (command line: n=0)\n"
            "  n: int, default 8. Words of an n-gram.\n"
            "error: false_positive_rate must be more than 0 and below 1, found 0.0"
            " (command line: false_positive_rate=0)\n",
        ),
        (
            ["corpus=gutenburg"],
            "error: unknown corpus 'gutenburg' (command line: corpus=gutenburg)\n"
            "  did you mean: gutenberg\n",
        ),
        (["out=mine"], "error: mine is a folder (out=mine)\n  name a file in it\n"),
        (["out=no/such/file.json"], "error: there is no folder no/such (out=no/such/file.json)\n"),
        (
            ["data.root=nowhere"],
            "error: no such data folder: FOLDER/nowhere (data.root=nowhere)\n"
            "  folders in FOLDER: data, mine\n",
        ),
    ],
)
def test_mistakes(folder, arguments, text):
    before = moods.tree(folder)
    done = overlap(folder, *CHOSEN, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.replace(str(folder), "FOLDER").startswith(text)
    assert moods.tree(folder) == before


@pytest.mark.parametrize("arguments", [["--help"], ["sede=1"]])
def test_help_and_a_mistake_load_nothing_heavy(arguments):
    program = f"""
import contextlib, io, sys
sys.argv[1:] = {arguments!r}
from mtl import overlapping
with contextlib.redirect_stdout(io.StringIO()):
    try:
        overlapping.main()
    except SystemExit as end:
        assert end.code == {0 if arguments == ["--help"] else 2}, end.code
heavy = ("torch", "numpy", "transformers", "datasets", "pandas", "scipy", "rbloom", "pyarrow")
print(*(name for name in heavy if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=moods.ROOT
    )
    assert done.stdout == "\n"
