"""``python -m mtl``: the map of what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import mtl
from mtl.config import packages
from mtl.config.command_line import report

VERBS = {
    "fit": "train one strategy, evaluate it, record it",
    "evaluate": "score a finished run on tasks",
    "predict": "answer one input, or a file of them",
    "generate": "sample text",
    "prepare": "clean and tokenise a corpus; report overlap",
    "export": "write a run as a Hugging Face folder",
    "study": "put one question to many runs",
    "report": "write finished runs as one offline page",
}
GROUPS = (
    "study",
    "strategy",
    "suite",
    "task",
    "mixture",
    "balance",
    "decoder",
    "corpus",
    "tokenizer",
    "trainer",
)
RECENT = 5


def main() -> int:
    """Print the map; returns the exit status."""
    if sys.argv[1:]:
        from mtl.config.errors import UserError, unknown_name

        verb = sys.argv[1]
        if verb in VERBS:
            raise UserError(f"a verb is a module: python -m mtl.{verb}")
        raise unknown_name("verb", verb, _verbs())
    print("\n".join(_map()))
    return 0


def _verbs() -> dict[str, str]:
    folder = Path(mtl.__file__).parent
    return {verb: text for verb, text in VERBS.items() if (folder / f"{verb}.py").exists()}


def _map() -> Iterator[str]:
    packages.pin_packages("configs", "strategies", "studies")
    from mtl.config.composition import Composition
    from mtl.config.help import describe_group

    composition = Composition("fit")
    yield "mtl: one shared GPT decoder under every paradigm of multi-task learning, compared fairly."
    yield ""
    for verb, text in _verbs().items():
        yield f"  python -m mtl.{verb:<9} {text}"
    for group in GROUPS:
        lines = list(describe_group(composition, group, settings=False))
        if lines:
            yield ""
            yield from lines
    runs = list(_recent_runs(Path("runs")))
    if runs:
        yield ""
        yield "  recent runs in runs/"
        yield from runs
    yield ""
    yield "Start: python -m mtl.fit   Every key: python -m mtl.fit --help"


def _recent_runs(folder: Path) -> Iterator[str]:
    found = [config.parent for config in folder.glob("*/config.yaml")]
    newest = sorted(found, key=lambda run: run.stat().st_mtime, reverse=True)[:RECENT]
    width = max((len(run.name) for run in newest), default=0)
    for run in newest:
        try:
            summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            summary = {}
        average = summary.get("average") if isinstance(summary.get("average"), dict) else {}
        value = average.get("value") if isinstance(average, dict) else None
        score = f"average {value:.3f}" if isinstance(value, (int, float)) else ""
        words = [
            summary.get("strategy", ""),
            f"seed {summary.get('seed', '?')}",
            summary.get("status", ""),
        ]
        text = (
            ", ".join(str(word) for word in [*words, score] if word) if summary else "not finished"
        )
        yield f"    {run.name:<{width}}  {text}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:
        sys.exit(report(error))
