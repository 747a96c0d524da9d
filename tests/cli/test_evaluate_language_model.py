"""``python -m mtl.evaluate`` of language models: of a run on running text, and of a Hugging Face folder."""

import json
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

from mtl import evaluate, export
from mtl.data.vocabulary import Vocabulary
from mtl.record.run import Run

WORDED = """
prompts:
  plain: {prompt: ["{{ text }}"], answers: [" grim", " happy"]}
  asked: {prompt: ["Is this good? {{ text }}"]}
protocol: {unconditional: ""}
"""


@pytest.fixture
def world(tmp_path_factory, monkeypatch):
    """The folder with data and finished runs; the tests stand in it and change nothing there."""
    folder = moods.world(tmp_path_factory)
    monkeypatch.chdir(folder)
    before = moods.tree(folder)
    yield folder
    assert moods.tree(folder) == before


@pytest.fixture
def exported(world, tmp_path):
    """The run on running text as a Hugging Face folder."""
    export.run(["run=zero_shot", f"to={tmp_path / 'exported'}"])
    return tmp_path / "exported"


def said(*arguments):
    status, out, err = moods.command("evaluate", *arguments)
    assert (status, out) == (2, "")
    return err.splitlines()


def test_a_folder_answers_as_the_run_it_was_exported_from(world, exported):
    asked = ["tasks=[moods,pairs,echo]", "data.root=data", "resamples=20"]
    of_run = evaluate.run(["run=zero_shot", *asked], config_dir="mine")
    of_folder = evaluate.run([f"hf={exported}", *asked], config_dir="mine")
    assert of_folder == of_run
    assert set(of_run["moods"]["metrics"]) >= {"accuracy", "accuracy_by_token", "decoded_accuracy"}
    assert of_run["moods"]["shots"] == 0


def test_examples_before_a_row_are_never_called_zero_shot(world):
    status, out, err = moods.command("evaluate", "run=zero_shot", "tasks=[moods]", "shots=2")
    assert (status, err) == (0, "")
    assert "moods (2-shot)" in out
    assert "moods: few-shot: 2 context examples of the train split before each row" in out
    assert evaluate.run(["run=zero_shot", "tasks=[moods]", "shots=2"])["moods"]["shots"] == 2
    # Asked otherwise than the run asks itself: its own answers stay.
    assert set(Run("zero_shot").summary["tasks"]["moods"]) & {"shots"}
    assert Run("zero_shot").summary["tasks"]["moods"]["shots"] == 0


def test_every_wording_and_their_spread(world, tmp_path):
    moods.write(tmp_path / "more" / "task" / "worded.yaml", moods.MOODS + WORDED)
    asked = ["run=zero_shot", "tasks=[worded]", "rows=20"]
    scores = evaluate.run([*asked, "prompts=all"], config_dir=str(tmp_path / "more"))["worded"]
    values = scores["prompts"]
    assert list(values) == ["own", "plain", "asked"]
    assert values["own"] == scores["metrics"]["accuracy"]["value"]
    note = scores["notes"][-1]
    assert (
        f"mean {mean(values.values()):.3f}, standard deviation {stdev(values.values()):.3f}" in note
    )
    assert note.startswith("accuracy over 3 wordings: ")
    alone = evaluate.run(asked, config_dir=str(tmp_path / "more"))["worded"]
    assert "prompts" not in alone
    assert alone["metrics"] == scores["metrics"]
    assert "accuracy_by_mutual_information" in alone["metrics"]


def test_documents_in_windows_that_overlap(world, tmp_path):
    text = moods.MOODS.replace("classification", "language_modelling").split("segments")[0]
    target = 'target: "{{ text }} {{ text }} {{ text }} {{ text }} {{ text }} {{ text }}"\n'
    moods.write(tmp_path / "more" / "task" / "texts.yaml", text + target)
    found = {
        window: evaluate.run(
            ["run=zero_shot", "tasks=[texts]", f"window={window}", "rows=20", "resamples=10"],
            config_dir=str(tmp_path / "more"),
        )["texts"]
        for window in ("disjoint", "strided")
    }
    for window, scores in found.items():
        assert scores["primary"] == f"bits_per_byte_{window}"
        assert scores["window"] == window
        assert set(scores["metrics"]) == {
            f"{name}_{window}"
            for name in ("bits_per_byte", "perplexity_per_word", "perplexity_per_token")
        }


def test_overlapping_rows_stand_beside_the_clean_ones(world, tmp_path):
    table = tmp_path / "overlap.json"
    whole = Run("zero_shot").predictions("moods")
    scores = evaluate.run(["run=zero_shot", "tasks=[moods]", "resamples=10"])["moods"]
    from mtl.config.compose import compose
    from mtl.config.schema import DataConfig, FitConfig
    from mtl.tasks.loading import load_task

    config = compose("config", FitConfig, config_dir="zero_shot")
    task = load_task(config.task["moods"], DataConfig(root="data"), seed=0)
    rows = [{"row": row, "share": 0.5} for row in whole["row"][:6]]
    entry = {"split": "validation", "fingerprint": task.report.fingerprint, "rows": rows}
    table.write_text(json.dumps({"n": 8, "tasks": {"moods": entry}}))
    status, out, err = moods.command(
        "evaluate", "run=zero_shot", "tasks=[moods]", f"overlap={table}", "resamples=10"
    )
    assert (status, err) == (0, "")
    assert "clean" in out
    assert "overlapping" in out
    parts = evaluate.run(["run=zero_shot", "tasks=[moods]", f"overlap={table}", "resamples=10"])[
        "moods"
    ]["parts"]
    assert {name: part["rows"] for name, part in parts.items()} == {
        "all": 24,
        "clean": 18,
        "overlapping": 6,
    }
    assert parts["all"]["metrics"] == scores["metrics"]
    shares = [part["metrics"]["accuracy"]["value"] * part["rows"] for part in parts.values()]
    assert shares[0] == pytest.approx(sum(shares[1:]))


def test_mistakes(world, exported):
    assert said(f"hf={exported}") == [
        f"error: which tasks is the language model to be asked (hf={exported})",
        "  name them: tasks=[lambada,copa]",
        "  what there is: python -m mtl",
    ]
    assert said("hf=./nowhere", "tasks=[lambada]")[0] == (
        "error: no such folder: ./nowhere (hf=./nowhere)"
    )
    assert said("run=zero_shot", f"hf={exported}")[0].startswith(
        "error: run must be given, or hf, and not both"
    )
    assert said("run=mt_dnn", "shots=3", "window=strided") == [
        "error: the run's strategy learned its tasks, and reads their rows as it did in training"
        " (shots=3 window=strided)",
        "  these are for runs trained on running text, and for hf=FOLDER",
    ]
    assert said("run=zero_shot", "tasks=[moods]", "shots=500")[:1] == [
        "error: task 'moods' has 108 training rows, and 500 context examples were asked for"
        " (shots=500)"
    ]
    assert said("run=zero_shot", "tasks=[moods]", "overlap=none.json")[0] == (
        "error: there is no file none.json (overlap=none.json)"
    )


def test_a_vocabulary_that_is_not_the_decoders_is_said(world, exported, tmp_path):
    texts = [" ".join(f"word{a}{b}" for b in range(40)) for a in range(40)]
    Vocabulary.train(texts * 2, 600, root=tmp_path).save(exported)
    first, *hints = said(
        f"hf={exported}", "tasks=[moods]", "data.root=data", "--config-dir", "mine"
    )
    assert "the end of a document (<|endoftext|>) is not among them" in first
    assert hints == ["  the tokenizer in the folder is not the one the decoder was trained with"]
