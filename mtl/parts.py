"""The trainings a run consists of: one for all tasks, or one for each, every one with its plan and its budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtl.assembly import (
    Loaded,
    each_alone,
    encode_split,
    load_data,
    make_model,
    make_strategy,
    make_vocabulary,
    pretraining_tokens,
)
from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.schema import BudgetConfig, FitConfig, OptimizerConfig
from mtl.data.grouping import make_plan
from mtl.data.loader import Budgeted, planned_totals
from mtl.data.mixture import Schedule, schedule
from mtl.data.plan import Plan
from mtl.data.replay import Replay
from mtl.data.store import EncodedSplit
from mtl.learning.copies import Copies
from mtl.learning.strategy import Stage, Strategy
from mtl.record.folder import RunFolder
from mtl.record.summary import read_summary
from mtl.starting import Start, base_decoder
from mtl.tasks.task import Task


@dataclass
class Part:
    """One training of a run."""

    name: str
    """``<stage>`` or ``<stage>.<task>``; empty where the run is this one training."""
    strategy: Strategy
    """The model that is trained."""
    source: Part | None
    """The training before, whose weights this one begins with."""
    stores: list[EncodedSplit]
    """Encoded training rows of each of the strategy's tasks."""
    rates: dict[str, float]
    """Planned share of draws of each task."""
    plan: Plan | Replay
    budgeted: Budgeted
    shares: np.ndarray
    """(steps,) share of the learning rate's schedule that is over after each step."""
    optimizer: OptimizerConfig
    budget: str
    """How the part's budget was found: ``whole``, ``divided``, ``like``, or ``shared`` by all tasks."""

    def folder(self, run: RunFolder) -> Path:
        """Where its checkpoints lie."""
        return run.path / "checkpoints" / self.name


@dataclass(frozen=True)
class Trainings:
    """All parts of a run in their order, and the model they end in."""

    model: Strategy
    parts: list[Part]
    final: list[Part]
    """The parts that made the model."""

    @property
    def several(self) -> bool:
        """Whether the model's checkpoint is put together from those of its parts."""
        return bool(self.parts[-1].name)

    @property
    def tokens(self) -> int:
        """Tokens of all parts."""
        return sum(part.budgeted.tokens for part in self.parts)

    @property
    def steps(self) -> int:
        """Optimizer steps of all parts."""
        return sum(part.budgeted.steps for part in self.parts)


def trainings(config: FitConfig, loaded: Loaded, start: Start) -> Trainings:
    """Build every model of the run, encode its rows and plan its steps. Nothing is trained.

    :raises UserError: A budget or a mixture that cannot be.
    """
    strategy = make_strategy(config)
    vocabulary = start.base.with_special(strategy.special_tokens(loaded.trained))

    def build(one: Strategy, tasks: Sequence[Task]) -> None:
        start.build(one, tasks, vocabulary)

    stages = strategy.stages()
    budget = _budget_left(config, strategy)
    if config.budget.like is not None and (len(stages) > 1 or not each_alone(strategy)):
        raise UserError(
            f"strategy '{config.strategy['name']}' trains tasks together; to repeat what each task of a run got is "
            "for strategies that train every task alone",
            where=f"budget.like={config.budget.like}",
            hints=["give budget.tokens"],
        )
    parts: list[Part] = []
    if not stages[0].each:
        build(strategy, loaded.trained)
    for stage in (stage for stage in stages if not stage.each):
        name = stage.name if len(stages) > 1 else ""
        parts.append(_together(config, stage, budget, strategy, name, after=parts))
    if not stages[-1].each:
        return Trainings(strategy, parts, parts[-1:])
    model = make_model(config, loaded.trained, build)
    assert isinstance(model, Copies)
    final = list(_alone(config, stages[-1], budget, model, after=parts))
    return Trainings(model, parts + final, final)


def stores_of(strategy: Strategy, config: FitConfig) -> list[EncodedSplit]:
    """The encoded training rows of a built strategy's tasks."""
    return [
        encode_split(strategy, task, task.train, "train", config.data)
        for task in strategy.tasks
        if task.train is not None
    ]


def shared_plan(
    config: FitConfig, strategy: Strategy, stores: Sequence[EncodedSplit], budget: BudgetConfig
) -> tuple[Plan, dict[str, float]]:
    """The plan that deals the rows of all of a strategy's tasks, and each task's share of draws over the budget."""
    sizes = {task.name: len(store) for task, store in zip(strategy.tasks, stores, strict=True)}
    own = strategy.rates(sizes)
    mixed = schedule(sizes, config.mixture)
    if own is not None:
        _check_mixture(config)
        mixed = Schedule.constant({name: own[name] for name in sizes})
    plan = make_plan(
        strategy.tasks,
        stores,
        mixed,
        joins_rows=strategy.joins_rows,
        composition=strategy.composition,
        batch_tokens=config.batch.tokens,
        seed=config.seed,
        packing=strategy.packing,
        budget=budget,
    )
    return plan, mixed.mean()


def _check_mixture(config: FitConfig) -> None:
    """Refuse a mixture that was chosen, where the paradigm decides by itself."""
    name = config.mixture.name
    if name not in ("temperature", "proportional") or config.mixture.schedule:
        shown = "mixture.schedule" if config.mixture.schedule else f"mixture={name}"
        raise UserError(
            f"the settings of strategy '{config.strategy['name']}' say how often each task is drawn, so {shown} "
            "would have no effect",
            where=shown,
            hints=["leave one of the two out"],
        )


