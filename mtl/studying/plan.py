"""What a study consists of: its arms at every level of its axes, and the runs they need."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mtl.comparing.results import Role
from mtl.config.errors import UserError, unknown_name
from mtl.config.study_schema import (
    ArmConfig,
    BaselineConfig,
    RangeConfig,
    SizeConfig,
    StudyConfig,
    StudyDefinition,
)
from mtl.studying.settings import key, merged, runs_named

BUDGETS = {
    "divided": "budget.each=divided",
    "same_exposure": "budget.like={arm}",
    "whole": "budget.each=whole",
}
"""The three budgets of a task alone, in the order in which they are run."""


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """An arm at one level of each axis."""

    name: str
    family: str
    role: Role
    settings: list[str]
    """Everything but seed, search and folder, in the order in which later ones win."""
    own: list[str]
    """What distinguishes the arm from the others."""
    factors: dict[str, str] = field(default_factory=dict)
    tuned_as: str | None = None
    space: dict[str, RangeConfig] = field(default_factory=dict)
    """Of all arms and of this one; empty where nothing is searched."""
    begins_from: list[str] = field(default_factory=list)
    """Arms whose run of the same seed must be finished first."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study."""

    kind: Literal["trial", "run"]
    arm: str
    number: int
    """Index of a trial, or seed of a run."""

    @property
    def name(self) -> str:
        """Names the job in the storage and its folder in the study."""
        if self.kind == "trial":
            return f"tuning/{self.arm}/{self.number:03d}"
        return f"runs/{self.arm}/seed{self.number}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All arms, and how many runs each has."""

    arms: dict[str, PlannedArm]
    seeds: list[int]
    search_seed: int
    """Seed of every trial, none of ``seeds``."""
    trials: int
    reference: str | None
    tasks: list[str]
    """Tasks of the study, in order."""
    axes: dict[str, list[str]]
    """Axis to its levels in order."""

    def jobs(self) -> Iterator[Job]:
        """Every run in the order in which one worker takes them: searches first, by turns over the arms."""
        tuned = [arm.name for arm in self.arms.values() if self.trials_of(arm)]
        for index, name in itertools.product(range(self.trials), tuned):
            yield Job(kind="trial", arm=name, number=index)
        for name in self._begun_from(tuned):
            yield Job(kind="run", arm=name, number=self.search_seed)
        for seed, name in itertools.product(self.seeds, self.arms):
            yield Job(kind="run", arm=name, number=seed)

    def seed_of(self, job: Job) -> int:
        """The seed a job is run under."""
        return job.number if job.kind == "run" else self.search_seed

    def is_search(self, job: Job) -> bool:
        """Whether a job belongs to the search: a trial, or a run that trials begin from."""
        return self.seed_of(job) not in self.seeds

    def _begun_from(self, names: Sequence[str]) -> list[str]:
        """The arms whose runs some arms begin from, and whose runs those begin from."""
        found: dict[str, None] = {}
        waiting = list(names)
        while waiting:
            named = self.arms[waiting.pop(0)].begins_from
            waiting += [name for name in named if name not in found]
            found.update(dict.fromkeys(named))
        return list(found)

    def trials_of(self, arm: PlannedArm) -> int:
        """Runs of an arm's own search."""
        return self.trials if arm.space and arm.tuned_as is None else 0


def size_of(config: StudyConfig) -> SizeConfig:
    """What is different at the size that was asked for; nothing in a small study."""
    return config.study.full if config.size == "full" else SizeConfig()


def common_settings(config: StudyConfig) -> list[str]:
    """What all runs have: the study's settings, those of its size, and those of the command line."""
    return merged(config.study.settings, size_of(config).settings, config.settings)


def make_plan(config: StudyConfig, tasks: Sequence[str]) -> Plan:
    """The arms of a study.

    :param tasks: Tasks of the study's runs, for arms that are ``over`` tasks or pairs of them.
    :raises UserError: an arm that another one names and that does not exist, or a name that is taken twice.
    """
    study, size = config.study, size_of(config)
    trials = study.search.trials if size.trials is None else size.trials
    seeds = study.seeds if size.seeds is None else size.seeds
    arms: dict[str, PlannedArm] = {}
    axes = _axes(study, size)
    for arm in _Expansion(config, tasks, axes, trials).arms():
        if arm.name in arms:
            raise UserError(f"two arms are named '{arm.name}'", where="study.arms")
        arms[arm.name] = arm
    reference = study.reference
    if reference is None and study.baseline is not None:
        forms = study.baseline.forms
        form = "same_exposure" if "same_exposure" in forms else forms[0]
        reference = _baseline_family(study.baseline, form)
    _check_names(study, arms, reference)
    return Plan(
        arms=arms,
        seeds=seeds,
        search_seed=study.search.seed,
        trials=trials,
        reference=reference,
        tasks=list(tasks),
        axes={name: list(levels) for name, levels in axes.items()},
    )


