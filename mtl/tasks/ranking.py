"""Rows that are candidates of a query become one example for each query: which candidate is right?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mtl.tasks.task import Example
from mtl.tasks.templates import BadValueError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of a ranking task."""

    row: str
    """Identity of the row."""
    query: str
    text: str
    """The candidate as a head reads it."""
    right: bool | None
    """None without a gold label."""
    segments: tuple[str, ...]
    """How the query reads for a head."""
    prompt: tuple[str, ...]
    """How the query reads as text."""


class Queries:
    """Collects the candidates of a split by their query."""

    def __init__(self) -> None:
        self._of_query: dict[str, list[Candidate]] = {}

    def add(self, candidate: Candidate) -> None:
        """Take one more row.

        :raises BadValueError: What stands before the candidate differs from that of an earlier row with the query.
        """
        candidates = self._of_query.setdefault(candidate.query, [])
        if candidates and _before(candidates[0]) != _before(candidate):
            raise BadValueError(
                "segments or prompt: they differ from those of"
                f" {candidates[0].row}, which has the same query, but may not name what belongs to a candidate"
            )
        candidates.append(candidate)

    def examples(self, split: str) -> tuple[list[Example], list[str]]:
        """An example for each query that can be ranked, in their order, and notes on those that cannot.

        An example bears the identity of the first row of its query. Candidates stand in the order of the alphabet,
        because the order of rows may tell which one is right.
        """
        examples, reasons = [], Counter[str]()
        for candidates in self._of_query.values():
            if (reason := _unrankable(candidates)) is not None:
                reasons[reason] += 1
                continue
            first = candidates[0]
            ordered = sorted(candidates, key=lambda candidate: candidate.text)
            (target,) = [index for index, candidate in enumerate(ordered) if candidate.right]
            texts = tuple([candidate.text for candidate in ordered])
            answers = tuple([f" {text}" for text in texts])
            examples.append(
                Example(first.row, first.segments, first.prompt, target, answers, texts)
            )
        total = len(self._of_query)
        return examples, [
            f"{count} of {total} queries of {split} have {reason} and are left out"
            for reason, count in reasons.items()
        ]


def _before(candidate: Candidate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return candidate.segments, candidate.prompt


def _unrankable(candidates: list[Candidate]) -> str | None:
    right = [candidate.right for candidate in candidates]
    if len(candidates) == 1:
        return "a single candidate"
    if None in right:
        return "a candidate without a gold label"
    if not any(right):
        return "no right candidate"
    if right.count(True) > 1:
        return "several right candidates"
    if len({candidate.text for candidate in candidates}) < len(candidates):
        return "two candidates that read the same"
    return None
