"""What each rule removed: an account that shards keep and that adds up to the corpus's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

EXAMPLE = 60
"""Characters of an example."""


@dataclass
class Removal:
    """What one rule removed."""

    documents: int = 0
    """Whole documents."""
    lines: int = 0
    """Lines out of documents that may have stayed."""
    bytes: int = 0
    """UTF-8 bytes in either."""
    row: str = ""
    """Row of the first document it removed."""
    example: str = ""
    """How that one begins."""


@dataclass
class Account:
    """Documents and bytes that came in, and what became of them."""

    documents: int = 0
    """Documents read."""
    bytes: int = 0
    """UTF-8 bytes in them."""
    removed: dict[str, Removal] = field(default_factory=dict)
    """By ``<family>: <rule>``, in the order in which they first removed something."""
    replacement_characters: int = 0
    """Documents kept although they hold U+FFFD: characters were lost before they came here."""
    control_characters: int = 0
    """Documents kept although they hold control characters beside tab and line ends."""
    without_address: int = 0
    """Documents without an address, which no domain can exclude."""

    @property
    def kept_documents(self) -> int:
        """Documents that stay."""
        return self.documents - sum(removal.documents for removal in self.removed.values())

    @property
    def kept_bytes(self) -> int:
        """UTF-8 bytes that stay."""
        return self.bytes - sum(removal.bytes for removal in self.removed.values())

    def document(self, rule: str, row: str, text: str, size: int) -> None:
        """A whole document of ``size`` bytes is removed."""
        removal = self.removed.setdefault(rule, Removal())
        if not removal.documents:
            removal.row, removal.example = row, " ".join(text[: 4 * EXAMPLE].split())[:EXAMPLE]
        removal.documents += 1
        removal.bytes += size

    def lines(self, rule: str, count: int, size: int) -> None:
        """Lines of ``size`` bytes are removed."""
        removal = self.removed.setdefault(rule, Removal())
        removal.lines += count
        removal.bytes += size

    def add(self, other: Account) -> None:
        """Take another account in."""
        for name in ("documents", "bytes", *NOTES):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for rule, theirs in other.removed.items():
            ours = self.removed.setdefault(rule, Removal())
            if not ours.documents:
                ours.row, ours.example = theirs.row, theirs.example
            ours.documents += theirs.documents
            ours.lines += theirs.lines
            ours.bytes += theirs.bytes

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Account:
        """What :meth:`plain` gave."""
        removed = {rule: Removal(**found) for rule, found in values["removed"].items()}
        return cls(**{**values, "removed": removed})

    def rows(self) -> Iterator[tuple[str, Removal, float]]:
        """Each rule in the order they are tried, what it removed, and its share of all bytes."""
        for rule, removal in sorted(self.removed.items(), key=_place):
            yield rule, removal, removal.bytes / max(self.bytes, 1)


FAMILIES = ("empty", "domain", "c4", "gopher quality", "gopher repetition", "duplicate")
"""Families of rules in the order they are tried: what a rule's name begins with."""


def _place(item: tuple[str, Removal]) -> tuple[int, int, str]:
    """Families in their order, in each the rules that took most first."""
    rule, removal = item
    return FAMILIES.index(rule.partition(":")[0]), -removal.bytes, rule


NOTES = ("replacement_characters", "control_characters", "without_address")
"""Counts that are noted and remove nothing."""
