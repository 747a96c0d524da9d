"""The methods by name, how each is built, and where it has a meaning."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from mtl.config.errors import UserError, raise_all
from mtl.config.schema import BalanceConfig, FitConfig
from mtl.learning.balance.gradients import (
    Aggregation,
    ConflictAversion,
    GradientDropout,
    GradientVaccine,
    Nash,
)
from mtl.learning.balance.scalarizers import (
    FAMO,
    DynamicAverage,
    Fixed,
    GeometricMean,
    Learned,
    Random,
    Scalarizer,
    Tchebycheff,
)
from mtl.learning.reduction import Weigh
from mtl.learning.strategy import Composition, Strategy

Balance = Scalarizer | Aggregation

SOLVERS = "pip install 'mtl[solvers]'"


@dataclass(frozen=True)
class Setting:
    """What a method may need to know of the run."""

    config: BalanceConfig
    tasks: tuple[str, ...]
    """Names of the K tasks."""
    rows: tuple[int, ...]
    """(K,) training rows of each task."""
    one_task: bool
    """Every step has one task."""


@dataclass(frozen=True)
class Method:
    """A way to balance tasks."""

    make: Callable[[Setting], Balance]
    gradients: bool = False
    """It wants the gradient of each task by itself."""
    together: bool = False
    """It has a meaning only where several tasks stand in a step."""
    pieces: bool = False
    """Its weights follow from the losses of the whole step: one in pieces takes the gradient of each task by itself."""
    sharded: bool = True
    """It can do with parameters that are sharded over devices."""
    solvers: tuple[str, ...] = ()
    """Packages of the extra ``solvers`` that it needs."""


def _given(name: str, value: float | int | None) -> float:
    assert value is not None, name  # a rule of the configuration
    return value


def _aggregator(name: str) -> Callable[[Setting], Balance]:
    def make(setting: Setting) -> Balance:
        import torchjd.aggregation

        return Aggregation(getattr(torchjd.aggregation, name)())

    return make


def _static(setting: Setting) -> Balance:
    weights = [setting.config.weights[task] for task in setting.tasks]
    return Fixed(weights, one_task=setting.one_task)


def _dwa(setting: Setting) -> Balance:
    return DynamicAverage(
        len(setting.tasks),
        temperature=_given("temperature", setting.config.temperature),
        every=int(_given("every", setting.config.every)),
    )


def _famo(setting: Setting) -> Balance:
    return FAMO(
        len(setting.tasks),
        learning_rate=_given("learning_rate", setting.config.learning_rate),
        weight_decay=_given("weight_decay", setting.config.weight_decay),
    )


def _of_gradients(make: Callable[[Setting], Balance], *solvers: str) -> Method:
    return Method(make, gradients=True, together=True, sharded=False, solvers=solvers)


def _of_all_losses(make: Callable[[Setting], Balance]) -> Method:
    return Method(make, together=True, pieces=True, sharded=False)


METHODS: dict[str, Method | None] = {
    "sum": None,
    "static": Method(_static),
    "size": Method(lambda setting: Fixed(setting.rows, one_task=setting.one_task)),
    "random": Method(lambda setting: Random(len(setting.tasks)), together=True),
    "uncertainty": Method(lambda setting: Learned(len(setting.tasks), "UW"), sharded=False),
    "imtl_l": Method(lambda setting: Learned(len(setting.tasks), "IMTLL"), sharded=False),
    "dwa": Method(_dwa),
    "famo": _of_all_losses(_famo),
    "geometric_mean": _of_all_losses(lambda setting: GeometricMean(len(setting.tasks))),
    "stch": _of_all_losses(
        lambda setting: Tchebycheff(len(setting.tasks), mu=_given("mu", setting.config.mu))
    ),
    "pcgrad": _of_gradients(_aggregator("PCGrad")),
    "cagrad": _of_gradients(
        lambda setting: ConflictAversion(c=_given("c", setting.config.c)), "cvxpy", "clarabel"
    ),
    "mgda": _of_gradients(_aggregator("MGDA")),
    "imtl_g": _of_gradients(_aggregator("IMTLG")),
    "nash": _of_gradients(
        lambda setting: Nash(
            len(setting.tasks), max_norm=_given("max_norm", setting.config.max_norm)
        ),
        "cvxpy",
        "ecos",
    ),
    "aligned": _of_gradients(_aggregator("AlignedMTL")),
    "upgrad": _of_gradients(_aggregator("UPGrad"), "qpsolvers", "quadprog"),
    "gradvac": _of_gradients(
        lambda setting: GradientVaccine(
            len(setting.tasks), beta=_given("beta", setting.config.beta)
        )
    ),
    "graddrop": _of_gradients(lambda setting: GradientDropout()),
}
"""None: the losses are added as the strategy's reduction weighs them."""


