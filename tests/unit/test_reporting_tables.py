"""Tables for papers: what stands in them, and what is bold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricated import REFERENCE, arm, results
from reported import data, study, write

from mtl.comparing.results import Results

GOLDEN = Path(__file__).parents[1] / "golden" / "report_tables.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    found = study()
    return found, write(found, tmp_path_factory.mktemp("study"))


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
