"""How far a training is when an epoch of a mixture's schedule begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mtl.config.schema import BudgetConfig

EPOCHS = 64
"""Epochs of a whole training under a schedule; the rates change from one to the next."""
FEWEST_EPOCHS = 8
STEPS_PER_TASK = 4
"""An epoch has about as many steps for each task, so that ``one_task`` batches are not cut short; only a budget that
would then have fewer than the fewest epochs gets shorter ones."""


@dataclass(frozen=True)
class Pacing:
    """A budget divided into epochs of equally many draws. Made by :func:`pacing`."""

    unit: Literal["tokens", "steps", "epochs"]
    limit: float
    """Size of the budget in its unit."""
    share: float
    """About the share of the budget that is one epoch."""
    draws: int
    """Draws of an epoch."""
    pass_draws: int
    """As many draws as there are training rows: what a budget calls an epoch."""

    def middle(self, number: int, steps: int, tokens: int) -> float:
        """The share of the budget that is spent in the middle of epoch ``number``.

        :param steps: Steps before the epoch.
        :param tokens: Tokens before the epoch.
        """
        epochs = number * self.draws / self.pass_draws
        done = {"tokens": float(tokens), "steps": float(steps), "epochs": epochs}
        return done[self.unit] / self.limit + self.share / 2


def pacing(
    budget: BudgetConfig | None,
    *,
    tasks: int,
    draw_tokens: float,
    pass_draws: int,
    batch_tokens: int,
) -> Pacing:
    """Divide a budget into epochs.

    :param budget: Exactly one of its tokens, steps and epochs is given.
    :param tasks: Tasks that are drawn.
    :param draw_tokens: Tokens of a draw, on average.
    :param pass_draws: Training rows of all these tasks.
    :param batch_tokens: Tokens of a step.
    """
    units: tuple[Literal["tokens", "steps", "epochs"], ...] = ("tokens", "steps", "epochs")
    given = [(u, float(v)) for u in units if (v := getattr(budget, u, None)) is not None]
    if len(given) != 1:
        raise ValueError("A schedule should have one budget to be a share of.")
    ((unit, limit),) = given
    expected = {
        "tokens": limit / draw_tokens,
        "steps": limit * batch_tokens / draw_tokens,
        "epochs": limit * pass_draws,
    }[unit]
    room = STEPS_PER_TASK * tasks * batch_tokens / draw_tokens
    share = min(max(1 / EPOCHS, room / expected), 1 / FEWEST_EPOCHS)
    return Pacing(unit, limit, share, max(1, round(expected * share)), pass_draws)
