"""Numbers as the page writes them: a true minus sign, a dash for what does not exist."""

from __future__ import annotations

from collections.abc import Callable

from mtl.comparing.answer import Interval
from mtl.record import numbers

DASH = "\u2013"
MINUS = "\u2212"
TIMES = "\u00d7"


def score(value: float | None) -> str:
    """A score in the metric's own unit: three decimals."""
    return DASH if value is None or value != value else numbers.score(value).replace("-", MINUS)


def change(value: float | None) -> str:
    """A difference with its sign, two decimals; nothing before 0.00."""
    if value is None or value != value:
        return DASH
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def probability(value: float | None) -> str:
    """A p: three decimals, ``<0.001`` below."""
    if value is None:
        return DASH
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def share(value: float) -> str:
    """A part of a whole in percent."""
    return f"{100 * value:.1f} %"


def amount(value: float) -> str:
    """A count of tokens, operations or parameters: ``18.4 k``, ``2.00 M``, ``1.20e+15`` from 1e15 on."""
    return numbers.count(value) if abs(value) < 1e15 else f"{value:.2e}"


def memory(value: float) -> str:
    """Bytes as ``1.20 GB``."""
    return f"{numbers.count(value)}B"


def duration(value: float) -> str:
    """Seconds, minutes or hours."""
    return numbers.duration(value)


def span(interval: Interval, written: Callable[[float | None], str] = score) -> str:
    """`` [low, high]`` with the blank before it, or nothing where there is no interval."""
    if interval.low is None or interval.high is None:
        return ""
    return f" [{written(interval.low)}, {written(interval.high)}]"
