"""The page: index.html with everything in it, the numbers behind each figure, and the tables for a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtl.comparing.answer import Answer
from mtl.comparing.results import Results
from mtl.record.files import write_atomically
from mtl.reporting import costs, drawing, runs, scores
from mtl.reporting.asked import asked
from mtl.reporting.figures.figure import Figure
from mtl.reporting.latex import as_latex
from mtl.reporting.leaderboard import leaderboards
from mtl.reporting.markdown import as_markdown
from mtl.reporting.tables import Table
from mtl.reporting.transfer import transfer_tables
from mtl.reporting.view import View

PAGE, DATA, MARKDOWN, LATEX = "index.html", "data", "tables.md", "tables.tex"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with an entry in its contents."""

    anchor: str
    title: str
    figures: Sequence[Figure] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)


def write_report(results: Results, answer: Answer, folder: Path, out: Path) -> Path:
    """Write the page of a study, the data of its figures, and its tables. The same results give the same bytes.

    :param answer: What :func:`mtl.comparing.analysis.analyse` makes of the results.
    :param folder: The study's, which the paths of runs are relative to. Links are relative too, so that it can be
        moved as a whole.
    :param out: Folder of the page; made where it is not there.
    :returns: index.html
    """
    view = View(results, answer, folder.absolute(), out.absolute())
    sections = list(page_sections(view))
    figures = [figure for section in sections for figure in section.figures]
    (out / DATA).mkdir(parents=True, exist_ok=True)
    for stale in {*(out / DATA).glob("*.csv")} - {
        out / DATA / f"{one.name}.csv" for one in figures
    }:
        stale.unlink()
    for figure in figures:
        write_atomically(out / DATA / f"{figure.name}.csv", figure.as_csv())
    tables = list(paper_tables(view))
    write_atomically(out / MARKDOWN, as_markdown(tables))
    write_atomically(out / LATEX, as_latex(tables))
    write_atomically(out / PAGE, as_html(view, sections))
    return out / PAGE


def paper_tables(view: View) -> Iterator[Table]:
    """What goes into Markdown and LaTeX."""
    yield from leaderboards(view)
    yield from scores.score_tables(view)
    if compared := scores.comparison_table(view):
        yield compared
    yield from transfer_tables(view)


def page_sections(view: View) -> Iterator[Section]:
    """The parts that have something to show, in the page's order."""
    sections = [
        # First: arms over pairs learn other tasks each, so their leaderboard is not the answer.
        _section("transfer", "Transfer", [drawing.transfer_figure(view)]),
        _section("leaderboard", "Leaderboard", tables=leaderboards(view)),
        _section("differences", "Differences", [drawing.forest_figure(view)]),
        _section("scores", "Scores", tables=scores.score_tables(view)),
        _section("comparisons", "Comparisons", tables=[scores.comparison_table(view)]),
        _section("curves", "Learning curves", drawing.curve_figures(view)),
        _section("cost", "Score and cost", [drawing.cost_figure(view)], [costs.cost_table(view)]),
        _section("axes", "Along the study's axes", drawing.axis_figures(view)),
        _section("conflict", "Gradient conflict", [drawing.conflict_figure(view)]),
        _section("tuning", "Tuning", [drawing.tuning_figure(view)], [runs.trial_table(view)]),
        _section(
            "exposure", "Exposure", [drawing.exposure_figure(view)], [runs.exposure_table(view)]
        ),
        _section("runs", "Runs", tables=[runs.run_table(view)]),
    ]
    yield from (section for section in sections if section.figures or section.tables)


def _section(
    anchor: str,
    title: str,
    figures: Iterable[Figure | None] = (),
    tables: Iterable[Table | None] = (),
) -> Section:
    return Section(
        anchor=anchor,
        title=title,
        figures=[figure for figure in figures if figure is not None],
        tables=[table for table in tables if table is not None],
    )


def as_html(view: View, sections: Sequence[Section]) -> str:
    """One file: style and pictures stand in it, and nothing is loaded from elsewhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mtl.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template("page.html").render(
        results=view.results,
        answer=view.answer,
        asked=asked(view),
        unfinished=list(runs.unfinished(view)),
        sections=sections,
        series_count=max(len(view.series), len(view.tasks)),
    )


def breakable(text: str) -> str:
    """A name that may be broken over lines behind ``_``, ``/`` and ``=``, escaped."""
    from markupsafe import Markup, escape

    safe = str(escape(text))
    for sign in "_/=":
        safe = safe.replace(sign, f"{sign}<wbr>")
    return Markup(safe)
