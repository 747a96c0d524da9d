"""``python -m mtl.fit`` with the mistakes of real people: exact texts, status 2, and nothing left on disk."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

BASE = ("--config-dir", "mine", *moods.SMALL, "budget.steps=2")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Own data in the working directory, and a cache of its own beside it."""
    monkeypatch.delenv("MTL_DATA_ROOT", raising=False)
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(moods.build(tmp_path / "work").absolute())


def mistakes(*arguments, late=False):
    """The lines that are said, with the folder the command stands in written as ``HERE``.

    :param late: The mistake shows only when the vocabulary is known; what was built for that stays in the cache.
    """
    above = Path.cwd().parent
    before = moods.tree(above)
    status, out, err = moods.command("fit", *BASE, *arguments)
    assert (status, out) == (2, ""), err
    assert "Traceback" not in err
    after = moods.tree(above)
    if late:
        cached = {file.name.partition("-")[0] for file in (above / "cache").iterdir()}
        assert cached <= {"vocabulary", "encoded"}
        before, after = (
            {name: content for name, content in one.items() if not name.startswith("cache")}
            for one in (before, after)
        )
    assert after == before
    return err.replace(str(Path.cwd()), "HERE").splitlines()


def test_a_task_without_words_for_its_instruction():
    chosen = ("strategy=task_signal", "strategy.signal=text", "tasks=[moods,pairs]")
    assert mistakes(*chosen, late=True) == [
        line
        for name in ("moods", "pairs")
        for line in (
            f"error: task '{name}' has neither an instruction nor a description to put before its rows"
            f" (task.{name}.instruction)",
            "  give it one, or take another strategy.signal: token, vector, none",
        )
    ]


def test_misspelt_names_and_values_all_at_once():
    lines = mistakes("strategy=mt_dn", "tasks=[mods]", "budget.step=3", "+sed=1", "seed=one")
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: unknown strategy 'mt_dn' (command line: strategy=mt_dn)",
        "error: unknown task 'mods' (command line: tasks=[mods])",
        "error: unknown key 'budget.step' (command line: budget.step=3)",
        "error: unknown key 'sed' (command line: +sed=1)",
        "error: seed must be an integer, found 'one' (command line: seed=one)",
    ]
    guesses = [line for line in lines if line.startswith("  did you mean: ")]
    assert guesses == [
        f"  did you mean: {name}" for name in ("mt_dnn", "moods", "budget.steps", "seed")
    ]


