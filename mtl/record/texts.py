"""Texts that a language model wrote: to read on a terminal, one JSON object a line anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from mtl.record.files import to_json

# A terminal obeys control characters, and nothing that a model writes should move its cursor.
_SHOWN_CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))
    if code not in (9, 10)
}


def print_texts(
    answers: Iterable[Mapping[str, Any]], *, samples: int, file: TextIO | None = None
) -> None:
    """Print each as it comes: its keys ``prompt`` (dim) and ``text`` on a terminal, else all of it as JSON.

    :param answers: Objects with ``prompt`` (or None), ``text``, ``sample`` and ``stopped_by``.
    :param samples: Texts of one prompt; more than one are told apart by a line.
    """
    file = file or sys.stdout
    if not file.isatty():
        for answer in answers:
            file.write(f"{to_json(answer)}\n")
            file.flush()
        return
    from rich.console import Console
    from rich.text import Text

    # Asked for each line: while a progress display runs, it stands before the standard output.
    console = Console(file=None if file is sys.stdout else file, soft_wrap=True, highlight=False)
    for number, answer in enumerate(answers):
        if number:
            console.print()
        if samples > 1:
            console.print(Text(f"[{answer['sample']} of {samples}]", style="dim italic"))
        shown = Text()
        shown.append(visible(answer["prompt"] or ""), style="dim")
        shown.append(visible(answer["text"]))
        console.print(shown)


def visible(text: str) -> str:
    """``text`` with control characters, line feed and tab aside, written out."""
    return text.translate(_SHOWN_CONTROLS)