class _Expansion:
    """Arms of a study file to arms that are run."""

    def __init__(
        self,
        config: StudyConfig,
        tasks: Sequence[str],
        axes: Mapping[str, Mapping[str, list[str]]],
        trials: int,
    ):
        self.study = config.study
        self.common = common_settings(config)
        self.tasks = tasks
        self.searched = trials > 0
        self.levels = list(_levels(axes))

    def arms(self) -> Iterator[PlannedArm]:
        """Every arm of the file, then the baseline's."""
        for family, arm in self.study.arms.items():
            role: Role = "source" if arm.source else "arm"
            if arm.over is not None:
                yield from self._over_tasks(family, arm, role)
                continue
            for factors, settings in [({}, [])] if arm.source else self.levels:
                yield self._planned(family, arm, role, factors, merged(settings, arm.settings))
        if self.study.baseline is not None:
            yield from self._baseline(self.study.baseline)

    def _over_tasks(self, family: str, arm: ArmConfig, role: Role) -> Iterator[PlannedArm]:
        assert arm.over is not None
        sizes = (1,) if arm.over == "tasks" else (1, 2)
        for together in (t for size in sizes for t in itertools.combinations(self.tasks, size)):
            own = merged(arm.settings, [f"tasks=[{','.join(together)}]"])
            yield self._planned(family, arm, role, {arm.over: "+".join(together)}, own)

    def _baseline(self, baseline: BaselineConfig) -> Iterator[PlannedArm]:
        """Every task alone, in its forms; ``whole``, whose trials would cost most, takes the first one's settings
        over."""
        forms = [form for form in BUDGETS if form in baseline.forms]
        for form in forms:
            family = _baseline_family(baseline, form)
            for factors, settings in self.levels:
                level = "".join(f"/{level}" for level in factors.values())
                budget = BUDGETS[form].format(arm=f"{{run:{baseline.exposure}{level}}}")
                own = merged(settings, baseline.settings, [budget])
                tuned_as = None
                if form == "whole" and form != forms[0]:
                    tuned_as = f"{_baseline_family(baseline, forms[0])}{level}"
                arm = ArmConfig(tuned_as=tuned_as)
                yield self._planned(family, arm, "baseline", factors, own)

    def _planned(
        self, family: str, arm: ArmConfig, role: Role, factors: Mapping[str, str], own: list[str]
    ) -> PlannedArm:
        searched = self.searched and arm.tuned_as is None
        return PlannedArm(
            name="/".join([family, *factors.values()]),
            family=family,
            role=role,
            settings=merged(self.common, own),
            own=own,
            factors=dict(factors),
            tuned_as=arm.tuned_as,
            space={**self.study.search.space, **arm.space} if searched else {},
            begins_from=runs_named(own),
        )


def _baseline_family(baseline: BaselineConfig, form: str) -> str:
    """``<strategy>_<form>``."""
    chosen = [text.partition("=")[2] for text in baseline.settings if key(text) == "strategy"]
    return "_".join([*chosen[-1:], form])


def _axes(study: StudyDefinition, size: SizeConfig) -> dict[str, dict[str, list[str]]]:
    """The study's axes, with the further levels that it has at a size."""
    names = dict.fromkeys([*study.axes, *size.axes])
    return {name: {**study.axes.get(name, {}), **size.axes.get(name, {})} for name in names}


def _levels(
    axes: Mapping[str, Mapping[str, list[str]]],
) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Every combination of levels of the axes, with its settings; one without any where there is no axis."""
    levels = [[(name, level) for level in by_level] for name, by_level in axes.items()]
    for chosen in itertools.product(*levels):
        yield dict(chosen), merged(*(axes[axis][level] for axis, level in chosen))


def _check_names(
    study: StudyDefinition, arms: Mapping[str, PlannedArm], reference: str | None
) -> None:
    def check(name: str | None, where: str) -> None:
        if name is not None and name not in arms:
            raise unknown_name("arm", name, arms, where=where)

    if study.baseline is not None and study.baseline.exposure not in {
        *arms,
        *(arm.family for arm in arms.values()),
    }:
        raise unknown_name(
            "arm",
            study.baseline.exposure,
            study.arms,
            where=f"study.baseline.exposure={study.baseline.exposure}",
        )
    if reference not in {arm.family for arm in arms.values()}:
        check(reference, f"study.reference={reference}")
    for arm in arms.values():
        check(arm.tuned_as, f"study.arms.{arm.family}.tuned_as={arm.tuned_as}")
        for name in arm.begins_from:
            check(name, f"study.arms.{arm.family}.settings: {{run:{name}}}")
    _check_order(arms)


def _check_order(arms: Mapping[str, PlannedArm]) -> None:
    """No arm may wait for itself."""
    for start in arms:
        waiting, seen = list(arms[start].begins_from), set()
        while waiting:
            name = waiting.pop()
            if name == start:
                raise UserError(
                    f"arm '{start}' begins from a run that begins from it",
                    where=f"study.arms.{arms[start].family}.settings",
                )
            if name not in seen:
                seen.add(name)
                waiting += arms[name].begins_from
