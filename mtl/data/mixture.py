"""How often each task is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mtl.config.errors import UserError, unknown_name
from mtl.config.schema import MixtureConfig


def rates(sizes: Mapping[str, int], config: MixtureConfig) -> dict[str, float]:
    """The share of draws of each task; they sum to 1.

        r_k = w_k / (w_1 + ... + w_K),    w_k = min(n_k, cap) ** (1 / T)

    - n_k: training rows of task k; ``cap`` limits it before the temperature T does its work (T5 section 3.5.2).
    - ``proportional`` and ``capped``: T = 1. ``equal``: w_k = 1. ``explicit``: w_k as written in ``mixture.rates``.

    :param sizes: Training rows of each task.
    :raises UserError: For a temperature or cap that is not positive, and for explicit rates that name an
        unknown task, leave one out, are negative or all 0.
    """
    if config.name == "explicit":
        weights = _explicit(sizes, config.rates)
    elif config.name == "equal":
        weights = dict.fromkeys(sizes, 1.0)
    else:
        temperature = config.temperature if config.name == "temperature" else 1.0
        weights = _by_size(sizes, config.cap, temperature)
    total = math.fsum(weights.values())
    return {task: weight / total for task, weight in weights.items()}


def _by_size(sizes: Mapping[str, int], cap: int | None, temperature: float) -> dict[str, float]:
    if not (temperature > 0 and math.isfinite(temperature)):
        raise UserError(
            "the temperature of a mixture is a number above 0",
            where=f"mixture.temperature={temperature}",
            hints=["1 is proportional to rows, a large one tends to equal"],
        )
    if cap is not None and cap < 1:
        raise UserError("the cap of a mixture is at least 1 row", where=f"mixture.cap={cap}")
    counted = {task: n if cap is None else min(n, cap) for task, n in sizes.items()}
    # Relative to the largest, so that a temperature near 0 does not overflow.
    largest = max(counted.values())
    return {task: (n / largest) ** (1 / temperature) for task, n in counted.items()}


def _explicit(sizes: Mapping[str, int], written: Mapping[str, float]) -> dict[str, float]:
    for task, rate in written.items():
        if task not in sizes:
            raise unknown_name("task", task, sizes, where=f"mixture.rates.{task}={rate}")
        if not (rate >= 0 and math.isfinite(rate)):
            raise UserError("a rate is a number of 0 or more", where=f"mixture.rates.{task}={rate}")
    if missing := [task for task in sizes if task not in written]:
        raise UserError(
            f"no rate is given for {', '.join(missing)}",
            where="mixture.rates",
            hints=["give every chosen task a rate; 0 leaves it out of training"],
        )
    if not any(written.values()):
        raise UserError("all rates are 0, so nothing would be trained", where="mixture.rates")
    return {task: float(written[task]) for task in sizes}
