"""The page of a study: whole, offline, linked, and showing exactly what its data say."""

from __future__ import annotations

import csv
import html.parser
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere
from fabricated import REFERENCE, arm, results

from mtl.comparing.analysis import analyse
from mtl.comparing.results import Results
from mtl.reporting.page import write_report

GOLDEN = Path(__file__).parents[1] / "golden" / "report_tables.md"
VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}
CONFLICT = {
    "conflict/a/b/cosine": -0.25,
    "conflict/a/same_task_cosine": 0.5,
    "conflict/b/same_task_cosine": 0.4,
    "conflict/a/gradient_norm": 7.0,
    "conflict/mean_cosine": -0.25,
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
    own = {task: values[0] for task, values in base.items()}
    return results(
        arm(REFERENCE, base, role="baseline", own=own),
        arm(
            "x<b>",
            up,
            trials=[0.1, 0.3, 0.2],
            conflict=CONFLICT,
            settings=["strategy=x", "a&b=<1>"],
            chosen={"optimizer.learning_rate": 0.002},
        ),
        arm("a_b%", down, tokens=3000),
        arm("lm", {"a": [0.5] * 7, "b": [0.99] * 7}, panel="zero-shot"),
        **more,
    )


def write(found: Results, folder: Path) -> Path:
    """Lay a study out on disk and write its page."""
    for one in found.arms:
        for run in [*one.runs, *one.trials]:
            (folder / str(run.run)).mkdir(parents=True, exist_ok=True)
    found.write(folder)
    return write_report(found, analyse(found), folder, folder / "report")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    found = study()
    return found, write(found, tmp_path_factory.mktemp("study"))


class Reader(html.parser.HTMLParser):
    """Elements that are closed in their order, every link and every word."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)

    def note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(given["href"])
        names = ("src", "srcset", "data", "xlink:href", "poster", "action")
        self.loaded += [given[name] for name in names if name in given]
        if tag in ("link", "script", "iframe", "object", "embed", "use", "image", "base"):
            self.loaded.append(tag)
        if "id" in given:
            self.ids.append(given["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    return reader


def data(page: Path, name: str) -> list[dict[str, str]]:
    with (page.parent / "data" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def panels(page: Path, name: str) -> list[Any]:
    """The SVGs of a figure, which are well-formed XML."""
    from lxml import etree

    text = page.read_text(encoding="utf-8")
    start = text.index(f'<figure id="figure-{name}">')
    figure = text[start : text.index("</figure>", start)]
    return [
        etree.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))
        for svg in re.findall(r'<div class="panel">(<svg.*?</svg>)</div>', figure, re.DOTALL)
    ]


def tick_value(text: str) -> float:
    sizes = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    number, _, unit = text.replace("\N{MINUS SIGN}", "-").partition(" ")
    return float(number) * sizes.get(unit, 1.0)


def axis(svg: Any, which: str) -> Any:
    """From a pixel back to a number, by what is written beside two ticks; and how far a pixel reaches."""
    ticks = svg.xpath(f"//text[@class='tick {which}']")
    shift = 3.5 if which == "y" else 0.0
    places = [float(tick.get(which)) - shift for tick in (ticks[0], ticks[-1])]
    values = [tick_value(tick.text) for tick in (ticks[0], ticks[-1])]
    slope = (values[1] - values[0]) / (places[1] - places[0])
    return lambda place: values[0] + (place - places[0]) * slope, abs(slope)


def points(element: Any) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in element.get("points").split())
    return [(float(x), float(y)) for x, y in pairs]


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


def test_the_curves_are_drawn_where_their_data_say(written: tuple[Results, Path]) -> None:
    _, page = written
    (svg,) = panels(page, "curves_average")
    (x, x_pixel), (y, y_pixel) = axis(svg, "x"), axis(svg, "y")
    rows = data(page, "curves_average")
    for group in svg.xpath("//g[@class='series']"):
        name = group.find("title").text.partition(":")[0]
        own = [row for row in rows if row["arm"] == name]
        line = points(group.find("polyline"))
        assert len(own) == len(line) == 2
        for row, (px, py) in zip(own, line, strict=True):
            assert x(px) == pytest.approx(float(row["tokens"]), abs=0.2 * x_pixel)
            assert y(py) == pytest.approx(float(row["mean"]), abs=0.2 * y_pixel)
        ends = points(group.find("polygon"))
        lows = [float(row["low"]) for row in own]
        assert [y(py) for _, py in ends[:2]] == pytest.approx(lows, abs=0.2 * y_pixel)
    first = [row for row in rows if row["arm"] == "x<b>"]
    assert [float(row["tokens"]) for row in first] == [500, 1000]
    assert [float(row["mean"]) for row in first] == pytest.approx([0.1, 0.23])
    assert [float(row["high"]) for row in first] == pytest.approx([0.1, 0.26])


def test_the_forest_is_drawn_where_its_data_say(written: tuple[Results, Path]) -> None:
    found, page = written
    answer = analyse(found)
    rows = data(page, "forest")
    assert len(rows) == len(answer.comparisons)
    for row in rows:
        one = next(c for c in answer.comparisons if (c.arm, c.task) == (row["arm"], row["task"]))
        assert float(row["points"]) == one.points.value
        assert float(row["low"]) == one.points.low
        assert row["verdict"] == one.verdict
    drawn = panels(page, "forest")
    assert [svg.find("title").text for svg in drawn] == ["average", "a", "b"]
    for svg in drawn:
        x, pixel = axis(svg, "x")
        own = [row for row in rows if row["task"] == svg.find("title").text]
        assert len(svg.xpath("//g[@class='row']")) == len(own) == 2
        for row, group in zip(own, svg.xpath("//g[@class='row']"), strict=True):
            (sign,) = group.xpath(f"*[@class='sign {row['verdict']}']")
            place = float(sign.get("cx")) if sign.tag == "circle" else points(sign)[0][0]
            assert (sign.tag == "circle") == (row["verdict"] == "undecided")
            assert x(place) == pytest.approx(float(row["points"]), abs=0.2 * pixel)
            whisker = group.find("line")
            ends = [x(float(whisker.get(end))) for end in ("x1", "x2")]
            assert ends == pytest.approx([float(row["low"]), float(row["high"])], abs=0.2 * pixel)


def test_cost_is_drawn_where_its_data_say(written: tuple[Results, Path]) -> None:
    found, page = written
    rows = data(page, "cost")
    names = ["tokens", "flops", "seconds", "parameters_total"]
    assert list(dict.fromkeys(row["cost"] for row in rows)) == names
    for name, svg in zip(names, panels(page, "cost"), strict=True):
        own = [row for row in rows if row["cost"] == name]
        (x, x_pixel), (y, y_pixel) = axis(svg, "x"), axis(svg, "y")
        for row, group in zip(own, svg.xpath("//g[@class='series']"), strict=True):
            assert group.find("title").text.startswith(row["arm"])
            whisker = group.find("line")
            place = float(whisker.get("x1"))
            assert x(place) == pytest.approx(float(row["value"]), abs=0.2 * x_pixel)
            ends = [y(float(whisker.get(end))) for end in ("y1", "y2")]
            assert ends == pytest.approx([float(row["low"]), float(row["high"])], abs=0.2 * y_pixel)
            rings = group.xpath("circle[@class='ring']")
            assert len(rings) == (row["efficient"] == "yes")
    efficient = {row["arm"] for row in rows if row["efficient"] == "yes"}
    assert "x<b>" in efficient
    assert "a_b%" not in efficient  # dearer and worse
    assert found.reference in {row["arm"] for row in rows}


def test_heat_maps_say_their_numbers(written: tuple[Results, Path]) -> None:
    _, page = written
    rows = data(page, "conflict")
    assert [(r["first"], r["second"]) for r in rows] == [("a", "b"), ("a", "a"), ("b", "b")]
    assert [float(row["value"]) for row in rows] == pytest.approx([-0.25, 0.5, 0.4])
    (svg,) = panels(page, "conflict")
    numbers = [text.text for text in svg.xpath("//text[@class='number']")]
    assert numbers == ["+0.50", "\N{MINUS SIGN}0.25", "\N{MINUS SIGN}0.25", "+0.40"]
    fills = [cell.get("class") for cell in svg.xpath("//rect[@fill-opacity]")]
    assert fills == ["above", "below", "below", "above"]


def test_bars_are_as_long_as_their_shares(written: tuple[Results, Path]) -> None:
    _, page = written
    (svg,) = panels(page, "exposure")
    rows = data(page, "exposure")
    bars = [float(bar.get("width")) for bar in svg.xpath("//rect[@height='17']")]
    assert len(bars) == len(rows)
    assert [bar / 392 for bar in bars] == pytest.approx([float(r["share"]) for r in rows], abs=1e-3)


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


def test_axes_have_their_figures(tmp_path: Path) -> None:
    growing = results(
        *(
            arm(f"{f}/{n}", {"a": [0.6 + n / 100, 0.61]}, family=f, factors={"tasks": str(n)})
            for f in ("heads", "signal")
            for n in (2, 4)
        ),
        axes={"tasks": ["2", "4"]},
    )
    page = write(growing, tmp_path / "growing")
    rows = data(page, "along_tasks")
    assert {row["measure"] for row in rows} == {
        "average",
        "parameters",
        "parameters of single tasks",
    }
    assert len(rows) == 3 * 4
    first = panels(page, "along_tasks")[0]
    y, pixel = axis(first, "y")
    lines = [points(line) for line in first.xpath("//polyline")]
    drawn = [y(py) for line in lines for _, py in line]
    said = [float(row["value"]) for row in rows if row["measure"] == "average"]
    assert sorted(drawn) == pytest.approx(sorted(said), abs=0.2 * pixel)


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


def test_bold_only_where_a_claim_stands(written: tuple[Results, Path], tmp_path: Path) -> None:
    text = (written[1].parent / "tables.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \d \| ([^|]*) \|.*\*\*", text, re.MULTILINE)) == {r"x\<b\>"}
    few = results(arm(REFERENCE, {"a": [0.6, 0.6]}, role="baseline"), arm("x", {"a": [0.9, 0.9]}))
    page = write(few, tmp_path)
    rows = (page.parent / "tables.md").read_text(encoding="utf-8").splitlines()
    assert not [row for row in rows if row.startswith("| 1") and "**" in row]


def test_the_tables_in_markdown(tmp_path: Path) -> None:
    found = results(
        arm(REFERENCE, {"a|b": [0.6, 0.6], "open": [0.25, 0.25]}, role="baseline"),
        arm("x_*y*", {"a|b": [0.7, 0.7], "open": [0.25, 0.25]}, trials=[0.1]),
        arm("lm", {"a|b": [0.5, 0.5]}, panel="zero-shot"),
    )
    text = (write(found, tmp_path).parent / "tables.md").read_text(encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_the_tables_in_latex(written: tuple[Results, Path]) -> None:
    text = (written[1].parent / "tables.tex").read_text(encoding="utf-8")
    assert r"x\textless{}b\textgreater{}" in text
    assert r"a\_b\%" in text
    assert text.isascii()
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 4
    for table in text.split(r"\begin{longtable}")[1:]:
        letters = re.match(r"\{@\{\}([lr]+)@\{\}\}", table)
        assert letters is not None
        body = [row for row in table.splitlines() if row.endswith(r" \\") and "&" in row]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in body} == {len(letters[1])}
    depth = 0
    for sign in re.sub(r"\\[{}]", "", text):
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_tables_compile(written: tuple[Results, Path], tmp_path: Path) -> None:
    tables = (written[1].parent / "tables.tex").read_text(encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,longtable}\n"
        f"\\begin{{document}}\n{tables}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


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


def test_the_reference_is_bold_where_it_beats_all_others(tmp_path: Path) -> None:
    noise = [0.001 * seed for seed in range(8)]
    found = results(
        arm(REFERENCE, {"a": [0.9 + more for more in noise]}, role="baseline"),
        arm("x", {"a": [0.7 + 2 * more for more in noise]}),
    )
    text = (write(found, tmp_path).parent / "tables.md").read_text(encoding="utf-8")
    bold = [line for line in text.splitlines() if re.match(r"\| 1 .*\*\*", line)]
    assert len(bold) == 2  # in the leaderboard, and on its one task
    assert all(r"single\_task" in line for line in bold)


def test_arms_at_each_place_of_an_axis_have_their_own_reference(tmp_path: Path) -> None:
    growing = results(
        *(
            arm(f"{f}/{n}", {"a": [0.6 + n / 100] * 2}, family=f, factors={"tasks": str(n)})
            for f in ("heads", "signal")
            for n in (2, 4)
        ),
        axes={"tasks": ["2", "4"]},
        reference="heads",
    )
    page = write(growing, tmp_path)
    rows = data(page, "forest")
    assert {(row["arm"], row["reference"]) for row in rows} == {
        ("signal/2", "heads/2"),
        ("signal/4", "heads/4"),
    }
    text = (page.parent / "tables.md").read_text(encoding="utf-8")
    assert "| signal/4 | heads/4 |" in text
    assert "against heads" not in text
