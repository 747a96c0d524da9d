"""Write what a study found as one offline page, with the numbers and tables behind it.

python -m mtl.report study=paradigms
python -m mtl.report study=DIR out=page
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtl.config.command_line import command
from mtl.config.errors import UserError, nearest
from mtl.config.verb_schema import ReportConfig

DESCRIPTION = "Write what a study found as one offline HTML page."
RUNS = Path("runs")
PREFIX = "study-"


def run(overrides: Sequence[str], *, config_dir: str | None = None) -> Path:
    """The command from Python: ``run(["study=paradigms"])`` returns the page."""
    from mtl.config.compose import compose

    return report(compose("report", ReportConfig, overrides, config_dir=config_dir))


def report(config: ReportConfig) -> Path:
    """Write the page of a study, of as many runs as have ended so far.

    :returns: index.html
    :raises UserError: there is no such study, or the page's folder cannot be one.
    """
    from mtl.comparing.results import Results
    from mtl.reporting.page import write_report

    folder = find_study(config.study)
    out = folder / "report" if config.out is None else Path(config.out).expanduser()
    results = Results.read(folder)
    _check_place(out, f"out={config.out}")
    return write_report(results, folder, out)


def find_study(study: str) -> Path:
    """The folder of a study that is named by its folder or by its name.

    :raises UserError: neither is there.
    """
    named = Path(study).expanduser()
    folder = RUNS / f"{PREFIX}{study}"
    if named.is_dir():
        return named
    if folder.is_dir():
        return folder
    there = sorted(path.name.removeprefix(PREFIX) for path in RUNS.glob(f"{PREFIX}*/"))
    guess = nearest(study.removeprefix(f"{RUNS}/").removeprefix(PREFIX), there)
    hints = [f"did you mean: {guess}"] if guess else []
    if there:
        hints.append(f"studies in {RUNS}/: {', '.join(there)}")
    hints.append("run one: python -m mtl.study study=NAME")
    raise UserError(
        f"there is no study {study}: neither a folder of that name nor {folder}",
        where=f"study={study}",
        hints=hints,
    )


def _check_place(out: Path, where: str) -> None:
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"{place} is a file", where=where, hints=["name a folder"])


def _execute(config: ReportConfig) -> None:
    print(report(config))


def main() -> None:
    """The command line."""
    command("report", ReportConfig, _execute, describe=DESCRIPTION)


if __name__ == "__main__":
    main()
