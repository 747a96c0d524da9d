"""results.json: all that a study found, run by run, before anybody draws a conclusion from it.

The study writes it whenever a run ends; the report is a function of this file alone. Paths of runs are relative to
the study's folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mtl.config.errors import UserError

RESULTS = "results.json"

Ending = Literal["finished", "pruned", "diverged", "out_of_memory", "failed", "pending"]
"""How a run ended: ``pruned`` was stopped because it promised little, ``diverged`` met a loss that is not finite,
``failed`` is anything else and has a reason; ``pending`` has not ended."""
Role = Literal["arm", "baseline", "source"]
"""``arm``: one answer to the question. ``baseline``: every task alone. ``source``: trained only for others to begin
from; it is in no comparison."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of the search for an arm's settings, scored on the selection split alone."""

    index: int
    """Position in the arm's search, from 0."""
    ending: Ending
    parameters: dict[str, Any] = field(default_factory=dict)
    """Setting to value, as on the command line."""
    values: list[float] = field(default_factory=list)
    """One for each objective of the search, the study's primary metric on the selection split first; empty where the
    run did not finish."""
    reached: float | None = None
    """Of a pruned trial: the study's metric on the selection split when it was stopped. None where it was stopped by
    the average and the study's metric is another."""
    tokens: int = 0
    """Training tokens used, pretraining aside; of a pruned trial those until it was stopped."""
    seconds: float = 0.0
    reason: str | None = None
    run: str | None = None


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """The chosen settings of an arm under one seed, scored on the reported split."""

    seed: int
    ending: Ending
    reason: str | None = None
    run: str | None = None
    summary: dict[str, Any] | None = None
    """summary.json of the run (:class:`mtl.record.summary.Summary`); None where it did not finish."""
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Name as in metrics.jsonl to (tokens, value): ``selection_average``, ``<task>/selection_<metric>`` and
    ``<task>/loss``; in a run of several trainings tokens are counted over all of them."""
    conflict: dict[str, float] = field(default_factory=dict)
    """Means over training of what ``diagnostics.conflict`` measured, by name; empty where it was off."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One answer to the study's question, and all of its runs."""

    name: str
    role: Role = "arm"
    settings: list[str] = field(default_factory=list)
    """What distinguishes it, as on the command line of ``mtl.fit``."""
    factors: dict[str, str] = field(default_factory=dict)
    """Its place on each of the study's axes, such as ``{"tasks": "4"}``."""
    family: str = ""
    """Name without the factors: arms of one family make one line in a figure."""
    tuned_as: str | None = None
    """The arm whose chosen settings it takes over; None where it was tuned itself, or nothing was."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """The settings that the search chose."""
    trials: list[Trial] = field(default_factory=list)
    runs: list[SeedRun] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Search:
    """How every arm was tuned."""

    trials: int
    """Runs for each arm; 0 where nothing was tuned."""
    sampler: str
    pruner: str
    objectives: list[str]
    """Names of what ``Trial.values`` holds."""
    directions: list[Literal["maximize", "minimize"]]
    space: dict[str, dict[str, Any]]
    """Setting to where it may lie: ``{low, high, log, step}`` or ``{choices}``."""
    own_space: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Arm to what was searched for it alone, beside the settings of all."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """The whole of results.json."""

    name: str
    """The study's name."""
    question: str
    primary: str
    """``average`` (mean over tasks of the primary metrics, chance = 0, perfect = 1) or ``<task>/<metric>``."""
    direction: Literal["maximize", "minimize"]
    reference: str | None
    """The arm that the others are compared with: the baseline at equal exposure; None where there is none."""
    tasks: list[str]
    seeds: list[int]
    settings: list[str]
    """Common to all runs, as on the command line of ``mtl.fit``."""
    command: str
    """What was typed."""
    search: Search
    arms: list[Arm]
    axes: dict[str, list[str]] = field(default_factory=dict)
    """The study's factors: axis to its levels in order."""
    over: Literal["tasks", "pairs"] | None = None
    """``pairs``: the arms named ``<family>/<task>+<task>`` are compared with those named ``<family>/<task>``, which
    gives the matrix of who helps whom."""
    commit: str | None = None
    dirty: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""
    """ISO 8601."""
    updated: str = ""
    """ISO 8601."""

    def arm(self, name: str) -> Arm:
        """The arm of that name.

        :raises KeyError: there is none.
        """
        return {arm.name: arm for arm in self.arms}[name]

    def write(self, folder: Path) -> None:
        """Replace results.json in one step."""
        from mtl.record.files import to_json, write_atomically

        write_atomically(folder / RESULTS, to_json(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Results:
        """What the study in a folder has found so far.

        :raises UserError: no study is there, or its file is damaged.
        """
        file = folder / RESULTS
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            return _results(data)
        except FileNotFoundError:
            raise UserError(
                f"{folder} has no {RESULTS}: no study has been run there",
                hints=["run one: python -m mtl.study study=NAME"],
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"not the results of a study: {error}", where=str(file)) from None


def _results(data: dict[str, Any]) -> Results:
    arms = [
        Arm(
            **{
                **arm,
                "trials": [Trial(**trial) for trial in arm["trials"]],
                "runs": [
                    SeedRun(
                        **{
                            **run,
                            "curves": {
                                name: [(int(tokens), float(value)) for tokens, value in points]
                                for name, points in run["curves"].items()
                            },
                        }
                    )
                    for run in arm["runs"]
                ],
            }
        )
        for arm in data["arms"]
    ]
    return Results(**{**data, "search": Search(**data["search"]), "arms": arms})
