"""Options of a benchmark, as its command line writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.config.errors import unknown_name


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
