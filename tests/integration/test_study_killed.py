"""A study whose workers are killed again and again finds what an undisturbed one finds."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mtl.comparing.results import RESULTS

STUDY = """
name: toy
question: Which of these is better?
settings:
  - "tasks=[microworld_sentiment,microworld_entailment]"
  - decoder=micro
  - tokenizer.vocabulary=300
  - budget.tokens=12000
  - batch.tokens=512
  - record.checkpoint_every=4
  - evaluation.times=3
  - evaluation.rows=40
  - evaluation.selection_rows=40
  - evaluation.resamples=20
  - record.mlflow=false
arms:
  hard_sharing: {settings: [strategy=hard_sharing]}
  signal: {settings: [strategy=task_signal]}
baseline: {settings: [strategy=single_task], exposure: hard_sharing, forms: [divided, same_exposure]}
seeds: [0, 1]
search:
  trials: 2
  pruner: median
  space:
    optimizer.learning_rate: {low: 0.001, high: 0.01, log: true}
"""
TIMES = (
    "seconds",
    "diagnosing_seconds",
    "reused",
    "started",
    "updated",
    "command",
    "peak_memory_bytes",
)
KILLS = 8


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs" / "study"
    folder.mkdir(parents=True)
    (folder / "toy.yaml").write_text(STUDY, encoding="utf-8")
    return folder.parent


def start(configs: Path, folder: Path, workers: int) -> subprocess.Popen[str]:
    words = ["study=toy", f"study_dir={folder}", f"workers={workers}", "--config-dir", str(configs)]
    return subprocess.Popen(
        [sys.executable, "-m", "mtl.study", *words],
        cwd=configs.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return [int(pid) for pid in listed.split()]


def found(folder: Path) -> Any:
    return without_times(json.loads((folder / RESULTS).read_text(encoding="utf-8")))


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    # The folder of the run whose exposure is repeated lies elsewhere in the other study.
    return value.rpartition("/runs/")[2] if isinstance(value, str) else value


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
def test_workers_killed_at_random_points(tmp_path: Path, configs: Path) -> None:
    calm = start(configs, tmp_path / "calm", workers=1)
    dice = random.Random(20)
    disturbed = start(configs, tmp_path / "disturbed", workers=2)
    killed = 0
    while killed < KILLS:
        time.sleep(dice.uniform(0.5, 4.0))
        assert disturbed.poll() is None, disturbed.communicate()[0]
        if pids := workers_of(disturbed):
            os.kill(dice.choice(pids), signal.SIGKILL)
            killed += 1
    # The conductor too dies once, and with it everything; the same command goes on.
    pids = workers_of(disturbed)
    for pid in [disturbed.pid, *pids]:
        os.kill(pid, signal.SIGKILL)
    disturbed.communicate()
    again = start(configs, tmp_path / "disturbed", workers=2)
    said = again.communicate(timeout=240)[0]
    assert again.returncode == 0, said
    said = calm.communicate(timeout=240)[0]
    assert calm.returncode == 0, said
    one, other = found(tmp_path / "calm"), found(tmp_path / "disturbed")
    assert one == other
    assert [run["ending"] for arm in one["arms"] for run in arm["runs"]] == ["finished"] * 8
    assert len([trial for arm in one["arms"] for trial in arm["trials"]]) == 8