def test_data_that_is_not_there():
    assert mistakes("tasks=[moods,pairs]", "data.root=dat") == [
        "error: no such data folder: HERE/dat (data.root=dat)",
        "  did you mean: HERE/data",
        "  folders in HERE: data, mine",
    ]
    assert mistakes("tasks=[moods]", "task.moods.source.folder=mood") == [
        "error: no data for task 'moods': HERE/data/mood is not a folder"
        " (data.root=data, task.moods.source.folder=mood)",
        "  did you mean: HERE/data/moods",
        "  folders in HERE/data: moods, pairs",
    ]
    assert mistakes("tasks=[moods]", "task.moods.source.report=test") == [
        "error: task 'moods' has no split 'test' (data.root=data)",
        "  splits in HERE/data/moods: train, validation",
        "  a split is one file: test + one of .parquet, .jsonl, .jsonl.zst, .csv, .tsv, .txt, .txt.gz",
    ]
    assert mistakes("tasks=[moods]", "data.root=null") == [
        "error: task 'moods' is not on the hub; it needs a folder of data",
        "  set data.root=DIR with DIR/moods/validation.parquet (or .jsonl, .csv, ...) in it",
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_column_that_is_not_there(suffix):
    rows = [{"txt": row["text"], "label": row["label"]} for row in moods.mood_rows(6, seed=0)]
    Path("data/moods/train.jsonl").unlink()
    path = Path(f"data/moods/train.{suffix}")
    if suffix == "jsonl":
        moods.write(path, moods.lines(rows))
    elif suffix == "csv":
        moods.write(path, "txt,label\n" + "".join(f"{r['txt']},{r['label']}\n" for r in rows))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert mistakes("tasks=[moods]") == [
        f"error: no column 'text' in HERE/data/moods/train.{suffix} (task.moods.segments[0])",
        "  did you mean: txt",
        "  columns there: txt, label",
    ]


def test_bad_rows_of_several_tasks_in_one_message():
    rows = moods.mood_rows(6, seed=0)
    rows[1]["label"] = "great"
    rows[4]["text"] = None
    moods.write("data/moods/train.jsonl", moods.lines(rows))
    pairs = moods.lines(moods.pair_rows(3, seed=0)).replace("}", "", 1)
    moods.write("data/pairs/validation.jsonl", pairs)
    moods.write("data/nothing/validation.jsonl", "")
    moods.write("data/nothing/train.jsonl", moods.lines(rows))
    moods.write("mine/task/nothing.yaml", moods.MOODS.replace("folder: moods", "folder: nothing"))
    lines = mistakes("tasks=[moods,pairs,nothing]")
    assert [*lines[:4], *lines[5:]] == [
        "error: 2 bad rows of 6 (task 'moods', HERE/data/moods/train.jsonl)",
        "  row 2: label: found 'great', expected one of bad, good, or an index from 0 to 1",
        "  row 5: task.moods.segments[0]: found null, expected a value",
        "error: 1 bad row of 3 (HERE/data/pairs/validation.jsonl)",
        "error: split 'validation' of task 'nothing' is empty (HERE/data/nothing/validation.jsonl)",
    ]
    assert lines[4].startswith('  row 1: found \'{"first": ')
    assert "expected a JSON object" in lines[4]


def test_a_ranking_without_a_query():
    ranking = ("task.moods.kind=ranking", "task.moods.answers=[]")
    assert mistakes("tasks=[moods]", *ranking, "task.moods.choices=['{{ text }}']") == [
        "error: task 'moods' ranks the candidates of a query, and names no query (task.moods.query)"
    ]


def test_a_ratio_of_nothing():
    assert mistakes("tasks=[moods]", "strategy=mt_dnn", "strategy.ratio=0") == [
        "error: the ratio of auxiliary rows is more than 0 and finite (strategy.ratio=0)",
        "  strategy.ratio=null leaves it to the mixture",
    ]


def test_a_task_file_that_contradicts_itself():
    assert mistakes("tasks=[moods]", "task.moods.answers=[' bad']") == [
        "error: one label word per class is needed: 2 labels, 1 answers (task.moods.answers)"
    ]
    moods.write("mine/task/copy.yaml", f"name: moods\n{moods.MOODS}")
    assert mistakes("tasks=[copy]")[0] == (
        "error: task.copy.name must be 'copy', the name of the file, or be left out, found 'moods'"
        " (mine/task/copy.yaml, line 1)"
    )
    assert mistakes("tasks=[moods]", "task.moods.target='{{ label'")[0] == (
        "error: this template does not parse: unexpected end of template, expected 'end of print statement'."
        " (task.moods.target, line 1)"
    )
    assert mistakes("tasks=[echo]", "task.echo.metrics=[exact_mach]")[:2] == [
        "error: unknown metric 'exact_mach' (task 'echo': metrics)",
        "  did you mean: exact_match",
    ]
    assert mistakes("tasks=[echo]", "task.echo.metrics=[]")[0] == (
        "error: a task needs at least one metric (task 'echo': metrics)"
    )


def test_nothing_to_learn_from():
    never = ["tasks=[moods,pairs]", "task.moods.source.train=null", "task.pairs.source.train=null"]
    reason = "has no training rows, and strategy 'mt_dnn' learns from them (tasks=[moods, pairs])"
    hint = "  leave it out, or take a strategy that reads running text"
    assert mistakes(*never, "strategy=mt_dnn") == [
        f"error: task 'moods' {reason}",
        hint,
        f"error: task 'pairs' {reason}",
        hint,
    ]


def test_the_place_of_the_run():
    moods.write("occupied", "a file")
    assert mistakes("tasks=[moods]", "run_dir=occupied") == [
        "error: cannot use occupied as a run folder: occupied is a file (run_dir=occupied)",
        "  name a folder that does not exist yet, or an empty one",
    ]
    assert mistakes("tasks=[moods]", "run_dir=occupied/run") == [
        "error: cannot use occupied/run as a run folder: HERE/occupied is a file (run_dir=occupied/run)",
        "  name a folder that does not exist yet, or an empty one",
    ]
    assert mistakes("tasks=[moods]", "run_dir=data") == [
        "error: data is not empty and is no run folder: it has no config.yaml (run_dir=data)",
        "  name a folder that does not exist yet, or an empty one",
    ]
    # An empty folder stays empty, so that the mended command is not refused as another run.
    Path("empty").mkdir()
    assert mistakes("tasks=[moods]", "run_dir=empty", "data.root=dat")[0].startswith(
        "error: no such"
    )
    moods.write("data/pairs/validation.jsonl", "")
    assert mistakes("tasks=[pairs]", "run_dir=empty")[0].startswith("error: split 'validation'")


def test_a_folder_with_another_run(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(moods.world(tmp_path_factory))
    chosen = ["tasks=[moods,pairs,echo]", "strategy=mt_dnn", "run_dir=mt_dnn"]
    assert mistakes(*chosen, "optimizer.learning_rate=0.02") == [
        "error: mt_dnn holds a run with another config (run_dir=mt_dnn)",
        "  optimizer.learning_rate: 0.01 there, 0.02 here",
        "  budget.steps: 60 there, 2 here",
        "  name another folder, or go on with that run: resume=mt_dnn",
    ]


def test_tokenizers():
    moods.write("broken/tokenizer.json", "{not json")
    moods.write("other/README", "")
    holds = "  a tokenizer folder holds tokenizer.json, or vocab.json and merges.txt"
    chosen = ["tasks=[moods]", "tokenizer=folder"]
    assert mistakes(*chosen)[0] == (
        "error: tokenizer.folder must be given where tokenizer.kind is folder, found null"
        " (configs/tokenizer/folder.yaml, line 4)"
    )
    (said,) = mistakes(*chosen, "tokenizer.folder=broken")
    assert said.startswith("error: the tokenizer cannot be read: ")
    assert said.endswith(" (tokenizer.folder=broken)")
    assert mistakes(*chosen, "tokenizer.folder=other") == [
        "error: no tokenizer found (tokenizer.folder=other)",
        holds,
    ]
    assert mistakes(*chosen, "tokenizer.folder=none") == [
        "error: no such tokenizer folder (tokenizer.folder=none)",
        holds,
    ]


def late(*arguments):
    """Mistakes that show only when the vocabulary is known."""
    return mistakes(*arguments, late=True)


def test_pretrained_decoders():
    from mtl.config.schema import DecoderConfig
    from mtl.decoder.gpt import Decoder
    from mtl.decoder.huggingface import save_pretrained

    shape = DecoderConfig(name="x", layers=2, width=32, heads=2, context=64)
    save_pretrained(Decoder(shape, 400), "words")
    save_pretrained(Decoder(replace(shape, layers=1, width=16, context=32), 400), "other")
    kept = Path("words/config.json").read_text()
    moods.write("pickled/config.json", kept)
    moods.write("pickled/pytorch_model.bin", "never read")
    moods.write("bert/config.json", json.dumps({**json.loads(kept), "model_type": "bert"}))
    assert late("tasks=[moods]", "decoder.pretrained=./none") == [
        "error: no such folder: ./none (decoder.pretrained=./none)"
    ]
    assert late("tasks=[moods]", "decoder.pretrained=./pickled") == [
        "error: the weights are there as a pickle only (pytorch_model.bin), which can run code when it is read"
        " (decoder.pretrained=./pickled)",
        "  only model.safetensors is read; convert it where you trust it: "
        "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    ]
    assert late("tasks=[moods]", "decoder.pretrained=./bert") == [
        "error: decoder architecture 'bert' is not supported (decoder.pretrained=./bert, config.json)",
        "  supported: gpt2, openai-gpt",
    ]
    assert late("tasks=[moods]", "decoder.pretrained=./other") == [
        "error: the pretrained decoder has another shape than decoder=micro (decoder.pretrained=./other)",
        "  decoder.layers=1 there, 2 here",
        "  decoder.width=16 there, 32 here",
        "  decoder.context=32 there, 64 here",
        "  give it its own shape: decoder.layers=1 decoder.width=16 decoder.context=32",
    ]
    first, hint = late("tasks=[moods]", "decoder.pretrained=./words")
    assert first.startswith("error: the pretrained decoder knows 400 tokens, the tokenizer ")
    assert first.endswith(" (decoder.pretrained=./words)")
    assert hint == "  give the tokenizer it was trained with: tokenizer=folder tokenizer.folder=DIR"


def test_units_are_for_an_lstm_which_has_no_heads():
    lines = mistakes("tasks=[moods]", "decoder.units=9", "decoder.width=33")
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: decoder.units must be null, unless decoder.trunk is lstm, found 9 (command line: decoder.units=9)",
        "error: decoder.width must be a multiple of decoder.heads, which is 2, found 33"
        " (command line: decoder.width=33)",
    ]
    lines = mistakes("tasks=[moods]", "decoder.trunk=lstm", "decoder.units=0", "decoder.width=33")
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: decoder.units must be at least 1, found 0 (command line: decoder.units=0)"
    ]


def test_no_more_layers_are_kept_than_there_are():
    lines = mistakes("tasks=[moods]", "pretrain.tokens=500", "pretrain.layers=3")
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: pretrain.layers must be at most decoder.layers, which is 2, found 3"
        " (command line: pretrain.layers=3)"
    ]


