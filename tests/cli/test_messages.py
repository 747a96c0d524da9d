"""Exact texts of every mistake a configuration can hold, in tests/golden/messages.json.

After a change of words: ``MTL_GOLDEN=write pytest tests/cli/test_messages.py``, then read the difference.
"""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import world

from mtl.config import packages, strategies
from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.schema import FitConfig
from mtl.config.verb_schema import (
    EvaluateConfig,
    ExportConfig,
    GenerateConfig,
    OverlapConfig,
    PredictConfig,
    PrepareConfig,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "messages.json"
SCHEMAS = {
    "fit": FitConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "overlap": OverlapConfig,
    "generate": GenerateConfig,
    "export": ExportConfig,
    "prepare": PrepareConfig,
}
CASES = {
    "unknown strategy": ("fit", ["strategy=task_singal"]),
    "unknown choice of a group": ("fit", ["decoder=tny"]),
    "unknown choice, nothing near": ("fit", ["trainer=quantum"]),
    "unknown key": ("fit", ["budget.token=3"]),
    "unknown key behind plus": ("fit", ["+sede=1"]),
    "unknown key behind two pluses": ("fit", ["++sede=1"]),
    "unknown key, nothing near": ("fit", ["budget.zzzzzzz=3"]),
    "unknown top-level key": ("fit", ["zzzzzzz=3"]),
    "key in the wrong place": ("fit", ["learning_rate=0.1"]),
    "integer from text": ("fit", ["seed=abc"]),
    "integer from fraction": ("fit", ["decoder.layers=2.5"]),
    "number from text": ("fit", ["decoder.dropout=x"]),
    "truth value from text": ("fit", ["record.mlflow=maybe"]),
    "not among the values": ("fit", ["decoder.norm=prae"]),
    "out of range": ("fit", ["decoder.dropout=1.0"]),
    "negative": ("fit", ["seed=-1"]),
    "heads do not divide width": ("fit", ["decoder.width=63"]),
    "two budgets": ("fit", ["budget.steps=3", "budget.tokens=4"]),
    "no budget": ("fit", ["budget.tokens=null"]),
    "unknown task": ("fit", ["tasks=[colors,shapes]"]),
    "unknown task in a file": ("fit", ["suite=broken"]),
    "no task": ("fit", ["tasks=[]"]),
    "task twice": ("fit", ["tasks=[colours,colours]"]),
    "list without brackets": ("fit", ["tasks=colours"]),
    "several values without multirun": ("fit", ["seed=1,2"]),
    "list as several values": ("fit", ["tasks=colours,shapes"]),
    "not key=value": ("fit", ["seed"]),
    "bad syntax": ("fit", ["tasks=[colours"]),
    "removal": ("fit", ["~seed"]),
    "unknown setting": ("fit", ["strategy.shar=1"]),
    "strategy without settings": ("fit", ["strategy=mt_dnn", "strategy.share=1"]),
    "wrong type of a setting": ("fit", ["strategy.share=much"]),
    "not among a setting's values": ("fit", ["strategy.reading=ranc"]),
    "definition of a task that is not chosen": ("fit", ["task.sizes.labels=[a]"]),
    "unknown key of a task": ("fit", ["task.colours.lables=[a]"]),
    "rates without explicit": ("fit", ["mixture.rates.colours=2"]),
    "explicit without all rates": ("fit", ["mixture=explicit", "mixture.rates.colours=2"]),
    "value in place of a mapping": ("fit", ["decoder.width=64", "budget=7"]),
    "several mistakes": ("fit", ["strategy=task_singal", "sed=1", "seed=abc", "decoder.width=63"]),
    "resume beside others": ("fit", ["resume=runs/a", "seed=1"]),
    "resume without a run": ("fit", ["resume=runs/nothing"]),
    "hydra's own keys": ("fit", ["hydra.nothing=1"]),
    "evaluate without run": ("evaluate", []),
    "evaluate with a bad split": ("evaluate", ["run=runs/a", "split=test"]),
    "evaluate with an unknown task": ("evaluate", ["run=runs/a", "tasks=[shape]"]),
    "predict without anything": ("predict", []),
    "predict with both": ("predict", ["run=runs/a", "text=x", "file=-"]),
    "overlap of no words": ("overlap", ["n=0"]),
    "overlap with a rate of one": ("overlap", ["false_positive_rate=1"]),
    "overlap with a task twice": ("overlap", ["tasks=[colours,colours]"]),
    "overlap with an unknown task": ("overlap", ["tasks=[colour]"]),
    "overlap with an unknown corpus": ("overlap", ["corpus=microword"]),
    "generate without run or hf": ("generate", []),
    "generate with both": ("generate", ["run=runs/a", "hf=gpt2"]),
    "generate with prompt and file": ("generate", ["run=runs/a", "prompt=x", "file=-"]),
    "generate with an empty prompt": ("generate", ["run=runs/a", "prompt=''"]),
    "generate with a negative temperature": ("generate", ["run=runs/a", "temperature=-1"]),
    "generate with nothing to draw": (
        "generate",
        ["run=runs/a", "temperature=0", "top_k=2", "samples=3"],
    ),
    "generate with an empty stop text": ("generate", ["run=runs/a", "stop=[a,'']"]),
    "generate with one stop text and no list": ("generate", ["run=runs/a", "stop=a"]),
    "export without anything": ("export", []),
    "export with a bad checkpoint": ("export", ["run=runs/a", "to=out", "checkpoint=first"]),
    "export with an unknown key": ("export", ["run=runs/a", "too=out"]),
    "files without a file": ("prepare", ["corpus.kind=files"]),
    "files of another kind": ("fit", ["corpus.files=[a.txt]", "corpus.exclude_domains=[a.org]"]),
    "unknown cleaning rule": ("prepare", ["corpus.clean.gopher_quality.min_word=3"]),
    "cleaning rule out of range": ("prepare", ["corpus.clean.gopher_repetition.top_2gram=2"]),
    "share that is no share": ("prepare", ["corpus.held_out=1"]),
    "prepare with a key of fit": ("prepare", ["strategy=mt_dnn"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return world.build(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _in_world(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "ROOT", folder)
    monkeypatch.setattr(strategies, "FOLDER", folder / "strategies")
    monkeypatch.delenv("MTL_DATA_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)


def message(case):
    verb, overrides = CASES[case]
    with pytest.raises(UserError) as caught:
        compose(verb, SCHEMAS[verb], overrides)
    return str(caught.value).replace(str(Path.cwd()), "CWD").splitlines()


@pytest.mark.skipif(os.environ.get("MTL_GOLDEN") != "write", reason="writes the golden file")
def test_write():
    texts = {case: message(case) for case in CASES}
    GOLDEN.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_message(case):
    assert message(case) == json.loads(GOLDEN.read_text(encoding="utf-8"))[case]
    assert list(Path.cwd().iterdir()) == []


def test_no_golden_text_is_left_over():
    assert set(json.loads(GOLDEN.read_text(encoding="utf-8"))) == set(CASES)


def test_plus_is_never_proposed():
    for case, lines in json.loads(GOLDEN.read_text(encoding="utf-8")).items():
        assert not any("+" in line.partition("override:")[0] for line in lines), case


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "decoder/mine.yaml",
            "name: mine\nlayers: 2\nwidth: 64\nheads: 2\n",
            "decoder.context must be given",
        ),
        (
            "decoder/mine.yaml",
            "name: mine\nlayers: two\nwidth: 64\nheads: 2\ncontext: 8\n",
            "line 2",
        ),
        (
            "decoder/mine.yaml",
            "name: mine\nlayers: 2\nwidth: 64\nheads: 2\ncontext: 8\nheds: 1\n",
            "line 6",
        ),
        ("decoder/mine.yaml", "name: mine\nlayers: [\n", "line 3"),
    ],
)
def test_mistake_in_a_file_names_it(tmp_path, name, text, expected):
    world.write(tmp_path / "mine" / name, text)
    with pytest.raises(UserError) as caught:
        compose("fit", FitConfig, ["decoder=mine"], config_dir="mine")
    assert expected in str(caught.value)
    if expected.startswith("line"):
        assert f"mine/{name}, {expected}" in str(caught.value)
