"""Write what a study found as one page that opens by double click, with its tables and figures as data beside it.

python -m mtl.report study=paradigms
python -m mtl.report study=runs/study-paradigms out=page
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.config.command_line import command
from mtl.config.compose import compose
from mtl.config.errors import UserError, nearest
from mtl.config.verb_schema import ReportConfig

if TYPE_CHECKING:
    from mtl.comparing.answer import Answer

DESCRIPTION = "Write what a study found as one page that opens by double click."
PREFIX = "study-"


def run(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> Path:
    """The command from Python: returns the page.

    :param overrides: As on the command line: ``["study=paradigms"]``.
    :raises UserError: there is no such study.
    """
    page, _ = _report(compose("report", ReportConfig, overrides, config_dir=config_dir))
    return page


def folder_of(study: str) -> Path:
    """The folder of a study: a folder as it is, or the name of a study in runs/.

    :raises UserError: there is none; the message names the nearest.
    """
    given = Path(study)
    for folder in (given, Path("runs") / f"{PREFIX}{study}"):
        if (folder / "results.json").is_file():
            return folder
    known = {
        folder.parent.name.removeprefix(PREFIX): folder.parent
        for folder in Path("runs").glob(f"{PREFIX}*/results.json")
    }
    hints = [f"did you mean: {guess}"] if (guess := nearest(study, known)) else []
    hints.append(
        f"studies in runs/: {', '.join(sorted(known))}"
        if known
        else "none has been run here: python -m mtl.study study=NAME"
    )
    raise UserError(f"there is no study '{study}'", where=f"study={study}", hints=hints)


def _report(config: ReportConfig) -> tuple[Path, Answer]:
    from mtl.comparing.analysis import analyse
    from mtl.comparing.results import Results
    from mtl.record.progress import Progress
    from mtl.reporting.page import write_report

    folder = folder_of(config.study)
    results = Results.read(folder)
    out = Path(config.out) if config.out is not None else folder / "report"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file", where=f"out={config.out}")
    with Progress("report") as progress, progress.stage("comparing the runs"):
        answer = analyse(results)
        return write_report(results, answer, folder, out), answer


def _execute(config: ReportConfig) -> None:
    from mtl.reporting.terminal import print_answer

    page, answer = _report(config)
    print_answer(answer, page)


def main() -> None:
    """The command line."""
    command("report", ReportConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
