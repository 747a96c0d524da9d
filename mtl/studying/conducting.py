"""A study from its config to its page: check, hand out the runs, watch them, and write down what they say."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import datetime
from types import FrameType
from typing import Any

from mtl.comparing.results import Results
from mtl.config.compose import differences, to_yaml
from mtl.config.errors import Interrupted, UserError
from mtl.config.study_schema import StudyConfig
from mtl.record.files import write_atomically
from mtl.record.folder import RunFolder
from mtl.record.progress import Progress
from mtl.studying.collecting import collect
from mtl.studying.crew import Crew
from mtl.studying.display import Display
from mtl.studying.study import Study

LOOK_SECONDS, MOST_LOOK_SECONDS = 1.0, 5.0
"""Between two looks at the storage: more than the least where a look at many waiting jobs takes long, so that no more
than a fiftieth of a processor is taken from the workers."""
WRITE_SECONDS = 10.0
"""Between two writings of results.json while a study runs, at least."""
SHOWN = 8
"""Differing keys named in one message."""


def conduct(config: StudyConfig, *, config_dir: str | None = None, command: str = "") -> Results:
    """Run a study to its end, or go on with it.

    :raises UserError: a mistake in the study, before anything is made; a study of that name with other settings.
    :raises Interrupted: after a signal, when every worker has written what it needs to go on.
    """
    with Progress("study", shown=None) as progress:
        with progress.stage("checking every arm"):
            study = Study(config, config_dir=config_dir, command=command)
            study.check()
        with progress.stage("opening the storage"):
            _open(study)
    _run(study)
    results = _write(study)
    _report(study, results)
    return results


def _open(study: Study) -> None:
    """Make the study's folder and its storage, or find in them the very same study."""
    made = not study.folder.exists()
    if study.config.storage is None:
        study.folder.mkdir(parents=True, exist_ok=True)
    try:
        queue = study.queue
        found = queue.prepare(study.definition())
    except UserError:
        if made and study.folder.is_dir():
            study.folder.rmdir()
        raise
    _same(study, found)
    study.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(study.folder / "study.yaml", to_yaml(study.config))
    if queue.attribute("started") is None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        queue.set_attribute("started", now)


def _same(study: Study, found: dict[str, Any]) -> None:
    """Refuse to go on with a study of other settings; one that is given further seeds goes on."""
    ours = study.definition()
    differing = differences(found, ours)
    grown = {name for name, _, _ in differing} == {"seeds"} and set(found["seeds"]) <= set(
        ours["seeds"]
    )
    if grown:
        study.queue.redefine(ours)
        return
    if not differing:
        return
    hints = [f"{name}: {there} there, {here} here" for name, there, here in differing[:SHOWN]]
    if len(differing) > SHOWN:
        hints.append(f"and {len(differing) - SHOWN} more keys")
    hints.append("name another one: study.name=NAME, and another folder: study_dir=DIR")
    raise UserError(
        f"the study '{study.config.study.name}' is there already with other settings",
        where=f"storage={study.config.storage}" if study.config.storage else str(study.folder),
        hints=hints,
    )


def _run(study: Study) -> None:
    """Hand the jobs to workers until all are over."""
    queue = study.queue
    records = queue.records()
    open_jobs = sum(not record.over for record in records.values())
    workers = min(_workers(study.config), open_jobs)
    if not workers:
        return
    parent = _parent(study)
    signalled: list[int] = []
    asked = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        signalled.append(number)
        asked.set()

    before = {n: signal.signal(n, remember) for n in (signal.SIGINT, signal.SIGTERM)}
    print(crew_line(workers, study.config.threads), file=sys.stderr, flush=True)
    crew = Crew(study, workers)
    written = time.monotonic()
    try:
        with Display(study) as display:
            while not signalled:
                began = time.process_time()
                records = queue.records()
                display.show(records, crew.at_work)
                if all(record.over for record in records.values()):
                    break
                crew.look_after()
                if not crew.at_work:
                    raise UserError(
                        "no worker is left: each ended again and again", hints=crew.last_words()
                    )
                if time.monotonic() - written > WRITE_SECONDS:
                    _write(study)
                    written = time.monotonic()
                taken = time.process_time() - began
                asked.wait(min(max(LOOK_SECONDS, 50 * taken), MOST_LOOK_SECONDS))
    finally:
        crew.stop(signalled[0] if signalled else signal.SIGTERM)
        for number, handler in before.items():
            signal.signal(number, handler)
        over = all(record.over for record in queue.records().values())
        parent.finish("finished" if over else "interrupted" if signalled else "failed")
    if signalled:
        _write(study)
        print(
            f"interrupted; the same command goes on: {study.command}", file=sys.stderr, flush=True
        )
        raise Interrupted(signalled[0])


def _workers(config: StudyConfig) -> int:
    if config.workers is not None:
        return config.workers
    return max(1, len(os.sched_getaffinity(0)) // config.threads)


def crew_line(workers: int, threads: int) -> str:
    """How many workers of how many threads work on this machine, in words."""
    thread = "1 thread" if threads == 1 else f"{threads} threads"
    return f"1 worker of {thread}" if workers == 1 else f"{workers} workers of {thread} each"


def _parent(study: Study) -> Any:
    """The study's own MLflow run, under which those of its runs are nested."""
    from mtl.record.summary import git_state
    from mtl.record.tracking import make_tracker

    config = study.checker.compose(next(iter(study.plan.arms.values())).settings, "study").record
    tracker = make_tracker(RunFolder(study.folder), enabled=config.mlflow, uri=config.tracking_uri)
    tracker.start(
        experiment=study.config.study.name,
        run_name=f"study {study.config.study.name}",
        parameters={"question": study.config.study.question, "command": study.command},
        tags={"study": study.config.study.name, "kind": "study", "commit": git_state()["commit"]},
    )
    return tracker


def _write(study: Study) -> Results:
    results = collect(study, study.queue.records())
    results.write(study.folder)
    return results


def _report(study: Study, results: Results) -> None:
    from mtl.comparing.analysis import analyse
    from mtl.reporting.page import write_report
    from mtl.reporting.terminal import print_answer

    answer = analyse(results)
    page = write_report(results, answer, study.folder, study.folder / "report")
    print_answer(answer, page)