def test_sizes_that_do_not_go_together():
    first, hint = late("tasks=[echo]", "task.echo.max_answer_tokens=64")
    assert first.startswith("error: task 'echo' leaves ")
    assert first.endswith(" (task.echo.max_answer_tokens=64)")
    assert hint == "  take a decoder with a longer context, or a smaller max_answer_tokens"
    first, hint = late("tasks=[moods,pairs]", "strategy=hard_sharing", "batch.tokens=8")
    assert first.startswith("error: a step cannot hold a row of each of the 2 tasks: that takes ")
    assert first.endswith(" tokens on average (batch.tokens=8)")
    assert hint.startswith("  give batch.tokens=")
    assert hint.endswith(" or more, or fewer tasks")


def test_a_mistake_is_said_before_the_libraries_load():
    """What only looks at the config and at which files are there takes about a second in a fresh process."""
    environment = {**os.environ, "MTL_CACHE": "cache", "PYTHONPATH": str(moods.ROOT)}
    code = (
        "import sys; from mtl import fit\ntry: fit.main()\nfinally: print('torch' in sys.modules)"
    )
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *BASE, "tasks=[moods]", "data.root=dat"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert time.perf_counter() - begun < 6  # about one on an idle machine
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert done.stderr.startswith("error: no such data folder")
