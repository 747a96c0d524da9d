"""Results and their answer as the page sees them: where runs lie, what order arms have, what stands behind a number."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from mtl.comparing.answer import Answer, Cell, Comparison, Standing
from mtl.comparing.results import Results, SeedRun
from mtl.reporting.figures.figure import Series
from mtl.reporting.numerals import change, score
from mtl.reporting.tables import Source

AVERAGE = "average"


@dataclass(frozen=True)
class View:
    """What every part of the page is made from."""

    results: Results
    answer: Answer
    folder: Path
    """The study's."""
    out: Path
    """The page's."""

    @cached_property
    def series(self) -> Mapping[str, Series]:
        """Each arm's place in the palette: the leaderboard's order, then the arms that are in none."""
        ranked = [one.arm for one in self.answer.standings]
        names = [*ranked, *(arm.name for arm in self.results.arms if arm.name not in ranked)]
        return {name: Series(name, index, self.anchor(name)) for index, name in enumerate(names)}

    @cached_property
    def tasks(self) -> Mapping[str, Series]:
        """Each task's place in the palette."""
        return {name: Series(name, index) for index, name in enumerate(self.results.tasks)}

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {arm.name: index for index, arm in enumerate(self.results.arms)}

    def anchor(self, arm: str) -> str:
        """Where an arm's runs are listed on the page."""
        return f"#runs-{self._places[arm]}"

    def run_href(self, run: str | None) -> str | None:
        """From the page to a run's folder."""
        if run is None:
            return None
        path = os.path.relpath(self.folder / run, self.out)
        return quote(Path(path).as_posix()) + "/"

    def run_of(self, arm: str, seed: int) -> SeedRun | None:
        """The run of an arm under a seed."""
        return next((run for run in self.results.arm(arm).runs if run.seed == seed), None)

    @property
    def head(self) -> str:
        """The task that the study's primary metric is of, or ``average``."""
        primary = self.results.primary
        return AVERAGE if primary == AVERAGE else primary.rpartition("/")[0]

    def _hrefs(self, seed: int, *arms: str) -> list[str]:
        runs = [self.run_of(arm, seed) for arm in arms]
        hrefs = [self.run_href(run.run) for run in runs if run is not None]
        return [href for href in hrefs if href is not None]

    def sources(self, cell: Cell) -> list[Source]:
        """The runs behind a score."""
        return [
            Source(label=f"seed {seed}", value=score(value), hrefs=self._hrefs(seed, cell.arm))
            for seed, value in sorted(cell.by_seed.items())
        ]

    def compared(self, one: Comparison) -> list[Source]:
        """The pairs of runs behind a difference."""
        return [
            Source(
                label=f"seed {seed}",
                value=change(value),
                hrefs=self._hrefs(seed, one.arm, one.reference),
            )
            for seed, value in sorted(one.by_seed.items())
        ]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The average first, then task by task, in the leaderboard's order; without those of no common seed."""
        tasks = [AVERAGE, *self.results.tasks]
        found = [one for one in self.answer.comparisons if one.seeds]
        return sorted(found, key=lambda one: (tasks.index(one.task), self.series[one.arm].index))

    @cached_property
    def references(self) -> list[str]:
        """The arms that others are compared with: one, or one at each place on the study's axes."""
        return list(dict.fromkeys(one.reference for one in self.comparisons))

    def panel(self, name: str) -> list[Standing]:
        """The arms of a panel, best first."""
        return [one for one in self.answer.standings if one.panel == name]

    def comparison(self, arm: str, task: str) -> Comparison | None:
        """An arm against the reference on a task."""
        return next((c for c in self.comparisons if (c.arm, c.task) == (arm, task)), None)

    @property
    def falls(self) -> bool:
        """Whether the study's primary metric is better where it is lower."""
        return self.results.direction == "minimize"
