"""Numbers as people read them."""

from __future__ import annotations

MISSING = "-"


def score(value: float | None) -> str:
    """A metric: three decimals, fewer for large ones; ``-`` where it is undefined."""
    if value is None or value != value:
        return MISSING
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def count(number: float) -> str:
    """A count in at most four digits: ``872``, ``18.4 k``, ``2.00 M``."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            scaled = number / (1e3 if unit == "k" else size)
            decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{decimals}f} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """``4.2 s``, ``1:48`` (minutes) or ``2:05:09`` (hours)."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
