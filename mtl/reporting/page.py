"""A study as one page that opens by double click, with its numbers beside it."""

from __future__ import annotations

import csv
import io
from importlib import resources
from pathlib import Path
from typing import Any

from mtl.comparing.answer import Answer
from mtl.comparing.results import Results
from mtl.comparing.scores import summaries, tasks_of
from mtl.record.files import write_atomically
from mtl.record.numbers import score
from mtl.reporting.figures import cost, exposure, forest, heat, lines
from mtl.reporting.svg import Figure
from mtl.reporting.tables import (
    anchor,
    comparisons,
    latex,
    leaderboard,
    markdown,
    scores,
    trials,
)


def write_report(results: Results, answer: Answer, folder: Path, out: Path) -> Path:
    """Write ``index.html``, ``tables.md``, ``tables.tex`` and ``data/*.csv``; the same results give the same bytes.

    :param folder: The study's folder, below which its runs lie.
    :param out: Folder that is written.
    :return: The page.
    """
    found = [figure for figure in figures(results, answer) if figure is not None]
    (out / "data").mkdir(parents=True, exist_ok=True)
    for stale in (out / "data").glob("*.csv"):
        if stale.stem not in {figure.name for figure in found}:
            stale.unlink()
    for figure in found:
        write_atomically(out / "data" / f"{figure.name}.csv", as_csv(figure))
    tables = [leaderboard(results, answer), scores(results, answer)]
    if answer.comparisons:
        tables.append(comparisons(answer))
    write_atomically(out / "tables.md", markdown(tables))
    write_atomically(out / "tables.tex", latex(tables))
    page = out / "index.html"
    write_atomically(page, html(results, answer, found, _way(out, folder)))
    return page


def figures(results: Results, answer: Answer) -> list[Figure | None]:
    """All pictures in the order of the page; those that have nothing to show are None."""
    return [
        forest.forest(answer),
        cost.cost(answer),
        lines.learning_curves(results, answer),
        *(lines.axis(results, answer, name) for name in results.axes),
        heat.transfer(answer),
        heat.conflict(answer),
        lines.search(answer),
        exposure.exposure(answer),
    ]


def html(results: Results, answer: Answer, found: list[Figure], way: str) -> str:
    """The page.

    :param way: From the page to the study's folder.
    """
    from jinja2 import Environment

    template = resources.files("mtl.reporting").joinpath("page.html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    tables = {"leaderboard": leaderboard(results, answer), "scores": scores(results, answer)}
    if answer.comparisons:
        tables["comparisons"] = comparisons(answer)
    if any(arm.trials for arm in results.arms):
        tables["trials"] = trials(results, way)
    return environment.from_string(template).render(
        results=results,
        answer=answer,
        figures=found,
        tables=tables,
        runs=_runs(results, way),
        way=way,
        anchor=anchor,
    )


def as_csv(figure: Figure) -> str:
    """What a picture shows, one row a mark; numbers to their last digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(figure.header)
    writer.writerows(["" if v is None else v for v in row] for row in figure.rows)
    return text.getvalue()


def _runs(results: Results, way: str) -> list[dict[str, Any]]:
    """Every arm with its runs: where each lies, and its score on each task."""
    listed = []
    for arm in results.arms:
        known = summaries(arm)
        tasks = tasks_of(arm)
        listed.append(
            {
                "arm": arm,
                "tasks": tasks,
                "runs": [
                    {
                        "seed": run.seed,
                        "ending": run.ending,
                        "reason": run.reason or "",
                        "link": f"{way}/{run.run}/" if run.run else "",
                        "average": score(known[run.seed]["average"]["value"])
                        if run.seed in known
                        else "-",
                        "scores": [_score(known.get(run.seed), task) for task in tasks],
                    }
                    for run in arm.runs
                ],
            }
        )
    return listed


def _score(summary: dict[str, Any] | None, task: str) -> str:
    if summary is None or task not in summary["tasks"]:
        return score(None)
    found = summary["tasks"][task]
    return score(found["metrics"][found["primary"]]["value"])


def _way(out: Path, folder: Path) -> str:
    """The relative path from the page to the study's folder."""
    import os

    return Path(os.path.relpath(folder, out)).as_posix()
