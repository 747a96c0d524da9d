"""The workers of this machine: started, started again when one dies, and stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mtl.studying.study import Study

QUICK_SECONDS = 10.0
"""A worker that dies sooner than this has hardly begun."""
MOST_QUICK = 20
"""A worker that dies so soon this often in a row is not started again."""
PATIENCE_SECONDS = 120.0
"""A worker that was asked to stop may finish its step for this long."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Crew:
    """Worker processes of one study.

    :param count: How many.
    """

    def __init__(self, study: Study, count: int):
        self._study = study
        self._logs = study.folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._quick = [0] * count
        self._started = [0.0] * count
        self._workers: list[subprocess.Popen[str] | None] = [None] * count
        for place in range(count):
            self._start(place)

    @property
    def at_work(self) -> int:
        """Workers that are alive."""
        return sum(worker is not None and worker.poll() is None for worker in self._workers)

    def look_after(self) -> None:
        """Start those again that died."""
        for place, worker in enumerate(self._workers):
            if worker is None or worker.poll() in (None, 0):
                continue
            soon = time.monotonic() - self._started[place] < QUICK_SECONDS
            self._quick[place] = self._quick[place] + 1 if soon else 0
            if self._quick[place] < MOST_QUICK:
                self._start(place)
            else:
                self._workers[place] = None

    def stop(self, number: int) -> None:
        """Pass a signal on and wait until all have ended."""
        for worker in self._workers:
            if worker is not None and worker.poll() is None:
                worker.send_signal(number)
        until = time.monotonic() + PATIENCE_SECONDS
        for worker in self._workers:
            if worker is None:
                continue
            try:
                worker.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.send_signal(signal.SIGKILL)
                worker.wait()

    def last_words(self) -> list[str]:
        """The last line that each worker wrote, for a person who asks why none is left."""
        words = []
        for log in sorted(self._logs.glob("worker-*.txt")):
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                words.append(f"{log}: {lines[-1]}")
        return words

    def _start(self, place: int) -> None:
        self._started[place] = time.monotonic()
        threads = str(self._study.config.threads)
        environment = {**os.environ, **dict.fromkeys(THREADS, threads)}
        with self._log(place).open("a", encoding="utf-8") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "mtl.studying.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env=environment,
                # A key that interrupts the study is passed on once, rather than reaching each worker as well.
                start_new_session=True,
            )
        self._workers[place] = worker
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, and is started again
            worker.stdin.write(self._study.order().text() + "\n")
            worker.stdin.close()

    def _log(self, place: int) -> Path:
        return self._logs / f"worker-{place}.txt"
