"""One run of a study in this process: its settings, how it ended, and what is kept of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.config.errors import Stopped, UserError
from mtl.config.schema import FitConfig
from mtl.record.folder import RunFolder
from mtl.record.summary import read_summary
from mtl.studying.checking import Checker
from mtl.studying.plan import Job, Plan
from mtl.studying.settings import merged, runs_named, with_runs, written
from mtl.studying.storage import BEAT_SECONDS, Outcome, Queue, Record

CURVES = ("selection_", "/loss")
"""What is kept of metrics.jsonl: the names that hold one of these."""
POINTS = 200
"""Points kept of a curve; of more, evenly spaced ones and the last."""
MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


class Claim:
    """Renews a claim from a thread of its own while a job runs."""

    def __init__(self, queue: Queue, record: Record):
        self._queue, self._record = queue, record
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self.lost = False
        """Whether it was given up by somebody who thought this worker dead."""

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 1
        while not self._over.wait(BEAT_SECONDS):
            count += 1
            try:
                self.lost = not self._queue.beat(self._record, count)
            except Exception:  # a storage that is away for a moment; the next renewal tells
                continue


class Runner:
    """Runs the jobs of a study.

    :param folder: The study's folder.
    :param checker: Composes configs.
    """

    def __init__(self, folder: Path, checker: Checker, plan: Plan):
        self.folder = folder
        self.checker = checker
        self.config = checker.config
        self.plan = plan

    def run(
        self,
        job: Job,
        parameters: Mapping[str, Any],
        *,
        reported: Mapping[int, float],
        stop: Callable[[int, float], bool],
        parent: Path,
    ) -> Outcome:
        """Do a job and say how it ended. An interruption passes through, and the job can be taken up again.

        :param parameters: Of the search, for this trial or as chosen.
        :param reported: Step to what selects, of a run that is taken up again.
        :param stop: Is told (step, what selects) and says whether the run is to be stopped.
        :param parent: Where the study remembers its MLflow run.
        """
        from mtl.execution import fit
        from mtl.learning.module import NonFiniteLossError
        from mtl.record.tracking import Nested

        reached, measured = [0], dict(reported)

        def watch(step: int, tokens: int, value: float) -> None:
            reached[0], measured[step] = tokens, value
            if stop(step, value):
                raise Stopped("it fell behind the trials before it")

        place = self.folder / job.name
        parameters = dict(parameters)
        try:
            config = self.fit_config(job, parameters)
            nested = Nested(parent=parent, tags=self._tags(job), run_name=_run_name(job))
            fit(config, watch=watch, nested=nested)
            outcome = self._finished(job, parameters, measured)
        except Stopped as stopped:
            outcome = Outcome(
                ending="pruned",
                reason=str(stopped),
                parameters=parameters,
                content=self._content(place, tokens=reached[0]),
            )
        except NonFiniteLossError as error:
            outcome = self._failed("diverged", error, job, parameters)
        except (MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            outcome = self._failed("out_of_memory", error, job, parameters)
        except UserError as error:
            outcome = self._failed("failed", error, job, parameters)
        if job.kind == "trial":
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return outcome

    def fit_config(self, job: Job, parameters: Mapping[str, Any]) -> FitConfig:
        """The config of a job."""
        arm = self.plan.arms[job.arm]
        searched = [f"{name}={written(value)}" for name, value in parameters.items()]
        search, seed = self.config.study.search, self.plan.seed_of(job)
        if self.plan.is_search(job):
            begun = [setting for setting in arm.own if runs_named([setting])]
            own = ["evaluation.split=selection", f"seed={seed}"]
            settings = merged(arm.settings, search.settings, begun, searched, own)
        else:
            own = ["evaluation.per_task=true", f"seed={seed}"]
            settings = merged(arm.settings, searched, own)
        settings = merged(
            with_runs(settings, lambda name: str(self.run_folder(name, seed).absolute())),
            [
                f"record.experiment={self.config.study.name}",
                f"run_dir={(self.folder / job.name).absolute()}",
            ],
        )
        return self.checker.compose(settings, f"arm {job.arm}")

    def run_folder(self, arm: str, seed: int) -> Path:
        """Where an arm's run under a seed lies."""
        return self.folder / Job(kind="run", arm=arm, number=seed).name

    def objectives(self, summary: Mapping[str, Any], measured: Mapping[int, float]) -> list[float]:
        """What the search optimises, the metric first: higher is better there, lower in the costs.

        What reads running text is tuned by the likelihood of held-out text, as its checkpoint is: no label may take
        part in it.

        :param measured: Step to what selects.
        """
        metric = self.config.study.metric
        if summary.get("panel") == "zero-shot":
            value = max(measured.values(), default=None)
        else:
            value = metric_value(summary, metric)
            value = -value if value is not None and lower_is_better(summary, metric) else value
        if value is None:
            raise UserError(f"the run has no value of '{metric}'", where=f"study.metric={metric}")
        ledger = summary["ledger"]
        costs = {
            "tokens": ledger["tokens"] + ledger["pretraining_tokens"],
            "flops": ledger["flops"],
            "seconds": ledger["seconds"],
            "parameters": ledger["parameters"]["total"],
        }
        return [value, *(float(costs[name]) for name in self.config.study.search.objectives)]

    def _finished(
        self, job: Job, parameters: dict[str, Any], measured: Mapping[int, float]
    ) -> Outcome:
        place = self.folder / job.name
        summary: Mapping[str, Any] = read_summary(RunFolder(place))
        values = self.objectives(summary, measured) if job.kind == "trial" else []
        return Outcome(
            ending="finished",
            parameters=parameters,
            values=values,
            content=self._content(place, tokens=int(summary["ledger"]["tokens"])),
        )

    def _failed(
        self, ending: Any, error: BaseException, job: Job, parameters: dict[str, Any]
    ) -> Outcome:
        content = self._content(self.folder / job.name, tokens=None)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Outcome(ending=ending, reason=reason, parameters=parameters, content=content)

    def _content(self, place: Path, *, tokens: int | None) -> dict[str, Any]:
        folder = RunFolder(place)
        entries = folder.read_metrics()
        if tokens is None:
            tokens = int(entries[-1]["tokens"]) if entries else 0
        content: dict[str, Any] = {"tokens": tokens, "curves": curves(entries)}
        if folder.summary.is_file():
            summary: dict[str, Any] = dict(read_summary(folder))
            content |= {"summary": summary, "seconds": summary["ledger"]["seconds"]}
        content["conflict"] = conflict(entries)
        return content

    def _tags(self, job: Job) -> dict[str, str]:
        source = job.kind == "run" and self.plan.is_search(job)
        return {
            "study": self.config.study.name,
            "arm": job.arm,
            "kind": "source" if source else job.kind,
            "number": str(job.number),
        }


