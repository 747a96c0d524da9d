"""A run as Python sees it: its scores, curves and predictions as pandas frames."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mtl.record.folder import RunFolder
from mtl.record.predictions import read_predictions
from mtl.record.summary import Summary, read_summary
from mtl.record.table import as_html, as_text

if TYPE_CHECKING:
    import pandas


class Run:
    """A recorded run. Reads its folder when asked, and writes nothing.

    :param path: The run folder.
    :raises UserError: if there is no run in it.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.folder = RunFolder.open(path)
        self.path = self.folder.path

    @property
    def summary(self) -> Summary:
        """summary.json.

        :raises UserError: if the run has not come to its end.
        """
        return read_summary(self.folder)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        import yaml  # type: ignore[import-untyped]

        config: dict[str, Any] = yaml.safe_load(self.folder.config.read_text(encoding="utf-8"))
        return config

    @property
    def average(self) -> float | None:
        """The average over tasks, as summary.json defines it."""
        return self.summary["average"]["value"]

    @property
    def scores(self) -> pandas.DataFrame:
        """One row per task and metric: ``task``, ``metric``, ``value``, ``low``, ``high`` (bootstrap 95 %), ``chance``
        and ``majority`` (of the primary metric, else missing), ``primary``, ``rows``."""
        import pandas

        columns = [
            "task",
            "metric",
            "value",
            "low",
            "high",
            "chance",
            "majority",
            "primary",
            "rows",
        ]
        records = []
        for name, task in self.summary["tasks"].items():
            for metric, value in task["metrics"].items():
                primary = metric == task["primary"]
                records.append(
                    {
                        "task": name,
                        "metric": metric,
                        **value,
                        "chance": task["chance"] if primary else None,
                        "majority": task.get("majority") if primary else None,
                        "primary": primary,
                        "rows": task["rows"],
                    }
                )
        frame = pandas.DataFrame(records, columns=columns)
        numbers = ["value", "low", "high", "chance", "majority"]
        return frame.astype(dict.fromkeys(numbers, "float64"))

    @property
    def metrics(self) -> pandas.DataFrame:
        """metrics.jsonl: one row per logged step, columns ``step``, ``tokens`` and one per name."""
        import pandas

        return pandas.DataFrame(self.folder.read_metrics())

    def predictions(self, task: str, split: str | None = None) -> pandas.DataFrame:
        """The answers to one task: ``row``, ``target``, ``prediction`` and, with choices, ``scores``.

        :param split: Which split; None where there is only one.
        :raises UserError: if the run has no such predictions.
        """
        return read_predictions(self.folder, task, split)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __str__(self) -> str:
        if not self.folder.summary.exists():
            return f"{self.path}: not finished"
        return as_text(self.summary, self.path)

    def _repr_html_(self) -> str | None:
        return as_html(self.summary, self.path) if self.folder.summary.exists() else None
