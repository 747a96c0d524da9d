"""``python -m mtl.prepare`` as a person meets it: what it prints, what it builds once, each mistake with its place."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "corpora"))

import elsewhere
import prose

from mtl import prepare
from mtl.record.corpus_table import print_prepared

SMALL = ["corpus=files", "decoder=micro", "decoder.context=32", "tokenizer.vocabulary=300"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pages, most of them good, below which relative files lie."""
    folder = tmp_path / "data" / "pages"
    folder.mkdir(parents=True)
    pages = [
        {"text": "\n".join([prose.MENU, prose.document(seed)]), "url": "http://a.org"}
        for seed in range(20)
    ]
    pages += [{"text": prose.document(50), "url": "https://en.wikipedia.org/wiki/A"}]
    pages += [{"text": text, "url": None} for text in prose.boilerplate(0).values()]
    pages += [{"text": prose.document(3), "url": "http://b.org"}]
    lines = "".join(json.dumps(page) + "\n" for page in pages).encode()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    (folder / "b.txt").write_text(prose.document(99))
    monkeypatch.setenv("MTL_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    return folder


def command(*arguments: str) -> tuple[int, str, str]:
    root = Path(__file__).parents[2]
    surroundings = {**os.environ, "PYTHONPATH": str(root)}
    done = elsewhere.python("-m", "mtl.prepare", *arguments, env=surroundings)
    return done.returncode, done.stdout, done.stderr


def mistake(*overrides: str) -> str:
    """What the same call says from Python; the exit status of one is tested below."""
    with pytest.raises(prepare.UserError) as caught:
        prepare.run([*SMALL, *overrides])
    assert not Path("../cache").exists()
    return str(caught.value)


def test_it_prints_the_account_and_the_command_that_trains(data: Path, tmp_path: Path) -> None:
    given = [*SMALL, "corpus.files=[pages/*]", "corpus.url=url"]
    status, out, err = command(*given)
    assert (status, err) == (0, "")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    cells = {line[0]: line[1:] for line in lines if line}
    assert cells["a.jsonl.gz"][1] == "33"
    assert cells["domain: excluded"][0] == "1"
    assert cells["duplicate: exact"][0] == "1"
    assert cells["c4: lines that end no sentence"][:2] == ["", str(20 * 5)]
    assert cells["c4: lorem ipsum"][4].startswith("a.jsonl.gz:24  The ")
    assert cells["kept"][0] == "21"
    assert cells["kept"][4].startswith("of 34 documents, ")
    assert sum(int(cells[purpose][0]) for purpose in ("train", "selection", "report")) == 21
    assert "12 documents have no address, so no domain excludes them" in out
    entries = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}

    prepared = prepare.run(given)  # once more: nothing is built again
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == entries
    assert str(prepared.store) in out
    assert prepared.account is not None
    assert prepared.account.kept_documents == 21
    assert prepared.amounts["train"].tokens > prepared.amounts["train"].documents * 100
    assert prepared.vocabulary_size == 300

    assert prepared.remarks == ()

    words = shlex.split(out.splitlines()[-1].partition(": ")[2])
    assert words[:3] == ["python", "-m", "mtl.fit"]
    steps = ["budget.tokens=null", "budget.steps=2", "record.mlflow=false", "evaluation.rows=2",
             "evaluation.selection_rows=2", "evaluation.times=1", "tasks=[microworld_sentiment]",
             "run_dir=run"]  # fmt: skip
    from mtl import fit

    trained = fit.run([*words[3:], *steps])
    assert trained.summary["data"]["files"]["fingerprint"]
    fresh = {path.name for path in (tmp_path / "cache").iterdir()} - {path.name for path in entries}
    # All that is trained on was prepared, and rows are asked by their protocols; those of the task are drawn.
    assert {name.partition("-")[0] for name in fresh} == {"microworld"}
    assert trained.summary["data"]["files"]["rows"]["train"] == prepared.amounts["train"].documents


