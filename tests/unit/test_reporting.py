"""The page of a study: whole, offline, linked, and showing exactly what its data say."""

from __future__ import annotations

import csv
import html.parser
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricated import REFERENCE, arm, results

from mtl.comparing.analysis import analyse
from mtl.comparing.results import Results
from mtl.reporting.page import figures, write_report
from mtl.reporting.svg import log_ticks, nice_ticks
from mtl.reporting.tables import tex

VOID = {"meta", "link", "br", "img", "hr", "input"}
CONFLICT = {
    "conflict/a/b/cosine": -0.25,
    "conflict/a/same_task_cosine": 0.5,
    "conflict/b/same_task_cosine": 0.4,
}


def study(**more: Any) -> Results:
    base = {
        "a": [0.60, 0.62, 0.61, 0.6, 0.63, 0.6, 0.61],
        "b": [0.7, 0.71, 0.72, 0.7, 0.7, 0.7, 0.7],
    }
    up = {
        task: [v + 0.1 + 0.001 * i for i, v in enumerate(values)] for task, values in base.items()
    }
    down = {
        task: [v - 0.1 - 0.002 * i for i, v in enumerate(values)] for task, values in base.items()
    }
    return results(
        arm(REFERENCE, base, role="baseline", own=base_own(base)),
        arm(
            "x<b>",
            up,
            trials=[0.1, 0.3, 0.2],
            conflict=CONFLICT,
            settings=["strategy=x", "a&b=<1>"],
        ),
        arm("a_b%", down, tokens=3000),
        arm("lm", {"a": [0.5] * 7, "b": [0.99] * 7}, panel="zero-shot"),
        **more,
    )


def base_own(base: dict[str, list[float]]) -> dict[str, float]:
    return {task: values[0] for task, values in base.items()}


@pytest.fixture
def written(tmp_path: Path) -> tuple[Results, Path]:
    found = study()
    for one in found.arms:
        for run in [*one.runs, *one.trials]:
            (tmp_path / str(run.run)).mkdir(parents=True)
            (tmp_path / str(run.run) / "summary.json").write_text("{}", encoding="utf-8")
    found.write(tmp_path)
    return found, write_report(found, analyse(found), tmp_path, tmp_path / "report")


