"""The page of a study: whole, offline and linked; and the command that writes it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere
from fabricated import arm, results
from reported import data, read, study, write

from mtl.comparing.analysis import analyse
from mtl.comparing.results import Results
from mtl.reporting.page import write_report


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    found = study()
    return found, write(found, tmp_path_factory.mktemp("study"))


def test_the_page_is_whole_and_loads_nothing(written: tuple[Results, Path]) -> None:
    reader = read(written[1])
    assert reader.loaded == []
    text = written[1].read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\"<]*", text)) == {"http://www.w3.org/2000/svg"}


def test_every_link_leads_somewhere(written: tuple[Results, Path]) -> None:
    found, page = written
    reader = read(page)
    reached = set()
    for link in reader.links:
        if link.startswith("#"):
            assert link[1:] in reader.ids
            continue
        assert "://" not in link
        assert (page.parent / unquote(link)).exists(), link
        reached.add((page.parent / unquote(link)).resolve())
    study_folder = page.parent.parent
    for one in found.arms:
        for run in [*one.runs, *one.trials]:
            assert (study_folder / str(run.run)).resolve() in reached
    named = {link for link in reader.links if link.startswith("data/")}
    assert named == {f"data/{path.name}" for path in (page.parent / "data").iterdir()}


def test_a_number_opens_to_the_runs_behind_it(written: tuple[Results, Path]) -> None:
    text = written[1].read_text(encoding="utf-8")
    opened = re.findall(r"<details class=\"sources\">.*?</details>", text, re.DOTALL)
    on_a = next(one for one in opened if "seed 2: 0.712" in one)  # x<b>
    sources = re.findall(r"seed (\d): ([\d.]+) <a href=\"([^\"]+)\"", on_a)
    assert sources[2] == ("2", "0.712", "../runs/x%3Cb%3E/seed2/")
    assert len(sources) == 7
    difference = next(one for one in opened if "x%3Cb%3E" in one and "reference</a>" in one)
    assert len(re.findall("href", difference)) == 14


def test_the_same_results_give_the_same_bytes(written: tuple[Results, Path]) -> None:
    found, page = written
    before = {p.name: p.read_bytes() for p in page.parent.rglob("*") if p.is_file()}
    folder = page.parent.parent
    (page.parent / "data" / "stale.csv").write_text("of an earlier page", encoding="utf-8")
    write_report(Results.read(folder), analyse(found), folder, page.parent)
    assert {p.name: p.read_bytes() for p in page.parent.rglob("*") if p.is_file()} == before


def test_names_are_escaped(written: tuple[Results, Path]) -> None:
    text = written[1].read_text(encoding="utf-8")
    assert "x<b>" not in text
    assert "a&b=<1>" not in text
    assert "x&lt;b&gt;" in text


def test_the_zero_shot_panel_is_in_no_comparison(written: tuple[Results, Path]) -> None:
    _, page = written
    for name in ("forest", "cost"):
        assert "lm" not in {row["arm"] for row in data(page, name)}
    text = (page.parent / "tables.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("### ")[1:])
    assert list(sections) == ["Leaderboard", "Zero-shot panel", "Scores by task", "Comparisons"]
    assert "| lm |" in sections["Zero-shot panel"]
    assert "verdict" not in sections["Zero-shot panel"]
    assert "| lm |" not in sections["Leaderboard"] + sections["Comparisons"]


def test_a_section_without_data_is_left_out(written: tuple[Results, Path], tmp_path: Path) -> None:
    whole = {"differences", "cost", "conflict", "tuning", "exposure", "comparisons", "curves"}
    assert whole <= set(read(written[1]).ids)
    assert not {"axes", "transfer"} & set(read(written[1]).ids)
    alone = results(arm("only", {"a": [0.6]}))
    bare = [
        replace(run, curves={}, summary={**(run.summary or {}), "mixture": {}})
        for run in alone.arms[0].runs
    ]
    alone = replace(alone, arms=[replace(alone.arms[0], runs=bare)])
    reader = read(write(alone, tmp_path))
    assert not (whole - {"cost"}) & set(reader.ids)
    assert {"leaderboard", "scores", "runs"} <= set(reader.ids)
    assert not (tmp_path / "report" / "data" / "cost.csv").exists()


def test_a_study_of_which_nothing_has_finished(tmp_path: Path) -> None:
    found = study()
    arms = [
        replace(
            one,
            trials=[],
            runs=[
                replace(
                    run, ending="failed", reason="no <room>", summary=None, curves={}, conflict={}
                )
                for run in one.runs
            ],
        )
        for one in found.arms
    ]
    page = write(replace(found, arms=arms), tmp_path)
    reader = read(page)
    assert "runs" in reader.ids
    assert "leaderboard" not in reader.ids
    assert "28 runs not finished" in " ".join(reader.words)
    assert "no &lt;room&gt;" in page.read_text(encoding="utf-8")


def test_the_answer_is_the_first_heading(written: tuple[Results, Path]) -> None:
    found, page = written
    text = page.read_text(encoding="utf-8")
    (heading,) = re.findall(r"<h1[^>]*>(.*?)</h1>", text)
    assert heading.replace("&lt;", "<").replace("&gt;", ">") == analyse(found).sentence
    assert text.index("<h1") < text.index("<h2>")


def test_what_does_not_exist_is_a_dash_with_its_reason(written: tuple[Results, Path]) -> None:
    text = written[1].read_text(encoding="utf-8")
    dashes = re.findall(r"<td[^>]*>(?:<span title=\"([^\"]*)\"[^>]*>)?\N{EN DASH}", text)
    assert dashes
    assert all(dashes)


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return elsewhere.python("-m", "mtl.report", *words, cwd=place)


def test_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "study-toy"
    folder.mkdir(parents=True)
    study().write(folder)
    done = subprocess.run(
        [sys.executable, "-m", "mtl.report", "study=toy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "report" / "index.html").is_file()
    assert "page: runs/study-toy/report/index.html" in done.stdout
    done = command(tmp_path, "study=runs/study-toy", "out=page")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "index.html").is_file()
    assert '"../runs/study-toy/runs/a_b%25/seed0/"' in (tmp_path / "page/index.html").read_text()
    before = sorted(tmp_path.rglob("*"))
    done = command(tmp_path, "study=tye")
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no study 'tye' (study=tye)\n  did you mean: toy\n  studies in runs/: toy\n"
    )
    assert sorted(tmp_path.rglob("*")) == before