def test_a_mistake_ends_with_status_2_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    status, out, err = command(*SMALL, "corpus.files=[pages/a.json.gz,page/*.txt,pages/*.csv]")
    assert (status, out) == (2, "")
    assert err.replace(str(tmp_path), "HERE").splitlines() == [
        "error: there is no file HERE/data/pages/a.json.gz (corpus.files=[pages/a.json.gz])",
        "  did you mean: HERE/data/pages/a.jsonl.gz",
        "  files in HERE/data/pages: a.jsonl.gz, b.txt",
        "error: no file matches HERE/data/page/*.txt (corpus.files=[page/*.txt])",
        "  did you mean: HERE/data/pages",
        "  folders in HERE/data: pages",
        "error: no file matches HERE/data/pages/*.csv (corpus.files=[pages/*.csv])",
        "  files in HERE/data/pages: a.jsonl.gz, b.txt",
    ]
    assert not (tmp_path / "cache").exists()


def test_all_damaged_files_are_said_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    whole = (data / "a.jsonl.gz").read_bytes()
    (data / "a.jsonl.gz").write_bytes(whole[:-9])
    (data / "b.txt").write_bytes(b"caf\xe9")
    found = mistake("corpus.files=[pages/*]").replace(str(tmp_path), "HERE")
    assert found.splitlines() == [
        "truncated gzip: it ends in the middle (HERE/data/pages/a.jsonl.gz, "
        f"byte {len(whole) - 9}, its end)",
        "not UTF-8: found byte e9 (HERE/data/pages/b.txt, byte 3)",
        "  convert the file: iconv -f LATIN1 -t UTF-8",
    ]
    assert not (tmp_path / "cache").exists()


def test_unknown_formats_and_missing_columns(data: Path, tmp_path: Path) -> None:
    (data / "c.pdf").write_text("")
    assert mistake("corpus.files=[pages/c.pdf]").replace(str(tmp_path), "HERE").splitlines() == [
        "the format of HERE/data/pages/c.pdf is not known (corpus.files=[pages/c.pdf])",
        "  a file of documents ends in one of .txt, .jsonl, .parquet, .gz, .zst",
    ]
    found = mistake("corpus.files=[pages/a.jsonl.gz]", "corpus.text='{{ body }}'")
    assert found.replace(str(tmp_path), "HERE").splitlines() == [
        "row 1 has no text: column 'body' is missing (HERE/data/pages/a.jsonl.gz, line 1, byte 0)",
        "  columns there: text, url",
    ]


def test_domains_without_addresses_are_said_not_to_be_excluded(data: Path) -> None:
    prepared = prepare.run([*SMALL, "corpus.files=[pages/*]"])
    assert prepared.remarks == (
        "not excluded: wikipedia.org; corpus.url names no column with addresses",
    )
    out = io.StringIO()
    print_prepared(prepared, file=out)
    assert prepared.remarks[0] in out.getvalue().splitlines()


def test_nothing_left(data: Path, tmp_path: Path) -> None:
    rules = ["corpus.clean.c4=null", "corpus.clean.gopher_quality.min_words=10000"]
    with pytest.raises(prepare.UserError) as caught:
        prepare.run([*SMALL, "corpus.files=[pages/b.txt]", *rules])
    assert str(caught.value).splitlines() == [
        "no document of corpus 'files' is left: 1 read, all removed (corpus=files)",
        "  1 removed by gopher quality: too few words, such as b.txt:1: "
        + repr(" ".join(prose.document(99).split())[:60]),
        "  a rule is switched off by null, such as corpus.clean.c4=null",
    ]
    assert not list((tmp_path / "cache").glob("corpus-*"))


def test_the_word_overlap_leads_to_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    other = types.ModuleType("mtl.overlapping")
    other.main = lambda: called.append(list(sys.argv))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mtl.overlapping", other)
    monkeypatch.setattr(sys, "argv", ["prepare", "overlap", "n=13"])
    prepare.main()
    assert called == [["prepare", "n=13"]]


def test_a_corpus_of_tasks_rows_is_refused() -> None:
    with pytest.raises(prepare.UserError) as caught:
        prepare.run(["corpus=tasks"])
    assert str(caught.value) == (
        "this corpus is made of the rows of chosen tasks, which are chosen only where a model is trained "
        "(corpus=tasks)\n  mtl.fit reads and tokenises it by itself"
    )
