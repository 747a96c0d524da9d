"""What ``python -m mtl.study`` can be told, and what stands in a file of studies/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class RangeConfig:
    """Where a setting may lie: ``low`` and ``high``, or ``choices``."""

    low: float | None = None
    """Smallest value. A setting that takes whole numbers draws whole numbers."""
    high: float | None = None
    """Largest value."""
    log: bool = False
    """Draw evenly on a logarithmic scale."""
    step: float | None = None
    """Distance of the values from each other; a grid needs it."""
    choices: list[Scalar] | None = None
    """The values, where they are few or have no order."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How every arm is tuned: the same number of runs, on the selection split."""

    trials: int = 0
    """Runs for each arm; 0 tunes nothing."""
    space: dict[str, RangeConfig] = field(default_factory=dict)
    """Setting to its range, the same for every arm."""
    sampler: Literal["tpe", "gp", "random", "grid", "cmaes", "nsga2"] = "tpe"
    """``tpe``: multivariate tree of Parzen estimators. ``gp``: Gaussian process. ``cmaes``: covariance matrix
    adaptation, numbers only. ``nsga2``: several objectives."""
    pruner: Literal["none", "median", "hyperband"] = "none"
    """Stops a run that falls behind the ones before it. Runs that train each task alone are never stopped: they have
    no score of all tasks before their end."""
    objectives: list[Literal["tokens", "flops", "seconds", "parameters"]] = field(
        default_factory=list
    )
    """Costs that are minimised beside the metric. The best score is chosen; the others show what it costs."""
    settings: list[str] = field(default_factory=list)
    """For runs of the search alone, such as a smaller budget."""
    parallel: int = 1
    """Runs of one arm at a time. They are drawn together, so that the search does not depend on which ends first."""
    seed: int = 1000
    """Of the search and of its runs; not among the study's seeds."""


@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    """One answer to the question."""

    settings: list[str] = field(default_factory=list)
    """What distinguishes it, as on the command line of ``mtl.fit``. ``{run:ARM}`` is the run folder of another arm
    under the same seed, which is trained first."""
    space: dict[str, RangeConfig] = field(default_factory=dict)
    """Searched for this arm beside what is searched for all."""
    source: bool = False
    """Trained only for others to begin from: in no comparison, and without the factors."""
    tuned_as: str | None = None
    """The arm whose chosen settings it takes over; null is tuned itself."""
    over: Literal["tasks", "pairs"] | None = None
    """``tasks``: one arm for each task of the study. ``pairs``: for each task and for each two of them, which gives the
    matrix of who helps whom."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Every task alone, under three budgets: its share of the budget, what it got in another arm, and the whole."""

    settings: list[str]
    """What trains every task alone, its strategy among them, whose name the arms have."""
    exposure: str
    """The arm whose exposure is repeated, row by row, under the same seed. The arms are compared with this form."""
    forms: list[Literal["divided", "same_exposure", "whole"]] = field(
        default_factory=lambda: ["divided", "same_exposure", "whole"]
    )
    """Which of the three."""


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """What is different in a study at size (``size=full``)."""

    settings: list[str] = field(default_factory=list)
    """Over those of the study."""
    seeds: list[int] | None = None
    """In place of the study's."""
    trials: int | None = None
    """In place of ``search.trials``."""
    axes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Further levels of the axes."""


@dataclass(frozen=True, kw_only=True)
class StudyDefinition:
    """A question put to many runs: the content of a file in studies/."""

    name: str
    """Names the study's folder, its experiment and its storage."""
    question: str
    """What is asked, in one sentence."""
    settings: list[str] = field(default_factory=list)
    """For every run, as on the command line of ``mtl.fit``."""
    arms: dict[str, ArmConfig]
    """The answers that are compared, by name."""
    axes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Factors: name to level to settings. Every arm is run at every combination of levels, and named
    ``<arm>/<level>``."""
    baseline: BaselineConfig | None = None
    """Every task alone; null where the question has no such opponent."""
    reference: str | None = None
    """The arm that the others are compared with; null is the baseline at equal exposure."""
    seeds: list[int]
    """One run of each arm for each. A seed fixes the initial trunk, the order of the data and the cut splits of all."""
    metric: str = "average"
    """What decides: ``average`` or ``<task>/<metric>``."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """How the arms are tuned."""
    full: SizeConfig = field(default_factory=SizeConfig)
    """What ``size=full`` changes."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Everything ``python -m mtl.study`` can be told beside the settings of ``mtl.fit``, which go to every run."""

    study: StudyDefinition
    """The question."""
    size: Literal["small", "full"] = "small"
    """``small`` ends in minutes on two cores; ``full`` is the study at size."""
    settings: list[str] = field(default_factory=list)
    """For every run, over those of the study. Whatever ``mtl.fit`` understands can be written without this key:
    ``suite=glue budget.tokens=2000000``."""
    study_dir: str | None = None
    """Folder of the study; null is ``runs/study-<name>``."""
    workers: int | None = None
    """Processes on this machine; null is one for each ``threads`` processors. 0 runs none: only the page is made from
    what is there."""
    threads: int = 1
    """Processor threads of each worker. One is fastest for many runs; another number adds in another order, and gives
    slightly other scores."""
    storage: str | None = None
    """Database that holds the trials, such as ``postgresql://user@host/base``; null is SQLite in the study's folder.
    The same command on another machine with the same storage joins the study."""