def metric_value(summary: Mapping[str, Any], metric: str) -> float | None:
    """``average`` or ``<task>/<metric>`` of a run's summary."""
    if metric == "average":
        return _number(summary["average"]["value"])
    task, _, name = metric.rpartition("/")
    found = summary["tasks"].get(task, {}).get("metrics", {})
    # A metric of running text carries how it was cut in its reported name.
    reported = next((known for known in found if known == name or known.startswith(f"{name}_")), "")
    return _number(found.get(reported, {}).get("value"))


def lower_is_better(summary: Mapping[str, Any], metric: str) -> bool:
    """Whether the metric improves as it falls."""
    if metric == "average":
        return False
    task, _, name = metric.rpartition("/")
    falling = summary["tasks"].get(task, {}).get("lower_is_better", [])
    return any(known == name or known.startswith(f"{name}_") for known in falling)


def curves(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Name to (tokens, value) of what metrics.jsonl holds of losses and of the selection split."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if any(part in name for part in CURVES) and isinstance(value, (int, float)):
                found.setdefault(name, []).append((int(entry["tokens"]), float(value)))
    return {name: _thinned(points) for name, points in found.items()}


def conflict(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over training of each gradient diagnostic."""
    sums: dict[str, list[float]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name.startswith("conflict/") and isinstance(value, (int, float)):
                sums.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= POINTS:
        return points
    every = len(points) / POINTS
    return [points[int((position + 1) * every) - 1] for position in range(POINTS)]


def _run_name(job: Job) -> str:
    return (
        f"{job.arm} trial {job.number}" if job.kind == "trial" else f"{job.arm} seed {job.number}"
    )


def _is_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in MEMORY)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