class Reader(html.parser.HTMLParser):
    """Elements that are closed in their order, every link and every word."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        self.loaded += [str(v) for k, v in attrs if k in ("src", "srcset", "data") and v]
        if tag in ("link", "script", "iframe", "object"):
            self.loaded.append(tag)
        if given.get("id"):
            self.ids.add(str(given["id"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_loads_nothing(written):
    reader = read(written[1])
    assert reader.loaded == []
    text = written[1].read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text


def test_every_link_leads_somewhere(written):
    _, page = written
    reader = read(page)
    runs = 0
    for link in reader.links:
        if link.startswith("#"):
            assert link[1:] in reader.ids
            continue
        assert "://" not in link
        assert (page.parent / link).exists(), link
        runs += "/seed" in link
    assert runs >= 4 * 7  # each run of each arm


def test_the_same_results_give_the_same_bytes(written, tmp_path):
    found, page = written
    before = {p.name: p.read_bytes() for p in page.parent.rglob("*") if p.is_file()}
    write_report(Results.read(tmp_path), analyse(found), tmp_path, page.parent)
    assert {p.name: p.read_bytes() for p in page.parent.rglob("*") if p.is_file()} == before


def test_names_are_escaped(written):
    text = written[1].read_text(encoding="utf-8")
    assert "x<b>" not in text
    assert "a&b=<1>" not in text
    assert "x&lt;b&gt;" in text


def test_the_csv_holds_what_is_drawn(written):
    found, page = written
    answer = analyse(found)
    drawn = {figure.name: figure for figure in figures(found, answer) if figure is not None}
    assert {p.stem for p in (page.parent / "data").iterdir()} == set(drawn)
    with (page.parent / "data" / "differences.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(answer.comparisons)
    for row in rows:
        one = next(c for c in answer.comparisons if (c.arm, c.task) == (row["arm"], row["task"]))
        assert float(row["points"]) == one.points.value
        assert row["verdict"] == one.verdict
    assert drawn["differences"].svg.count("<circle") == len(rows)
    with (page.parent / "data" / "cost.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["arm"] for row in rows} == {
        REFERENCE,
        "x<b>",
        "a_b%",
    }  # the zero-shot panel is apart
    with (page.parent / "data" / "learning_curves.csv").open(encoding="utf-8") as file:
        rows = [
            r
            for r in csv.DictReader(file)
            if (r["curve"], r["arm"]) == ("selection_average", "x<b>")
        ]
    assert [float(row["tokens"]) for row in rows] == [500, 1000]
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.1, 0.23])


def test_a_section_without_data_is_left_out(written, tmp_path):
    _, page = written
    assert {"differences", "cost", "conflict", "search", "exposure"} <= read(page).ids
    alone = results(arm("only", {"a": [0.6]}))
    reader = read(write_report(alone, analyse(alone), tmp_path, tmp_path / "alone"))
    assert not {"differences", "cost", "conflict", "search", "transfer", "comparisons"} & reader.ids
    assert {"leaderboard", "scores", "runs"} <= reader.ids


def test_axes_and_pairs_have_their_pictures(tmp_path):
    growing = results(
        *(
            arm(f"{f}/{n}", {"a": [0.6 + n / 100, 0.61]}, family=f, factors={"tasks": str(n)})
            for f in ("heads", "signal")
            for n in (2, 4)
        ),
        axes={"tasks": ["2", "4"]},
    )
    reader = read(write_report(growing, analyse(growing), tmp_path, tmp_path / "growing"))
    assert "axis_tasks" in reader.ids
    with (tmp_path / "growing" / "data" / "axis_tasks.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4
    assert {row["measure"] for row in rows} == {"score", "parameters", "seconds"}
    pairs = results(
        arm("m/a", {"a": [0.6, 0.6]}, family="m", factors={"pairs": "a"}),
        arm("m/b", {"b": [0.7, 0.7]}, family="m", factors={"pairs": "b"}),
        arm("m/a+b", {"a": [0.7, 0.7], "b": [0.6, 0.6]}, family="m", factors={"pairs": "a+b"}),
        over="pairs",
    )
    assert "transfer" in read(write_report(pairs, analyse(pairs), tmp_path, tmp_path / "pairs")).ids


def test_the_answer_is_the_first_thing(written):
    reader = read(written[1])
    words = " ".join(" ".join(reader.words).split())
    sentence = (
        "On 2 tasks, ahead of each task alone on the same rows: x<b> by 20.6 points [20.3, 20.9], "
        "p = 0.0312 after Holm; behind it: a_b% by 21.2 points [20.6, 21.9], p = 0.0312 after Holm."
    )
    assert re.sub(r"\[[^]]*\]", "", sentence) in re.sub(r"\[[^]]*\]", "", words)


def test_markdown(tmp_path):
    found = results(
        arm(REFERENCE, {"a|b": [0.6, 0.6]}, role="baseline"), arm("x", {"a|b": [0.7, 0.7]})
    )
    write_report(found, analyse(found), tmp_path, tmp_path / "report")
    text = (tmp_path / "report" / "tables.md").read_text(encoding="utf-8")
    assert text.startswith(
        "## Mean over seeds of the average over tasks (chance 0, perfect 1) with 95 % intervals, "
        "and what a run cost\n\n"
        "| arm | seeds | score | own checkpoints | interquartile mean | less reference, points | p (Holm) | verdict "
        "| P(better) | tokens | TFLOP | seconds | parameters | tuned |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| x | 2 | 0.400 [0.400, 0.400] | - | 0.400 [0.400, 0.400] | +20.0 [+20.0, +20.0] | 0.5 | undecided "
        "| 1.00 [1.00, 1.00] | 1000 | 0.00 | 5.0 s | 110 | - |\n"
    )
    assert "| a\\|b (accuracy) | 0.500 |" in text
    for line in text.splitlines():
        if line.startswith("| x |") or line.startswith("| arm |"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 15


def test_latex(written):
    text = (written[1].parent / "tables.tex").read_text(encoding="utf-8")
    assert r"x\textless{}b\textgreater{}" in text
    assert r"a\_b\%" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}}") == 3
    assert r"\textbf{better}" in text
    for table in text.split(r"\begin{table}")[1:]:
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", table)[1])  # type: ignore[index]
        body = [r for r in table.splitlines() if r.endswith(r"\\") and "multicolumn" not in r]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in body} == {columns}
    assert tex("a_b & 50 % {x} ~^\\") == (
        r"a\_b \& 50 \% \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.12, 0.31, [0.15, 0.2, 0.25, 0.3]),
        (-3, 7, [-2, 0, 2, 4, 6]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_ticks_of_a_logarithm():
    assert log_ticks(1, 1000) == [1, 10, 100, 1000]
    assert log_ticks(150, 600) == [200, 500]


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mtl.report", *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command(tmp_path):
    folder = tmp_path / "runs" / "study-toy"
    folder.mkdir(parents=True)
    study().write(folder)
    done = command(tmp_path, "study=toy")
    assert done.returncode == 0, done.stderr
    assert (folder / "report" / "index.html").is_file()
    assert "page: runs/study-toy/report/index.html" in done.stdout
    done = command(tmp_path, "study=runs/study-toy", "out=page")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "index.html").is_file()
    before = sorted(tmp_path.rglob("*"))
    done = command(tmp_path, "study=tye")
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no study 'tye' (study=tye)\n  did you mean: toy\n  studies in runs/: toy\n"
    )
    assert sorted(tmp_path.rglob("*")) == before
