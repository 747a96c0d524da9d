"""What a person did wrong, said in one message.

Every mistake a person can make (a misspelt name, a missing folder, a bad row) is raised as
:class:`UserError`. The command line prints it and exits with status 2; no traceback is shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake of the person who runs the program.

    :param problem: What is wrong, in one line, without a trailing full stop.
    :param where: Where it was written (``command line: seed=abc``, ``rows.csv, row 7``).
    :param hints: What would be right, one line each.
    """

    def __init__(self, problem: str, *, where: str | None = None, hints: Sequence[str] = ()):
        self.problem = problem
        self.where = where
        self.hints = tuple(hints)
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return "\n".join([f"{self.problem}{place}", *(f"  {hint}" for hint in self.hints)])


class CombinedUserError(UserError):
    """Several mistakes at once, so that a person mends them in one go."""

    def __init__(self, errors: Sequence[UserError]):
        self.errors = tuple(errors)
        super().__init__(f"{len(errors)} mistakes")

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def raise_all(errors: Sequence[UserError]) -> None:
    """Raise nothing, the one error, or all of them in one message, each once."""
    errors = list({str(error): error for error in errors}.values())
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CombinedUserError(errors)


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option a misspelt name most likely meant, or None where nothing is near."""
    matches = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown_name(
    kind: str, name: str, options: Iterable[str], *, where: str | None = None
) -> UserError:
    """The error for a name that is not among ``options``: nearest name first, then all of them."""
    options = sorted(options)
    hints = []
    if (guess := nearest(name, options)) is not None:
        hints.append(f"did you mean: {guess}")
    hints.append(f"available: {', '.join(options)}" if options else "none is available")
    return UserError(f"unknown {kind} '{name}'", where=where, hints=hints)


class Interrupted(Exception):  # noqa: N818  (a state, not an error)
    """A signal ended the work after what can be resumed was written.

    :param signal: Number of the signal; the exit status is 128 more (130 for SIGINT, 143 for SIGTERM).
    """

    def __init__(self, signal: int):
        self.signal = int(signal)
        super().__init__(f"interrupted by signal {self.signal}")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int]]:
        """Another process is told of it by a pickle, which would call it with the message otherwise."""
        return type(self), (self.signal,)


class Stopped(Exception):  # noqa: N818  (a state, not an error)
    """A run was ended on purpose before its time, for the reason it was given."""
