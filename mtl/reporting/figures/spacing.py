"""Keeping labels off one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Places moved as little as is needed for neighbours to be ``least`` apart; their order stays.

    Neighbours that touch are joined into a group about the mean of where its members belong (pool adjacent violators);
    a group stays between ``low`` and ``high`` as far as it fits in.
    """

    def start(group: Sequence[int]) -> float:
        length = least * (len(group) - 1)
        wanted = sum(places[index] for index in group) / len(group) - length / 2
        return max(low, min(high - length, wanted))

    groups: list[list[int]] = []
    for index in sorted(range(len(places)), key=places.__getitem__):
        groups.append([index])
        while len(groups) > 1 and start(groups[-1]) < start(groups[-2]) + least * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = list(places)
    for group in groups:
        for position, index in enumerate(group):
            moved[index] = start(group) + least * position
    return moved


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def beside(
    points: Sequence[tuple[float, float]], sizes: Sequence[float], height: float, within: Box
) -> list[tuple[float, float]]:
    """Where the middle of each point's label may stand: as near as it finds room, off points and other labels.

    :param sizes: Width of each label.
    """
    taken = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in points]
    found = []
    for (x, y), width in zip(points, sizes, strict=True):
        options = [
            (x + dx * (width / 2 + 9 + away), y + dy * away_y)
            for away in (0.0, 12.0, 24.0, 36.0, 48.0, 64.0, 80.0)
            for dx, dy, away_y in (
                (1, 0, 0.0),
                (-1, 0, 0.0),
                (1, -1, 14.0 + away),
                (1, 1, 14.0 + away),
                (-1, -1, 14.0 + away),
                (-1, 1, 14.0 + away),
            )
        ]
        for place in options:
            box = Box(
                place[0] - width / 2,
                place[1] - height / 2,
                place[0] + width / 2,
                place[1] + height / 2,
            )
            inside = (
                box.left >= within.left
                and box.right <= within.right
                and box.top >= within.top
                and box.bottom <= within.bottom
            )
            if inside and not any(box.touches(other) for other in taken):
                break
        else:
            place, box = options[0], Box(x, y, x, y)
        taken.append(box)
        found.append(place)
    return found
