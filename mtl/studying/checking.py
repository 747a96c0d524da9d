"""Everything that can be wrong with a study, said before its first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mtl.config.check import check_config
from mtl.config.complete import strategy_keys
from mtl.config.composition import Composition
from mtl.config.errors import UserError, raise_all, unknown_name
from mtl.config.keys import find, members
from mtl.config.schema import FitConfig
from mtl.config.study_schema import RangeConfig, StudyConfig
from mtl.studying.plan import Plan, PlannedArm, common_settings
from mtl.studying.settings import key, with_runs, written

OURS = {
    "seed": "a study has several: study.seeds=[0,1,2]",
    "run_dir": "the folder of a study: study_dir=DIR",
    "resume": "the same command goes on with a study where it stopped",
    "evaluation.split": "a search is scored on the selection split, its result on the reported one",
    "record.experiment": "it is named after the study: study.name=NAME",
}
"""Settings that the study itself gives to its runs, and what to write instead."""


class Checker:
    """Composes the configs of a study's runs.

    :param config_dir: A folder of the person's with further configs.
    """

    def __init__(self, config: StudyConfig, *, config_dir: str | None = None):
        self.config = config
        self.composition = Composition("fit", config_dir=config_dir)

    def compose(self, settings: Sequence[str], place: str) -> FitConfig:
        """The config that ``mtl.fit`` would run with these settings.

        :param place: Where they were written, for messages.
        """
        settings = with_runs(settings, lambda arm: f"runs/{arm}")
        instance = check_config(self.composition, FitConfig, settings, place=place).instance
        assert isinstance(instance, FitConfig)
        return instance

    def tasks(self) -> list[str]:
        """The tasks of the study's runs: those of its settings.

        :raises UserError: a mistake in the command line's settings, or in the study's.
        """
        given = list(self.config.settings)
        self.compose(given, "command line")
        for setting in given:
            if (hint := OURS.get(key(setting))) is not None:
                raise UserError(
                    f"{key(setting)} is not for a study",
                    where=f"command line: {setting}",
                    hints=[hint],
                )
        place = f"settings of study {self.config.study.name}"
        return list(self.compose(common_settings(self.config), place).tasks)

    def check(self, plan: Plan) -> dict[str, FitConfig]:
        """The config of every arm, search and seed aside.

        :raises UserError: with all mistakes in one message.
        """
        errors: list[UserError] = [*self._given(plan), *self._ranges(plan)]
        raise_all(errors)
        configs = {}
        for arm in plan.arms.values():
            try:
                configs[arm.name] = self._arm(arm)
            except UserError as error:
                errors.append(error)
        raise_all(errors)
        raise_all(list(_seeds(self.config, plan)))
        for arm in plan.arms.values():
            errors += self._metric(arm, configs[arm.name])
        raise_all(errors)
        self._space(plan)
        return configs

    def _arm(self, arm: PlannedArm) -> FitConfig:
        config = self.compose(arm.settings, f"study {self.config.study.name}, arm {arm.name}")
        trainer = config.trainer
        if trainer.devices != 1 or trainer.nodes != 1:
            raise UserError(
                "the runs of a study train on one device each",
                where=f"trainer.devices={trainer.devices} trainer.nodes={trainer.nodes}",
                hints=[
                    "trainer.devices=1 trainer.nodes=1; more workers train more runs at once: workers=N"
                ],
            )
        return config

    def _given(self, plan: Plan) -> Iterator[UserError]:
        """A setting given for all runs must not be one that tells them apart."""
        for setting in self.config.settings:
            name = key(setting)
            arms = [
                arm.name
                for arm in plan.arms.values()
                # The budget of a task alone follows from the one that is given.
                if name in map(key, arm.own) and not (name == "budget" and arm.role == "baseline")
            ]
            if arms:
                yield UserError(
                    f"{name} distinguishes the arms of the study '{self.config.study.name}'",
                    where=f"command line: {setting}",
                    hints=[f"set by: {', '.join(arms[:8])}"],
                )
            if any(name in arm.space for arm in plan.arms.values()):
                yield UserError(
                    f"{name} is searched by the study '{self.config.study.name}'",
                    where=f"command line: {setting}",
                    hints=["without a search: study.search.trials=0"],
                )

    def _ranges(self, plan: Plan) -> Iterator[UserError]:
        seen = set()
        for arm in plan.arms.values():
            for name, found in arm.space.items():
                if (name, repr(found)) not in seen:
                    seen.add((name, repr(found)))
                    where = f"study.search.space.{name}"
                    if name not in self.config.study.search.space:
                        where = f"study.arms.{arm.family}.space.{name}"
                    yield from _range(found, where)

    def _metric(self, arm: PlannedArm, config: FitConfig) -> Iterator[UserError]:
        wanted = self.config.study.metric
        if wanted == "average" or arm.role == "source":
            return
        task, _, metric = wanted.rpartition("/")
        known = [f"{name}/{m}" for name in config.tasks for m in config.task[name].metrics]
        if f"{task}/{metric}" not in known:
            yield unknown_name(
                "metric", wanted, ["average", *known], where=f"study.metric={wanted}"
            )

    def _space(self, plan: Plan) -> None:
        """Compose the ends of every range once, for the first arm that searches it."""
        left = {(n, repr(r)) for arm in plan.arms.values() for n, r in arm.space.items()}
        errors: list[UserError] = []
        for arm in plan.arms.values():
            fresh = {n: r for n, r in arm.space.items() if (n, repr(r)) in left}
            left -= {(n, repr(r)) for n, r in fresh.items()}
            for values in _corners(fresh):
                chosen = [f"{name}={written(value)}" for name, value in values.items()]
                try:
                    self.compose([*arm.settings, *chosen], f"search space of arm {arm.name}")
                except UserError as error:
                    errors.append(error)
                    break  # what is wrong with the name is wrong at the other end too
        raise_all(errors)


def whole_numbers(name: str, strategy: str) -> bool:
    """Whether a setting takes whole numbers only."""
    own = {key.name: key for key in strategy_keys(strategy)}
    found = own.get(name) or find(FitConfig, name.split("."))
    kinds = set(members(found.type)) - {type(None)} if found is not None else set()
    return int in kinds and float not in kinds


def _corners(space: Mapping[str, RangeConfig]) -> Iterator[dict[str, object]]:
    """All lower ends together, all upper ends together, and every choice."""
    if not space:
        return
    ends = {
        name: r.choices if r.choices is not None else [_plain(r.low), _plain(r.high)]
        for name, r in space.items()
    }
    for position in range(max(map(len, ends.values()))):
        yield {name: values[min(position, len(values) - 1)] for name, values in ends.items()}


def _plain(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() else value


def _range(found: RangeConfig, where: str) -> Iterator[UserError]:
    ends = "a range has low and high, or choices: {low: 1e-4, high: 1e-2, log: true}"
    if found.choices is not None:
        if found.low is not None or found.high is not None or found.step or found.log:
            yield UserError("choices stand alone", where=where, hints=[ends])
        elif not found.choices:
            yield UserError("the range is empty: it has no choices", where=where, hints=[ends])
        return
    if found.low is None or found.high is None:
        yield UserError("the range has no ends", where=where, hints=[ends])
    elif found.low >= found.high:
        yield UserError(
            f"the range is empty: low {found.low:g} is not below high {found.high:g}", where=where
        )
    elif found.log and found.low <= 0:
        yield UserError(f"a logarithmic range begins above 0, found low {found.low:g}", where=where)
    elif found.log and found.step is not None:
        yield UserError("a logarithmic range has no step", where=where)


def _seeds(config: StudyConfig, plan: Plan) -> Iterator[UserError]:
    where = f"study.seeds={plan.seeds}"
    if not plan.seeds:
        yield UserError("a study needs a seed", where=where)
    if len(set(plan.seeds)) < len(plan.seeds):
        yield UserError("a seed stands twice", where=where)
    if config.study.search.seed in plan.seeds and plan.trials:
        yield UserError(
            "the seed of the search is one of those that are reported",
            where=f"study.search.seed={config.study.search.seed}",
        )
