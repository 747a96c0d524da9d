"""An arm's search as a pure function of its seed and of the results so far.

Optuna draws the values. Its samplers and pruners keep a state, and their draws depend on which trials have ended;
so the search is replayed from its first trial whenever a value is drawn. The same results then give the same
values on every machine, after every interruption, and whatever the number of workers.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mtl.config.errors import UserError
from mtl.config.study_schema import RangeConfig, SearchConfig
from mtl.studying.settings import written

STARTUP_TRIALS = 5
"""Trials that the median pruner waits for, and TPE draws at random, before they heed the others."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial that is over."""

    index: int
    parameters: dict[str, Any]
    values: list[float] | None
    """One for each objective; None where it was pruned or failed."""
    pruned: bool = False
    intermediate: dict[int, float] = field(default_factory=dict)
    """Step to what selects, for pruners."""


class Search:
    """The search of one arm.

    :param arm: Name of the arm, which with the search's seed fixes what is drawn.
    :param space: Setting to range, in the order in which values are drawn.
    :param whole: Settings that take whole numbers only.
    :param trials: Runs of the whole search.
    """

    def __init__(
        self,
        arm: str,
        config: SearchConfig,
        space: Mapping[str, RangeConfig],
        *,
        whole: frozenset[str],
        trials: int,
    ):
        self.arm = arm
        self.config = config
        self.trials = trials
        self._space = dict(space)
        self._whole = whole

    @cached_property
    def distributions(self) -> dict[str, Any]:
        """Setting to Optuna's distribution; the ranges must have been checked."""
        return {
            name: _distribution(found, whole=name in self._whole)
            for name, found in self._space.items()
        }

    def begins_after(self, index: int) -> int:
        """How many trials must have ended before one is drawn: those of the batches before its own."""
        return index // self.config.parallel * self.config.parallel

    def draw(self, index: int, ended: Sequence[Ended]) -> dict[str, Any]:
        """The values of a trial.

        :param ended: At least the trials before its batch; later ones change nothing.
        """
        _, trials = self._replayed(index, ended)
        return dict(trials[-1].params)

    def should_stop(
        self, index: int, ended: Sequence[Ended], reported: Mapping[int, float]
    ) -> bool:
        """Whether a trial has fallen so far behind the ones before its batch that it is stopped.

        :param reported: Step to what selects, of this trial so far.
        """
        if self.config.pruner == "none" or self.config.objectives:
            return False
        _, trials = self._replayed(index, ended)
        for step, value in sorted(reported.items()):
            trials[-1].report(value, step)
        return bool(trials[-1].should_prune())

    def _replayed(self, index: int, ended: Sequence[Ended]) -> tuple[Any, list[Any]]:
        """The search up to the trial of that index, which has its values and is running."""
        import optuna

        by_index = {trial.index: trial for trial in ended}
        size = self.config.parallel
        with _quiet():
            study = optuna.create_study(
                directions=["maximize", *("minimize" for _ in self.config.objectives)],
                sampler=self._sampler(),
                pruner=self._pruner(),
                study_name=self.arm,
            )
            for first in range(0, index + 1, size):
                trials = [self._ask(study) for _ in range(first, min(first + size, index + 1))]
                if index < first + size:
                    return study, trials
                for position, trial in enumerate(trials, start=first):
                    self._tell(study, trial, by_index[position])
        raise AssertionError("the batches reach the index")

    def _ask(self, study: Any) -> Any:
        trial = study.ask()
        for name, distribution in self.distributions.items():
            trial._suggest(name, distribution)
        return trial

    def _tell(self, study: Any, trial: Any, ended: Ended) -> None:
        from optuna.trial import TrialState

        drawn = {name: written(value) for name, value in trial.params.items()}
        found = {name: written(value) for name, value in ended.parameters.items()}
        if drawn != found:
            raise UserError(
                f"the search of arm '{self.arm}' was begun with another version: trial {ended.index} is drawn anew "
                f"as {drawn}, was {found}",
                hints=[
                    "install the version that began it, or begin again in another folder: study_dir=DIR"
                ],
            )
        for step, value in sorted(ended.intermediate.items()):
            if not self.config.objectives:
                trial.report(value, step)
        if ended.values is not None:
            study.tell(trial, ended.values)
        else:
            study.tell(trial, state=TrialState.PRUNED if ended.pruned else TrialState.FAIL)

    def _sampler(self) -> Any:
        from optuna import samplers

        digest = hashlib.sha256(f"{self.config.seed}/{self.arm}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        match self.config.sampler:
            case "tpe":
                return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
            case "gp":
                return samplers.GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
            case "random":
                return samplers.RandomSampler(seed=seed)
            case "grid":
                return samplers.GridSampler(self.grid(), seed=seed)
            case "cmaes":
                return samplers.CmaEsSampler(seed=seed)
            case "nsga2":
                return samplers.NSGAIISampler(seed=seed, population_size=max(2, self.trials // 4))

    def _pruner(self) -> Any:
        from optuna import pruners

        match self.config.pruner:
            case "none":
                return pruners.NopPruner()
            case "median":
                return pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
            case "hyperband":
                return pruners.HyperbandPruner()

    def grid(self) -> dict[str, list[Any]]:
        """Every value of each setting, for a grid.

        :raises UserError: a range without steps.
        """
        found = {}
        for name, distribution in self.distributions.items():
            if hasattr(distribution, "choices"):
                found[name] = list(distribution.choices)
                continue
            if distribution.step is None:
                raise UserError(
                    f"a grid needs the steps of {name}",
                    where=f"study.search.space.{name}",
                    hints=["{low: 0.1, high: 0.5, step: 0.1}, or {choices: [0.1, 0.3]}"],
                )
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            found[name] = [
                type(distribution.low)(distribution.low + position * distribution.step)
                for position in range(count)
            ]
        return found


def check_search(search: Search) -> None:
    """Refuse a sampler that cannot search the space.

    :raises UserError: a grid without steps or with fewer points than trials, choices for ``cmaes``, several objectives
        for a sampler or a pruner that knows only one.
    """
    config = search.config
    chosen = f"study.search.sampler={config.sampler}"
    if config.sampler == "grid":
        points = 1
        for values in search.grid().values():
            points *= len(values)
        if points < search.trials:
            raise UserError(
                f"the grid of arm '{search.arm}' has {points} points, fewer than {search.trials} trials",
                where=chosen,
                hints=[f"study.search.trials={points}"],
            )
    choices = [name for name, d in search.distributions.items() if hasattr(d, "choices")]
    if config.sampler == "cmaes" and choices:
        raise UserError(
            f"cmaes searches numbers, and {choices[0]} has choices",
            where=chosen,
            hints=["study.search.sampler=tpe"],
        )
    if config.objectives and config.sampler == "cmaes":
        raise UserError(
            "cmaes has one objective", where=chosen, hints=["study.search.sampler=nsga2"]
        )
    if config.objectives and config.pruner != "none":
        raise UserError(
            "a search with several objectives cannot stop runs early",
            where=f"study.search.pruner={config.pruner}",
            hints=["study.search.pruner=none"],
        )


def _distribution(found: RangeConfig, *, whole: bool) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if found.choices is not None:
        return CategoricalDistribution(found.choices)
    assert found.low is not None
    assert found.high is not None
    if whole:
        step = 1 if found.step is None else int(found.step)
        return IntDistribution(int(found.low), int(found.high), log=found.log, step=step)
    return FloatDistribution(found.low, found.high, log=found.log, step=found.step)


class _quiet:  # noqa: N801  (used like a function)
    """Optuna says nothing of what it does, nor that a sampler may change in a later release."""

    def __enter__(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

    def __exit__(self, *error: Any) -> None:
        self._caught.__exit__(*error)
