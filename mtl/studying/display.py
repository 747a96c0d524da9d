"""What a study is doing right now: one live table on a terminal, a line for each ended job anywhere else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mtl.record.numbers import count, duration
from mtl.studying.plan import Job
from mtl.studying.storage import Record
from mtl.studying.study import Study

if TYPE_CHECKING:
    from rich.table import Table

TAIL_BYTES = 4096
"""Of metrics.jsonl, enough for its last line."""


class Display:
    """Shows the state of a study on standard error.

    :param shown: Whether to draw the table; None is whether standard error is a terminal.
    """

    def __init__(self, study: Study, *, shown: bool | None = None):
        self._study = study
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._live: Any = None
        self._said: set[Job] | None = None
        self._started = time.monotonic()
        self._over_at_start: int | None = None
        self._scores: dict[Job, float | None] = {}

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), auto_refresh=False, transient=True, screen=False
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, records: Mapping[Job, Record], workers: int) -> None:
        """Show where the study is."""
        if self._over_at_start is None:
            self._over_at_start = sum(record.over for record in records.values())
        if self._live is not None:
            self._live.update(self._table(records, workers), refresh=True)
        else:
            self._say(records)

    def _say(self, records: Mapping[Job, Record]) -> None:
        over = [job for job, record in records.items() if record.over]
        if self._said is None:
            self._said = set(over)
            if over:
                print(f"{len(over)} of {len(records)} runs are there already", file=sys.stderr)
            return
        for job in over:
            if job not in self._said:
                self._said.add(job)
                record = records[job]
                line = f"[{len(self._said)}/{len(records)}] {job.name}: {record.ending}"
                if record.attributes.get("reason"):
                    line += f" ({record.attributes['reason']})"
                if (value := self._score(record)) is not None:
                    line += f"  {value:.4f}"
                print(f"{line}  {self._left(records)}".rstrip(), file=sys.stderr, flush=True)

    def _table(self, records: Mapping[Job, Record], workers: int) -> Table:
        from rich.table import Table

        over = sum(record.over for record in records.values())
        table = Table(
            title=f"study {self._study.config.study.name}: {over} of {len(records)} runs, "
            f"{workers} at work, {duration(time.monotonic() - self._started)} {self._left(records)}",
            title_justify="left",
        )
        for name in ("arm", "search", "runs", "now", "tokens", "best in search", "mean so far"):
            table.add_column(name, justify="left" if name in ("arm", "now") else "right")
        for arm in self._study.plan.arms.values():
            own = {job: record for job, record in records.items() if job.arm == arm.name}
            trials = [record for job, record in own.items() if job.kind == "trial"]
            runs = [record for job, record in own.items() if job.kind == "run"]
            running = [record for record in own.values() if record.state == "RUNNING"]
            best = max((v for r in trials if (v := self._score(r)) is not None), default=None)
            means = [value for record in runs if (value := self._score(record)) is not None]
            table.add_row(
                arm.name,
                _portion(trials),
                _portion(runs),
                ", ".join(_job(record.job) for record in running),
                " ".join(count(self._tokens(record)) for record in running),
                "" if best is None else f"{best:.4f}",
                f"{sum(means) / len(means):.4f}" if means else "",
            )
        return table

    def _score(self, record: Record) -> float | None:
        """The score of a job, unpacked once: what is over does not change."""
        if not record.over:
            return None
        if record.job not in self._scores:
            self._scores[record.job] = score(record)
        return self._scores[record.job]

    def _tokens(self, record: Record) -> int:
        return last_tokens(self._study.folder / record.job.name / "metrics.jsonl")

    def _left(self, records: Mapping[Job, Record]) -> str:
        """Time left by the pace so far; nothing before there is one."""
        over = sum(record.over for record in records.values())
        done = over - (self._over_at_start or 0)
        if done < 1:
            return ""
        pace = (time.monotonic() - self._started) / done
        left = pace * (len(records) - over)
        return f"about {duration(left)} left" if left > 0 else ""


def score(record: Record) -> float | None:
    """What a job came to: the metric on the selection split of a trial, the average of a run."""
    if record.ending != "finished":
        return None
    if record.job.kind == "trial":
        return record.values[0] if record.values else None
    value = record.content().get("summary", {}).get("average", {}).get("value")
    return float(value) if value is not None else None


def last_tokens(metrics: Path) -> int:
    """Tokens at the last line of metrics.jsonl; 0 where there is none yet."""
    try:
        with metrics.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read().split(b"\n")
        return int(json.loads(lines[-2])["tokens"])
    except (OSError, IndexError, ValueError, KeyError):
        return 0


def _portion(records: list[Record]) -> str:
    if not records:
        return ""
    bad = sum(record.over and record.ending not in ("finished", "pruned") for record in records)
    text = f"{sum(record.over for record in records)}/{len(records)}"
    return f"{text} ({bad} failed)" if bad else text


def _job(job: Job) -> str:
    return f"trial {job.number}" if job.kind == "trial" else f"seed {job.number}"
