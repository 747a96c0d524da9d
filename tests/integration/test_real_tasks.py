"""Every task file on its real rows, the first of each split, through a whole fit; and the overlap of the whole pack."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import moods

ROWS = 24
"""Rows of each file that take part: every column and value is real, and a fit of all tasks takes seconds."""
TEXT_LINES = 300
"""Lines of a text file: the corpora whose rows are lines join them to documents."""
TRAINED = 2
SMALL = (
    "decoder=micro",
    "decoder.context=256",
    "tokenizer.vocabulary=600",
    "trainer=cpu",
    "budget.steps=2",
    "batch.tokens=20000",
    "evaluation.rows=8",
    "evaluation.selection_rows=4",
    "evaluation.times=1",
    "evaluation.resamples=20",
    "record.mlflow=false",
)
NUMBER = (int, float)
CONTRACT = {
    "strategy": str,
    "balance": str,
    "seed": int,
    "status": str,
    "tasks": {
        "*": {
            "split": str,
            "rows": int,
            "primary": str,
            "chance": (*NUMBER, type(None)),
            "metrics": {"*": {"value": NUMBER, "low": NUMBER, "high": NUMBER}},
        }
    },
    "average": {"value": NUMBER, "of": str},
    "ledger": {
        "tokens": int,
        "tokens_by_task": {"*": int},
        "steps": int,
        "flops": NUMBER,
        "backward_passes": int,
        "seconds": NUMBER,
        "peak_memory_bytes": int,
        "precision": str,
        "parameters": {"shared": int, "per_task": {"*": int}, "total": int},
        "pretraining_tokens": int,
    },
    "data": {"*": {"fingerprint": str, "rows": {"*": int}}},
    "versions": {"*": str},
    "git": {"commit": (str, type(None)), "dirty": (bool, type(None))},
}
"""The keys of summary.json that other programs rely on; ``*`` is any name."""


def assert_shape(found, wanted, place="summary.json"):
    """Every key of the contract is there with its type."""
    if not isinstance(wanted, dict):
        assert isinstance(found, wanted), f"{place}: {found!r}"
        assert isinstance(found, bool) == (wanted in (bool, (bool, type(None)))) or found is None
        return
    assert isinstance(found, dict), place
    if "*" in wanted:
        assert found, place
        wanted = dict.fromkeys(found, wanted["*"])
    assert wanted.keys() <= found.keys(), f"{place} lacks {wanted.keys() - found.keys()}"
    for key, inner in wanted.items():
        assert_shape(found[key], inner, f"{place}: {key}")


def real_tasks(folder):
    """Each task file whose rows lie in the folder: its name and whether it has rows to train on. Files that build on
    another one have its rows; tests/integration/test_protocols.py asks them."""
    import yaml

    found = {}
    for file in sorted((moods.ROOT / "configs" / "task").glob("*.yaml")):
        written = yaml.safe_load(file.read_text())
        source = written["source"] if "defaults" not in written else {}
        if source.get("folder") and (folder / source["folder"]).is_dir():
            found[file.stem] = source.get("train", "train") is not None
    return found


@pytest.fixture(scope="module")
def thin(data_root, tmp_path_factory):
    """The pack with the first rows of each file."""
    import gzip

    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("thin")
    for file in sorted(data_root.glob("*/*")):
        target = folder / file.parent.name / file.name
        target.parent.mkdir(exist_ok=True)
        if file.suffix == ".parquet":
            rows = 2 if file.parent.name == "gutenberg" else ROWS
            table = pyarrow.parquet.read_table(file).slice(0, rows)
            if file.parent.name == "gutenberg":
                texts = [text[:4000] for text in table["text"].to_pylist()]
                index = table.column_names.index("text")
                table = table.set_column(index, "text", [texts])
            pyarrow.parquet.write_table(table, target)
        elif file.name.endswith(".txt.gz"):
            lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)[:TEXT_LINES]
            target.write_bytes(gzip.compress(b"".join(lines)))
    return folder


def fitted(*arguments, run):
    status, out, err = moods.command("fit", *SMALL, *arguments, f"run_dir={run}")
    assert (status, err) == (0, "")
    return json.loads(Path(run, "summary.json").read_text()), out


@pytest.mark.parametrize("strategy", ["hard_sharing", "task_signal"])
def test_every_task_that_can_be_trained(thin, strategy):
    names = [name for name, trainable in real_tasks(thin).items() if trainable]
    chosen = [f"strategy={strategy}", f"tasks=[{','.join(names)}]", f"data.root={thin}"]
    summary, out = fitted(*chosen, run="run")
    assert_shape(summary, CONTRACT)
    assert summary["status"] == "finished"
    assert list(summary["tasks"]) == names
    assert summary["ledger"]["steps"] == TRAINED
    assert set(summary["ledger"]["tokens_by_task"]) == set(names)
    assert sum(summary["ledger"]["tokens_by_task"].values()) == summary["ledger"]["tokens"]
    parameters = summary["ledger"]["parameters"]
    assert parameters["total"] == parameters["shared"] + sum(parameters["per_task"].values())
    for name in names:
        assert summary["tasks"][name]["rows"] <= 8
        assert summary["data"][name]["rows"].keys() == {"train", "selection", "report"}
        assert name in out
    notes = summary["tasks"]["cnn_dailymail"]["notes"]
    assert notes[0] == f"8 of {ROWS} rows scored, spread evenly"
    assert notes[1].startswith("8 of 8 rows lost ")
    assert notes[1].endswith(" tokens beyond the context")
    assert f"cnn_dailymail: {notes[1]}" in out


def test_every_task_that_is_only_evaluated(thin):
    names = [name for name, trainable in real_tasks(thin).items() if not trainable]
    assert {"lambada", "wsc273", "wikitext2"} <= set(names)
    chosen = ["strategy=zero_shot", f"tasks=[{','.join(names)}]", f"data.root={thin}"]
    summary, _ = fitted(*chosen, "corpus=tinyshakespeare", run="run")
    assert_shape(summary, CONTRACT)
    assert list(summary["tasks"]) == names
    assert set(summary["ledger"]["tokens_by_task"]) == {"tinyshakespeare"}
    assert all(summary["data"][name]["rows"].keys() == {"report"} for name in names)


OVERLAP = {("stsb", "mrpc"): 110, ("mrpc", "stsb"): 55, ("qnli", "xquad_en"): 52}
"""(evaluated, trained): rows, as in the README of the pack, for whole train files; a few less where a part of the
train file selects."""


def test_rows_of_one_task_in_the_training_rows_of_another(data_root):
    chosen = ["strategy=task_signal", "tasks=[mrpc,stsb,qnli,xquad_en]", f"data.root={data_root}"]
    less = ["batch.tokens=2000", "data.selection_share=0.01"]
    summary, out = fitted(*chosen, *less, run="with")
    found = {
        (pair["evaluation_task"], pair["train_task"]): pair
        for pair in summary["overlap"]
        if pair["purpose"] == "report"
    }
    for pair, rows in OVERLAP.items():
        assert 0.9 * rows <= len(found[pair]["rows"]) <= rows
        assert not found[pair]["excluded"]
        assert (
            f"overlap: {len(found[pair]['rows'])} of {found[pair]['total']} report rows of {pair[0]}"
            f" also stand in the training rows of {pair[1]}\n"
        ) in out
    without, out = fitted(*chosen, *less, "data.exclude_overlap=true", run="without")
    assert without["overlap"] == [{**pair, "excluded": True} for pair in summary["overlap"]]
    assert "removed from training" in out
    for name in ("mrpc", "stsb", "qnli", "xquad_en"):
        shown = {
            row
            for pair in summary["overlap"]
            if pair["train_task"] == name
            for row in pair["train_rows"]
        }
        before, after = summary["data"][name], without["data"][name]
        assert shown
        assert before["rows"]["train"] - after["rows"]["train"] == len(shown)
        assert before["rows"]["report"] == after["rows"]["report"]
        assert f"; {len(shown)} rows that overlap evaluation rows removed" in after["notes"][0]
    # What was removed is gone: the same rows, looked through again, have nothing in common.
    from mtl.assembly import load_data, make_strategy
    from mtl.config.compose import compose
    from mtl.config.schema import FitConfig
    from mtl.tasks.overlap import find_overlap

    config = compose("config", FitConfig, config_dir="without")
    assert find_overlap(load_data(config, make_strategy(config)).tasks) == []
