"""Where training hands over its numbers: metrics.jsonl first, then MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from mtl.record.folder import RunFolder
from mtl.record.tracking import Tracker


class Recorder:
    """Writes each logged step to metrics.jsonl and passes it on to the tracker.

    Names are ``<task>/<metric>``, or ``<metric>`` for what concerns the whole run (``loss``, ``learning_rate``).
    """

    def __init__(self, folder: RunFolder, tracker: Tracker):
        self.folder = folder
        self.tracker = tracker

    def metrics(self, step: int, tokens: int, values: Mapping[str, float]) -> None:
        """Record the values of one logged step.

        :param step: Optimizer steps done.
        :param tokens: Non-padding input tokens consumed; the x axis in MLflow.
        :param values: Name to value; a value that is not finite is written as null.
        :raises ValueError: if a value is called ``step`` or ``tokens``.
        """
        if taken := {"step", "tokens"} & values.keys():
            raise ValueError(f"`values` must not hold {sorted(taken)}: they name the x axes")
        self.folder.append_metrics({"step": step, "tokens": tokens, **values})
        self.tracker.log(tokens, values)
