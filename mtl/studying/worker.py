"""A worker: takes one job of a study after the other until none is left. ``python -m mtl.studying.worker``.

It is told its study on standard input, see :class:`mtl.studying.study.Order`. It ends with status 0 when every job is
over, and after a signal once what can be resumed is written.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from mtl.config import packages
from mtl.config.command_line import report
from mtl.config.errors import Interrupted
from mtl.studying.running import Claim
from mtl.studying.storage import MOST_DEATHS, Outcome, Record
from mtl.studying.study import Order, Study

PAUSE_SECONDS = 0.5
"""Between two looks for a job where there is none."""


def work(study: Study, *, leave: int | None = None) -> None:
    """Do jobs until all are over.

    :param leave: The process whose end ends this worker too, after its job.
    """
    queue = study.queue
    while True:
        records = queue.records()
        if all(record.over for record in records.values()):
            return
        if leave is not None and os.getppid() != leave:
            return
        for record in queue.abandoned(records):
            queue.give_up(record, died=True)
        ready = study.schedule.ready(records)
        if not any(_do(study, record) for record in ready[:1]):
            time.sleep(PAUSE_SECONDS)


def _do(study: Study, record: Record) -> bool:
    """Take a job and do it; False where somebody else has it."""
    queue = study.queue
    if not queue.claim(record):
        return False
    job = record.job
    try:
        with Claim(queue, record) as claim:
            outcome = _outcome(study, record)
            if not claim.lost:
                queue.end(record, outcome)
    except (Interrupted, KeyboardInterrupt):
        queue.give_up(record, died=False)
        raise
    print(f"{job.name}: {outcome.ending}{f' ({outcome.reason})' if outcome.reason else ''}")
    return True


def _outcome(study: Study, record: Record) -> Outcome:
    job, queue = record.job, study.queue
    records = queue.records()
    if (reason := study.schedule.hopeless(job, records)) is not None:
        return Outcome(ending="failed", reason=reason)
    if record.deaths >= MOST_DEATHS:
        reason = f"its process died {record.deaths} times, perhaps for want of memory"
        return Outcome(ending="failed", reason=reason)
    parameters = study.schedule.parameters(job, records)
    if job.kind == "trial" and not record.parameters:
        queue.draw(record, parameters, study.searches[job.arm])
    ended = study.schedule.ended(job.arm, records) if job.kind == "trial" else []
    known = dict(record.intermediate)
    for step, value in known.items():
        queue.report(record, step, value)

    def stop(step: int, value: float) -> bool:
        if job.kind == "run":
            return False
        queue.report(record, step, value)
        known[step] = value
        return study.searches[job.arm].should_stop(job.number, ended, known)

    return study.runner.run(job, parameters, reported=dict(known), stop=stop, parent=study.parent)


def main() -> NoReturn:
    """The command."""
    packages.pin_packages("configs", "strategies", "studies")

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    status: Any = 0
    try:
        study = Study.ordered(Order.read(sys.stdin.readline()))
        work(study, leave=os.getppid())
    except BaseException as error:
        status = report(error)
    sys.exit(status)


if __name__ == "__main__":
    main()
