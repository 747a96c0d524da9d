"""The account of a corpus as people read it: what came in, what each rule took, what is left."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mtl.corpora.account import Account
from mtl.corpora.building import Origin
from mtl.record.numbers import count

if TYPE_CHECKING:
    from rich import box
    from rich.console import JustifyMethod

PLAIN_WIDTH = 120
ORIGINS_SHOWN = 12
WRAPPED = 0.5
"""Share of the bytes from which on C4's rule on line ends is said to be the wrong one for this text."""


@dataclass(frozen=True)
class Amount:
    """How much text one purpose has."""

    fingerprint: str
    """Content hash of the documents."""
    note: str
    """How they were chosen."""
    documents: int
    bytes: int
    """UTF-8 bytes."""
    tokens: int
    """Tokens of the documents in windows of the decoder's context, what opens each window included."""


@dataclass(frozen=True)
class Prepared:
    """A corpus that is ready to be trained on."""

    name: str
    amounts: Mapping[str, Amount]
    """By purpose: ``train``, ``selection``, ``report``."""
    origins: Sequence[Origin]
    """The files it was made of, where it was made of files."""
    account: Account | None
    """What each rule removed; None where the corpus has no rules."""
    store: Path | None
    """Folder of the documents, where they lie on disk."""
    tokenizer: Path
    """Folder of the vocabulary, for ``tokenizer.folder``."""
    vocabulary_size: int
    """Ids of the vocabulary, special tokens aside."""
    readers: tuple[str, ...]
    """Strategies that it was tokenised for."""
    remarks: tuple[str, ...] = ()
    """What was asked for and could not be done."""


def print_prepared(prepared: Prepared, *, file: TextIO | None = None) -> None:
    """Print what a corpus was made of, what was removed, and how much there is for each purpose."""
    from rich.console import Console
    from rich.table import Table

    file = file or sys.stdout
    console = Console(file=file, width=None if file.isatty() else PLAIN_WIDTH)
    shown = prepared.origins[:ORIGINS_SHOWN]
    if shown:
        files = Table("file", "fingerprint", "documents", "bytes", box=_box(file))
        for origin in shown:
            files.add_row(
                origin.name, origin.fingerprint, str(origin.documents), count(origin.bytes)
            )
        console.print(files)
    if len(shown) < len(prepared.origins):
        console.print(f"and {len(prepared.origins) - len(shown)} more files", highlight=False)
    if prepared.account is not None:
        print_account(prepared.account, file=file)
    amounts = Table("for", "documents", "bytes", "tokens", "fingerprint", "chosen", box=_box(file))
    for purpose, amount in prepared.amounts.items():
        amounts.add_row(
            purpose,
            str(amount.documents),
            count(amount.bytes),
            count(amount.tokens),
            amount.fingerprint,
            amount.note,
        )
    console.print(amounts)
    train = prepared.amounts["train"]
    said = [
        *prepared.remarks,
        f"vocabulary: {prepared.vocabulary_size} tokens, {train.bytes / max(train.tokens, 1):.2f} bytes per token, "
        f"in {prepared.tokenizer}",
    ]
    if prepared.store is not None:
        said.append(f"documents: {prepared.store}")
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _box(file: TextIO) -> box.Box:
    from rich import box

    return box.SIMPLE if file.isatty() else box.ASCII2


def print_account(account: Account, *, file: TextIO | None = None) -> None:
    """Print the table: coloured and as wide as it is on a terminal, else plain text of at most 120 columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    file = file or sys.stdout
    plain = not file.isatty()
    table = Table(box=_box(file), expand=True)
    for heading in ("removed by", "documents", "lines", "bytes", "share"):
        side: JustifyMethod = "left" if heading == "removed by" else "right"
        table.add_column(heading, justify=side, no_wrap=True)
    table.add_column("the first one", overflow="ellipsis", no_wrap=True, ratio=1)
    for rule, removal, share in account.rows():
        example = f"{removal.row}  {removal.example}" if removal.documents else ""
        table.add_row(
            rule,
            str(removal.documents or ""),
            str(removal.lines or ""),
            count(removal.bytes),
            f"{share:.2%}",
            Text(example, style="" if plain else "dim"),
        )
    table.add_section()
    kept = account.kept_bytes / max(account.bytes, 1)
    of = f"of {account.documents} documents, {count(account.bytes)} bytes"
    table.add_row(
        "kept", str(account.kept_documents), "", count(account.kept_bytes), f"{kept:.2%}", of
    )
    console = Console(file=file, width=PLAIN_WIDTH if plain else None)
    console.print(table)
    for line in remarks(account):
        console.print(line, markup=False, highlight=False)


def remarks(account: Account) -> list[str]:
    """What the numbers do not say by themselves."""
    said = []
    if account.replacement_characters:
        said.append(
            f"{account.replacement_characters} kept documents hold U+FFFD: characters were lost before"
        )
    if account.control_characters:
        said.append(
            f"{account.control_characters} kept documents hold control characters; left as they are"
        )
    if account.without_address:
        said.append(
            f"{account.without_address} documents have no address, so no domain excludes them"
        )
    wrapped = account.removed.get("c4: lines that end no sentence")
    short = account.removed.get("c4: too few sentences")
    lost = sum(removal.bytes for removal in (wrapped, short) if removal is not None)
    if lost > WRAPPED * account.bytes:
        said.append(
            f"C4's rules on lines took {lost / account.bytes:.0%} of the text: is it wrapped, so that lines are no "
            "paragraphs? corpus.clean.c4=null leaves them out"
        )
    return said