def _together(
    config: FitConfig,
    stage: Stage,
    budget: BudgetConfig,
    strategy: Strategy,
    name: str,
    after: Sequence[Part],
) -> Part:
    stores = stores_of(strategy, config)
    budget = _scaled(budget, stage.share)
    plan, shares = shared_plan(config, strategy, stores, budget)
    budgeted = planned_totals(plan, budget)
    return Part(
        name=name,
        strategy=strategy,
        source=after[-1] if after else None,
        stores=stores,
        rates=shares,
        plan=plan,
        budgeted=budgeted,
        shares=budgeted.cumulative / budgeted.tokens,
        optimizer=_optimizer(config, stage),
        budget="shared",
    )


def _alone(
    config: FitConfig,
    stage: Stage,
    budget: BudgetConfig,
    copies: Copies,
    after: Sequence[Part],
) -> Iterator[Part]:
    replayed = _Replayed(config, copies.tasks) if budget.like is not None else None
    each = budget.each
    # An epoch of one task is its own rows: all of them together are an epoch of all tasks.
    count = len(copies.tasks) if each == "divided" and budget.epochs is None else 1
    for task in copies.tasks:
        copy = copies.of(task)
        stores = stores_of(copy, config)
        plan: Plan | Replay
        if replayed is not None:
            plan, shares = replayed.of(task, stores[0])
            rows, tokens = plan.exposure(len(plan))
            budgeted = Budgeted(len(plan), plan.cumulative, rows, tokens)
        else:
            own = _scaled(budget, stage.share / count)
            plan, _ = shared_plan(config, copy, stores, own)
            budgeted = planned_totals(plan, own)
            shares = budgeted.cumulative / budgeted.tokens
        yield Part(
            name=f"{stage.name}.{task.name}",
            strategy=copy,
            source=after[-1] if after else None,
            stores=stores,
            rates={task.name: 1.0},
            plan=plan,
            budgeted=budgeted,
            shares=shares,
            optimizer=_optimizer(config, stage),
            budget="like" if replayed is not None else each,
        )


class _Replayed:
    """What each task got in another run, from that run's config: its plan is a pure function of it."""

    def __init__(self, config: FitConfig, tasks: Sequence[Task]):
        path = str(config.budget.like)
        self.where = f"budget.like={path}"
        self.folder = RunFolder.open(path, where=self.where)
        summary = read_summary(self.folder)
        self.config = compose("config", FitConfig, config_dir=path)
        strategy = make_strategy(self.config)
        if each_alone(strategy) or strategy.reads == "corpus":
            raise UserError(
                "that run did not train tasks together",
                where=self.where,
                hints=["name a run of several tasks"],
            )
        loaded = load_data(self.config, strategy)
        self.data = {task.name: task for task in loaded.trained}
        self._check(tasks, summary["data"])
        base = make_vocabulary(self.config, loaded)
        vocabulary = base.with_special(strategy.special_tokens(loaded.trained))
        decoder = base_decoder(self.config.decoder, base, self.config.seed)
        decoder.resize_vocabulary(vocabulary.size, self.config.seed)
        strategy.build(decoder, loaded.trained, vocabulary, seed=self.config.seed)
        stores = stores_of(strategy, self.config)
        self.names = [task.name for task in loaded.trained]
        self.plan, _ = shared_plan(self.config, strategy, stores, self.config.budget)
        self.steps = planned_totals(self.plan, self.config.budget).steps

    def of(self, task: Task, store: EncodedSplit) -> tuple[Replay, np.ndarray]:
        """The task's part of the plan, and the schedule it followed."""
        replay = Replay(self.plan, self.names.index(task.name), self.steps, store.lengths)
        return replay, replay.shares

    def _check(self, tasks: Sequence[Task], recorded: Mapping[str, object]) -> None:
        for task in tasks:
            there = self.data.get(task.name)
            if there is None or there.train is None:
                raise UserError(
                    f"that run was not trained on '{task.name}'",
                    where=self.where,
                    hints=[f"trained on: {', '.join(self.data)}"],
                )
            assert task.train is not None
            if there.train.fingerprint != task.train.fingerprint:
                raise UserError(
                    f"the training rows of '{task.name}' are not those of that run",
                    where=self.where,
                    hints=[
                        "the same seed, data and fraction give the same rows: "
                        f"seed={self.config.seed} there"
                    ],
                )


def _budget_left(config: FitConfig, strategy: Strategy) -> BudgetConfig:
    """The budget without what pretraining takes of it; tokens that were asked for come on top."""
    if config.pretrain.tokens is not None or config.budget.tokens is None:
        return config.budget
    left = config.budget.tokens - pretraining_tokens(config, strategy)
    return replace(config.budget, tokens=left)


def _scaled(budget: BudgetConfig, share: float) -> BudgetConfig:
    if share == 1:
        return budget
    return replace(
        budget,
        tokens=None if budget.tokens is None else max(1, round(budget.tokens * share)),
        steps=None if budget.steps is None else max(1, round(budget.steps * share)),
        epochs=None if budget.epochs is None else budget.epochs * share,
    )


def _optimizer(config: FitConfig, stage: Stage) -> OptimizerConfig:
    rate = config.optimizer.learning_rate * stage.learning_rate
    return replace(config.optimizer, learning_rate=rate, **stage.schedule)
