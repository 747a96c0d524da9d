"""From a number to a place on an axis, and the round numbers that are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mtl.reporting.numerals import MINUS

STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """A linear axis from ``low`` at ``start`` to ``high`` at ``stop`` (pixels)."""

    low: float
    high: float
    start: float
    stop: float
    least: float = 0.0
    """Ticks are no nearer to one another; 1 where there are only whole numbers."""

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """At most ``most`` round numbers within the axis, 1, 2 or 5 times a power of ten apart."""
        step = self._step(most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def labels(self, most: int = 5) -> list[tuple[float, str]]:
        """The ticks with what is written beside them: ``0.25``, ``400 k``, ``1.5 G``."""
        return [(tick, tick_label(tick, self._step(most))) for tick in self.ticks(most)]

    def _step(self, most: int) -> float:
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        for multiple in STEPS:
            step = multiple * power
            inside = math.floor(self.high / step + 1e-9) - math.ceil(self.low / step - 1e-9) + 1
            if inside <= most and step >= self.least:
                return step
        return 10.0 * power


def around(
    values: Iterable[float], start: float, stop: float, *, zero: bool = False, margin: float = 0.06
) -> Scale:
    """An axis on which all values lie, with a margin on both sides.

    :param zero: Whether 0 lies on it too.
    """
    found = [value for value in values if math.isfinite(value)] + ([0.0] if zero else [])
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        spread = abs(high) * 0.05 or 1.0
        low, high = low - spread, high + spread
    room = (high - low) * margin
    return Scale(low - room, high + room, start, stop)


def tick_label(value: float, step: float) -> str:
    """A tick's value with no more digits than its step has."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size and step >= size / 1000:
            return f"{_plain(value / size, step / size)} {unit}"
    return _plain(value, step)


def _plain(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    text = f"{value:.{decimals}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", MINUS)
