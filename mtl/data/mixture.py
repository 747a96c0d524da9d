"""How often each task is drawn, and how that changes over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtl.config.errors import UserError, unknown_name
from mtl.config.schema import MixtureConfig, MixtureGroup, MixturePoint


def rates(sizes: Mapping[str, int], config: MixtureConfig) -> dict[str, float]:
    """The share of draws of each task, whatever the schedule; they sum to 1.

        r_k = w_k / (w_1 + ... + w_K),    w_k = min(n_k, cap) ** (1 / T)

    - n_k: training rows of task k; ``cap`` limits it before the temperature T does its work (T5 section 3.5.2).
    - ``proportional`` and ``capped``: T = 1. ``equal``: w_k = 1. ``explicit``: w_k as written in ``mixture.rates``.
    - ``nested``: w_k is the share that ``mixture.rates`` gives to the task's group, times its share there.

    :param sizes: Training rows of each task.
    :raises UserError: For a temperature or cap that is not positive; for written rates that name an unknown task
        or group, leave one out, are negative or all 0; for a task that does not stand in exactly one group.
    """
    if config.name != "nested":
        return _normalised(_weights(sizes, config, config.name, "mixture"))
    _check_groups(sizes, config.groups)
    shares = _normalised(_written(config.groups, config.rates, "group", "mixture"))
    inside = {
        name: _normalised(
            _weights(
                {task: sizes[task] for task in group.tasks},
                group,
                group.rule,
                f"mixture.groups.{name}",
            )
        )
        for name, group in config.groups.items()
    }
    weights = {task: shares[g] * r for g, own in inside.items() for task, r in own.items()}
    return {task: weights[task] for task in sizes}


@dataclass(frozen=True)
class Schedule:
    """Shares of draws as a function of training; linear between P points, constant before the first and after the last.

    Legend: K tasks.
    """

    tasks: tuple[str, ...]
    """(K,) names."""
    at: np.ndarray
    """(P,) float64, ascending: shares of the budget."""
    rates: np.ndarray
    """(P, K) float64, each row sums to 1."""

    @classmethod
    def constant(cls, rates: Mapping[str, float]) -> Schedule:
        """The same rates, relative to each other, throughout."""
        shares = _normalised(rates)
        return cls(tuple(shares), np.zeros(1), np.array([list(shares.values())], dtype=np.float64))

    @property
    def is_constant(self) -> bool:
        """Whether there is but one point."""
        return len(self.at) == 1

    def mean(self) -> dict[str, float]:
        """The share of each task over the whole training."""
        points = np.unique(np.concatenate([self.at, np.array([0.0, 1.0])]))
        values = np.array([self.rates_at(at) for at in points.tolist()])
        means = np.trapezoid(values, points, axis=0)
        return dict(zip(self.tasks, means.tolist(), strict=True))

    def rates_at(self, progress: float) -> np.ndarray:
        """(K,) shares when ``progress`` of the budget is spent, 0 to 1."""
        if self.is_constant:
            return self.rates[0]
        columns = [np.interp(progress, self.at, column) for column in self.rates.T]
        return np.array(columns, dtype=np.float64)


def schedule(sizes: Mapping[str, int], config: MixtureConfig) -> Schedule:
    """The mixture over training: that of :func:`rates` throughout, but for what ``mixture.schedule`` says.

    One task alone is always drawn, whatever the mixture is.

    :param sizes: Training rows of each task.
    :raises UserError: As :func:`rates`, for each point; for points that do not ascend within 0 to 1.
    """
    if len(sizes) == 1:
        return Schedule.constant(dict.fromkeys(sizes, 1.0))
    points = [(float(point.at), at_point(config, point)) for point in config.schedule]
    at = [moment for moment, _ in points]
    if not all(0 <= moment <= 1 for moment in at) or at != sorted(set(at)):
        raise UserError(
            "the points of a schedule ascend within 0 to 1, the share of the budget that is spent",
            where=f"mixture.schedule, at {', '.join(map(str, at))}",
        )
    if not points or at[0] > 0:
        points.insert(0, (0.0, config))
    values = [list(rates(sizes, mixture).values()) for _, mixture in points]
    return Schedule(tuple(sizes), np.array([moment for moment, _ in points]), np.array(values))


def at_point(config: MixtureConfig, point: MixturePoint) -> MixtureConfig:
    """The mixture at one point of its schedule, by itself."""
    rule = point.rule or config.name
    inherited = config.rates if rule == config.name else {}
    return replace(
        config,
        name=rule,
        temperature=config.temperature if point.temperature is None else point.temperature,
        cap=config.cap if point.cap is None else point.cap,
        rates=inherited if point.rates is None else point.rates,
        schedule=[],
    )


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _weights(
    sizes: Mapping[str, int], config: MixtureConfig | MixtureGroup, rule: str, key: str
) -> Mapping[str, float]:
    if rule == "explicit":
        return _written(sizes, config.rates, "task", key)
    if rule == "equal":
        return dict.fromkeys(sizes, 1.0)
    return _by_size(sizes, config.cap, config.temperature if rule == "temperature" else 1.0, key)


def _by_size(
    sizes: Mapping[str, int], cap: int | None, temperature: float, key: str
) -> dict[str, float]:
    if not (temperature > 0 and math.isfinite(temperature)):
        raise UserError(
            "the temperature of a mixture is a number above 0",
            where=f"{key}.temperature={temperature}",
            hints=["1 is proportional to rows, a large one tends to equal"],
        )
    if cap is not None and cap < 1:
        raise UserError("the cap of a mixture is at least 1 row", where=f"{key}.cap={cap}")
    counted = {task: n if cap is None else min(n, cap) for task, n in sizes.items()}
    # Relative to the largest, so that a temperature near 0 does not overflow.
    largest = max(counted.values())
    return {task: (n / largest) ** (1 / temperature) for task, n in counted.items()}


def _written(
    names: Mapping[str, object], written: Mapping[str, float], kind: str, key: str
) -> dict[str, float]:
    """The rates that stand in the config, one for each name."""
    for name, rate in written.items():
        if name not in names:
            raise unknown_name(kind, name, names, where=f"{key}.rates.{name}={rate}")
        if not (rate >= 0 and math.isfinite(rate)):
            raise UserError("a rate is a number of 0 or more", where=f"{key}.rates.{name}={rate}")
    if missing := [name for name in names if name not in written]:
        raise UserError(
            f"no rate is given for {', '.join(missing)}",
            where=f"{key}.rates",
            hints=[f"give every chosen {kind} a rate; 0 leaves it out of training"],
        )
    if not any(written.values()):
        raise UserError("all rates are 0, so nothing would be trained", where=f"{key}.rates")
    return {name: float(written[name]) for name in names}


def _check_groups(tasks: Mapping[str, int], groups: Mapping[str, MixtureGroup]) -> None:
    """Each task stands in exactly one group."""
    for name, group in groups.items():
        for task in group.tasks:
            if task not in tasks:
                raise unknown_name("task", task, tasks, where=f"mixture.groups.{name}.tasks")
        if not group.tasks:
            raise UserError(
                "a group has at least one task", where=f"mixture.groups.{name}.tasks=[]"
            )
    for task in tasks:
        homes: Sequence[str] = [
            name for name, group in groups.items() for member in group.tasks if member == task
        ]
        if len(homes) != 1:
            stands = f"stands in {' and '.join(homes)}" if homes else "stands in no group"
            raise UserError(
                f"each task stands in exactly one group, '{task}' {stands}", where="mixture.groups"
            )
