"""``python -m mtl.predict`` on finished runs of a person's own tasks: one input, files, standard input."""

import csv
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

from mtl import predict
from mtl.record.run import Run


@pytest.fixture(autouse=True)
def world(tmp_path_factory, monkeypatch):
    """The tests stand beside the finished runs and change nothing there."""
    folder = moods.world(tmp_path_factory)
    monkeypatch.chdir(folder)
    before = moods.tree(folder)
    yield folder
    assert moods.tree(folder) == before


def answers(*arguments, given=""):
    status, out, err = moods.command("predict", *arguments, given=given)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def mistake(*arguments, given=""):
    status, out, err = moods.command("predict", *arguments, given=given)
    assert (status, out) == (2, ""), err
    return err.splitlines()


def test_one_text():
    (answer,) = answers("run=task_signal", "task=moods", "text=sad, grim: it's (cold)")
    assert list(answer) == ["row", "task", "answer", "log_probabilities"]
    assert answer["answer"] == "bad"
    scores = answer["log_probabilities"]
    assert list(scores) == ["bad", "good"]
    assert 0 > scores["bad"] > scores["good"]


def test_one_row_of_several_columns():
    (answer,) = answers("run=mt_dnn", "task=pairs", "text={first: sad, second: 'warm, it is'}")
    assert answer["answer"] in ("same", "different")
    assert answers("run=mt_dnn", "task=echo", "text=happy")[0].keys() == {"row", "task", "answer"}


@pytest.mark.parametrize("run", ["task_signal", "mt_dnn", "zero_shot"])
@pytest.mark.parametrize("task", ["moods", "pairs", "echo"])
def test_the_answers_are_those_the_run_recorded(run, task):
    recorded = Run(run).predictions(task)
    source = "pairs" if task == "pairs" else "moods"
    found = predict.run([f"run={run}", f"task={task}", f"file=data/{source}/validation.jsonl"])
    assert len(found) == len(recorded) == 24
    if task == "echo":
        assert [answer["answer"] for answer in found] == list(recorded["prediction"])
        return
    labels = list(found[0]["log_probabilities"])
    assert [labels.index(answer["answer"]) for answer in found] == list(recorded["prediction"])
    for answer, scores in zip(found, recorded["scores"], strict=True):
        assert list(answer["log_probabilities"].values()) == pytest.approx(list(scores), abs=1e-4)


def test_every_form_of_input_gives_the_same_answers(tmp_path):
    texts = ["sad grim", "happy, warm", 'fine "lovely"']
    moods.write(tmp_path / "rows.txt", "".join(f"{text}\n" for text in texts))
    moods.write(tmp_path / "rows.jsonl", moods.lines({"text": text, "id": 1} for text in texts))
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([n, text] for n, text in enumerate(texts))])
    ask = ("run=mt_dnn", "task=moods")
    expected = [answers(*ask, f"text='{text}'")[0]["log_probabilities"] for text in texts]
    plain = "\n".join(texts) + "\n\n"
    mixed = f"{texts[0]}\n\n{json.dumps({'text': texts[1]})}\n{texts[2]}"
    for name in ("rows.txt", "rows.jsonl", "rows.csv"):
        found = answers(*ask, f"file={tmp_path / name}")
        assert [a["row"] for a in found] == [f"{tmp_path / name}, row {n}" for n in (1, 2, 3)]
        for answer, scores in zip(found, expected, strict=True):
            assert answer["log_probabilities"] == pytest.approx(scores, abs=1e-4)
    for given, numbers in ((plain, (1, 2, 3)), (mixed, (1, 3, 4))):
        found = answers(*ask, "file=-", given=given)
        assert [a["row"] for a in found] == [f"standard input, line {n}" for n in numbers]
        for answer, scores in zip(found, expected, strict=True):
            assert answer["log_probabilities"] == pytest.approx(scores, abs=1e-4)


def test_no_input_is_no_answer():
    assert answers("run=mt_dnn", "task=moods", "file=-", given="\n") == []


def test_what_lies_beyond_the_context_is_counted():
    (whole,) = answers("run=task_signal", "task=moods", "text=sad")
    (long,) = answers("run=task_signal", "task=moods", f"text={'sad ' * 80}")
    assert "tokens_cut" not in whole
    assert long["tokens_cut"] > 0


def test_bad_lines_are_named(tmp_path):
    rows = moods.write(tmp_path / "rows.jsonl", '{"text": "sad"}\n{"txt": "sad"}\n')
    assert mistake("run=mt_dnn", "task=moods", f"file={rows}") == [
        f"error: task 'moods' needs the column 'text' ({rows}, row 2)",
        "  found: txt",
    ]
    moods.write(rows, '{"text": "sad"}\n{"text": null}\n')
    assert mistake("run=mt_dnn", "task=moods", f"file={rows}") == [
        f"error: task.moods.segments[0]: found null, expected a value ({rows}, row 2)"
    ]
    moods.write(rows, '{"text": "sad"}\n{"text": \n')
    assert (
        mistake("run=mt_dnn", "task=moods", f"file={rows}")[0] == f"error: 1 bad row of 2 ({rows})"
    )
    first, *_ = mistake("run=mt_dnn", "task=moods", "file=-", given='sad\n{"text"}\n')
    assert first.startswith("error: not valid JSON: ")
    assert first.endswith("(standard input, line 2)")
    assert mistake("run=mt_dnn", "task=pairs", "file=-", given="sad\n") == [
        "error: task 'pairs' reads 2 columns, a text alone is one (standard input, line 1)",
        "  give them by name: {first: ..., second: ...}",
    ]


def test_mistakes(tmp_path):
    assert mistake("run=mt_dnn", "task=moods", "file=no.jsonl") == [
        "error: there is no file no.jsonl (file=no.jsonl)"
    ]
    rows = moods.write(tmp_path / "rows.text", "sad\n")
    assert mistake("run=mt_dnn", "task=moods", f"file={rows}") == [
        f"error: the format of rows.text is not known (file={rows})",
        "  a file of inputs ends in one of .parquet, .jsonl, .jsonl.zst, .csv, .tsv, .txt, .txt.gz",
    ]
    assert mistake("run=mt_dnn", "text=sad") == [
        "error: the run has 3 tasks; which one is asked (task=)",
        "  task=NAME, of: moods, pairs, echo",
    ]
    assert mistake("run=mt_dnn", "task=mood", "text=sad") == [
        "error: unknown task of this run 'mood' (task=mood)",
        "  did you mean: moods",
        "  available: echo, moods, pairs",
    ]
    assert mistake("run=mt_dnn", "task=pairs", "text={first: sad}") == [
        "error: task 'pairs' needs the column 'second' (text)",
        "  found: first",
    ]
    assert mistake("run=nothing", "task=moods", "text=sad")[0] == (
        "error: there is no run folder nothing (run=nothing)"
    )
