"""The command line of a benchmark: its options, and what a mistake says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from mtl.config.errors import Interrupted, UserError, unknown_name


def read_options(words: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """``name=value`` words over the defaults.

    :raises UserError: a name that is not among the defaults.
    """
    options = dict(defaults)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in defaults or not equals:
            raise unknown_name("option", name, defaults, where=f"command line: {word}")
        options[name] = value
    return options


def run(main: Callable[[list[str]], None]) -> None:
    """Call a benchmark's ``main`` with the command line's words; a person's mistake is one message and status 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as interruption:
        sys.exit(128 + interruption.signal)