def make_balance(
    config: BalanceConfig | None,
    tasks: Sequence[str],
    rows: Sequence[int],
    composition: Composition,
) -> Balance | None:
    """The method, built; None where losses are only added.

    :param config: None is ``sum``.
    :param tasks: Names of the tasks, in the order of ``Batch.task``.
    :param rows: Training rows of each.
    """
    method = None if config is None else METHODS[config.name]
    if method is None or config is None:
        return None
    one_task = composition == "one_task"
    return method.make(Setting(config, tuple(tasks), tuple(rows), one_task))


def separate_gradients(config: BalanceConfig | None, pieces: int) -> bool:
    """Whether the gradients of each task of a step are kept by themselves.

    :param pieces: Pieces of a step, over all devices.
    """
    method = None if config is None else METHODS[config.name]
    return method is not None and (method.gradients or (method.pieces and pieces > 1))


def missing_solvers(name: str) -> list[str]:
    """The packages a method needs that are not installed."""
    method = METHODS[name]
    solvers = () if method is None else method.solvers
    return [package for package in solvers if importlib.util.find_spec(package) is None]


def within_tasks(weigh: Weigh) -> Weigh:
    """The same reduction inside each task, with weights that sum to 1 over each task of the step."""

    def weights(terms: np.ndarray, tasks: np.ndarray) -> np.ndarray:
        of_step = weigh(terms, tasks).astype(np.float64)
        mass = np.bincount(tasks, weights=of_step)
        return (of_step / np.where(mass > 0, mass, 1)[tasks]).astype(np.float32)

    return weights


def check_balance(config: FitConfig, strategy: Strategy) -> None:
    """Whether the run's balance has a meaning for a strategy, which need not be built.

    :raises UserError: it has none, or a solver is not installed.
    """
    name = config.balance.name
    method = METHODS[name]
    if method is None:
        return
    of, where = config.strategy["name"], f"balance={name}"
    errors = []
    if strategy.reads == "corpus":
        errors.append(
            UserError(
                f"strategy '{of}' reads one stream of text: there are no tasks to balance",
                where=where,
                hints=["use balance=sum"],
            )
        )
    elif all(stage.each for stage in strategy.stages()):
        errors.append(
            UserError(
                f"strategy '{of}' trains every task alone: there is nothing to balance",
                where=where,
                hints=["use balance=sum, or a strategy that trains tasks together"],
            )
        )
    elif method.together and strategy.composition == "one_task":
        errors.append(
            UserError(
                f"strategy '{of}' has one task in a step, and {name} needs several",
                where=where,
                hints=[
                    "use a strategy whose steps hold several tasks (python -m mtl lists all strategies)",
                    "or change how often a task is drawn, or what it counts: mixture=explicit, balance=static",
                ],
            )
        )
    if config.trainer.strategy == "fsdp" and not method.sharded:
        errors.append(
            UserError(
                f"{name} needs whole parameters on each device, and fsdp shards them",
                where=f"{where} trainer={config.trainer.name}",
                hints=["use trainer=ddp"],
            )
        )
    if missing := missing_solvers(name):
        errors.append(
            UserError(
                f"{name} needs a solver that is not installed: {', '.join(missing)}",
                where=where,
                hints=[f"{SOLVERS} (some of its solvers are under copyleft licences)"],
            )
        )
    raise_all(errors)


def check_shared(config: FitConfig, strategy: Strategy) -> None:
    """Whether a gradient method finds gradients to balance in a strategy that is built.

    :raises UserError: the tasks share no parameters.
    """
    method = METHODS[config.balance.name]
    if method is None or not method.gradients or len(strategy.tasks) < 2:
        return
    own = {id(p) for task in strategy.tasks for p in strategy.own_parameters(task)}
    if all(id(p) in own for p in strategy.parameters() if p.requires_grad):
        name = config.balance.name
        raise UserError(
            f"strategy '{config.strategy['name']}' as configured has no parameters that tasks share, "
            f"and {name} balances gradients on those",
            where=f"balance={name}",
            hints=["use a balance of losses (static, uncertainty, ...), or another strategy"],
        )


def parameters_to_train(balance: nn.Module | None) -> list[nn.Parameter]:
    """Parameters of a balance that the run's optimizer trains."""
    if isinstance(balance, Scalarizer) and balance.trained:
        return list(balance.parameters())
    return []
