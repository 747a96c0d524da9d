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
    """Print ``prompt`` (dim) and ``text`` of each on a terminal, once all are there; else each as JSON, as it comes.

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

    console = Console(file=file, soft_wrap=True, highlight=False)
    # While they are written, the progress display owns the terminal's last line.
    for number, answer in enumerate(list(answers)):
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
