"""What a study's results amount to: the shapes of an answer. :mod:`mtl.comparing.analysis` fills them.

All differences are paired by seed: the run of an arm minus the run of the reference with the same seed. *Points* are
hundredths of a metric (for one where lower is better, signed so that more is better); *normalised points* are
hundredths of the scale on which chance is 0 and perfect is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["better", "worse", "undecided"]
"""A claim needs both: an interval that excludes 0 and a corrected p below the level. Anything else is undecided."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its 95 % interval over seeds; the ends are None where there are too few seeds for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An arm on a task, or on the average over tasks."""

    arm: str
    task: str
    """A task's name, or ``average``."""
    metric: str
    """The primary metric."""
    chance: float | None
    lower_is_better: bool
    by_seed: dict[int, float]
    """Score of each finished run, in the metric's own unit."""
    mean: Interval
    """BCa bootstrap over seeds."""
    deviation: float | None
    """Standard deviation over seeds, with one degree of freedom taken; None for one seed."""
    own_checkpoint: Interval | None = None
    """Mean where each task is scored at the checkpoint that was best for it; None where that was not measured."""


@dataclass(frozen=True)
class Unequal:
    """Something that an arm and its reference do not have alike."""

    what: str
    """A budget's name; or, where there is no number to it, all there is to say."""
    ours: float | None = None
    theirs: float | None = None

    @property
    def times(self) -> float | None:
        """Ours in theirs; None where there is no number, or one of them is 0."""
        return self.ours / self.theirs if self.ours and self.theirs else None

    @property
    def size(self) -> str:
        """How much, in words; empty where there is no number."""
        if self.ours is None or self.theirs is None:
            return ""
        if self.times is None:
            return f"{self.ours:,.0f} against {self.theirs:,.0f}"
        return f"{self.times:.2f} times"

    def __str__(self) -> str:
        return f"{self.what}: {self.size}" if self.size else self.what


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm against the reference on a task, or on the average; both of one panel, since a score that saw no label is
    never subtracted from one that did."""

    arm: str
    reference: str
    task: str
    seeds: list[int]
    """Seeds that both finished."""
    by_seed: dict[int, float]
    """Points, more is better."""
    points: Interval
    """Mean paired difference with its BCa interval, in points."""
    normalised: Interval | None
    """The same in chance-normalised points; None where chance is not known."""
    relative: float | None
    """Mean paired relative change against the reference's score, in percent; None where it would mislead."""
    relative_why: str | None
    """Why there is no relative change: the reference lies at or near chance, so that the quotient explodes."""
    p: float | None
    """Two-sided paired sign-flip permutation test; None for one seed."""
    p_holm: float | None
    """After Holm's correction over all comparisons of the study's page (arms x tasks, averages apart from tasks)."""
    smallest_p: float | None
    """The smallest p that this many seeds can give."""
    smallest_p_holm: float | None = None
    """The same after the correction: with all comparisons of its family at the smallest p of their seeds."""
    effect: float | None
    """Mean difference in standard deviations of the reference's own scores over seeds."""
    verdict: Verdict
    verdict_why: str
    """In words: which of interval and test did not hold, or that both did."""
    unequal: list[Unequal] = field(default_factory=list)
    """Budgets in which the two differ by more than the tolerance."""

    @property
    def why(self) -> str:
        """What the verdict rests on and what was not equal, in words."""
        return "; ".join([self.verdict_why, *map(str, self.unequal)])


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Means over an arm's finished runs, from their ledgers."""

    tokens: float
    pretraining_tokens: float
    flops: float
    backward_passes: float
    steps: float
    seconds: float
    peak_memory_bytes: float
    parameters_shared: float
    parameters_per_task: float
    """Summed over tasks."""
    parameters_total: float
    tuning_tokens: float
    """Tokens of the arm's search, of all trials together."""
    tuning_trials: int
    """Those that have ended."""
    pretraining_flops: float = 0.0
    """Of the run's own language-model stage."""
    pretraining_seconds: float = 0.0

    def whole(self, name: str) -> float:
        """A cost with what was spent before the tasks: ``tokens``, ``flops`` and ``seconds`` count pretraining in."""
        value: float = getattr(self, name) + getattr(self, f"pretraining_{name}", 0.0)
        return value


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An arm's row in the leaderboard."""

    arm: str
    role: str
    panel: Literal["supervised", "zero-shot"]
    place: tuple[str, ...] = ()
    """Its level on each of the study's axes: where arms are compared."""
    seeds: int
    """Finished runs."""
    average: Interval
    """The study's primary metric, mean over seeds."""
    own_checkpoint: Interval | None
    """The same with the best checkpoint for each task."""
    interquartile_mean: Interval | None
    """Over runs x tasks of the normalised scores, with a bootstrap stratified by task (Agarwal 2021)."""
    probability_of_improvement: Interval | None
    """P(a run of the arm beats a run of the reference), mean over tasks; None for the reference."""
    cost: Cost
    comparison: Comparison | None
    """Against the reference, on the primary metric."""
    efficient: dict[str, bool]
    """Cost (``tokens``, ``flops``, ``seconds``, ``parameters_total``), pretraining counted in, to whether no other arm
    of the panel with the same tasks scores at least as high at no higher cost and is better in one of the two."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How much a target task changes when a helper is trained beside it."""

    family: str = ""
    """Of the arms: a study may ask it of several ways of learning."""
    helper: str
    target: str
    points: Interval
    """Paired by seed, in points; more is better."""
    p: float | None
    p_holm: float | None
    verdict: Verdict
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Mean of a gradient diagnostic between two tasks over an arm's runs."""

    arm: str
    first: str
    second: str
    measure: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How much of a task an arm trained on, mean over its runs."""

    arm: str
    task: str
    planned: float
    """Share of draws."""
    share: float
    """Share of rows that were drawn."""
    tokens: float
    passes: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Everything a page about a study says."""

    sentence: str
    """The answer in one sentence, no stronger than the evidence."""
    standings: list[Standing]
    """Supervised before zero-shot; in each panel by place on the study's axes; best first there."""
    cells: list[Cell]
    comparisons: list[Comparison]
    """Each arm against the reference: per task, and ``average``."""
    transfers: list[Transfer]
    conflicts: list[Conflict]
    exposures: list[Exposure]
    expected_best: dict[str, list[tuple[int, float]]]
    """Arm to (trials, expected best selection score after so many), Dodge et al. 2019."""
    level: float
    """Of the tests."""
    smallest_p: float | None
    needed_seeds: int | None
    """Seeds from which a comparison of the arms on the study's own measure (or an effect of a transfer matrix) could
    become significant after Holm's correction at all."""
    notes: list[str]
    """What a reader must know before believing it: unfinished runs, unequal budgets, seeds too few, unequal tuning."""

    def cell(self, arm: str, task: str) -> Cell | None:
        """The score of an arm on a task, or None."""
        return next((c for c in self.cells if (c.arm, c.task) == (arm, task)), None)
