from __future__ import annotations

import io
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.record import progress as module
from mtl.record.progress import Progress, losses_line, progress_line

TASKS = ["sst2", "cola", "mrpc", "rte", "stsb", "trec", "qnli", "copa", "question_answering"]


def test_losses_are_shown_whole_then_short_then_counted() -> None:
    losses = dict.fromkeys(TASKS, 0.5)
    assert losses_line({"sst2": 0.691, "cola": 0.5}, 80) == "loss  sst2 0.691  cola 0.500"
    assert losses_line(losses, 200).endswith("question_answering 0.500")
    assert losses_line(losses, 113).endswith("quest. 0.500")
    assert losses_line(losses, 60) == "loss  sst2 0.500  cola 0.500  mrpc 0.500  rte 0.500  +5 more"
    assert losses_line({}, 80) == ""


@given(
    st.dictionaries(st.text("abcdef_", min_size=1, max_size=30), st.floats(0, 1000), max_size=40),
    st.integers(20, 200),
)
def test_losses_always_fit_and_account_for_every_task(losses: dict[str, float], width: int) -> None:
    line = losses_line(losses, width)
    assert len(line) <= width
    if line.startswith("loss  "):
        more = int(line.rsplit("+", 1)[1].split()[0]) if line.endswith("more") else 0
        shown = line.removesuffix(f"  +{more} more").removeprefix("loss  ").split("  ")
        assert len(shown) + more == len(losses)


def test_the_line_beside_the_bar() -> None:
    moment = module._Moment(430, 1000, 860_000, 2_000_000, {}, 9.1e-4)
    assert progress_line(moment, 20_000.0) == (
        "step 430/1000  860 k/2.00 M tokens  20.0 k tokens/s  57.0 s left  lr 9.1e-04"
    )
    assert progress_line(moment, None) == "step 430/1000  860 k/2.00 M tokens  lr 9.1e-04"


def test_speed_is_that_of_the_last_stretch_and_ignores_stages() -> None:
    progress = Progress(shown=False)
    assert progress._speed(0.0, 1000) is None
    assert progress._speed(10.0, 2000) == 100.0
    assert progress._speed(31.0, 8300) == 300.0  # the first sample is too old
    with progress.stage("scoring"):
        progress._speed(100.0, 8300)
    assert progress._speed(101.0, 8300) is None
    assert progress._speed(102.0, 8800) == 500.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_when_not_a_terminal(capsys: Any) -> None:
    with Progress("mt_dnn") as progress, progress.stage("loading tasks"):
        progress.update(1, 2, 10, 20, {"sst2": 0.5}, 1e-3)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_it_and_long_stages_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "WORTH_A_LINE_SECONDS", 0.05)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("mt_dnn") as progress:
        with progress.stage("loading [bold]tasks"):
            time.sleep(0.1)
        with progress.stage("quick"):
            pass
        progress.update(430, 1000, 860_000, 2_000_000, {"sst2": 0.5}, 1e-3)
        progress._live.refresh()
    drawn = terminal.getvalue()
    assert "loading [bold]tasks: 0.1 s\n" in drawn
    assert "quick:" not in drawn
    assert "mt_dnn  43%" in drawn
    assert "loss  sst2 0.500" in drawn


def test_a_step_costs_less_than_a_tenth_of_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    losses = dict.fromkeys(TASKS, 0.5)
    with Progress("mt_dnn") as progress:
        began = time.process_time()
        for step in range(10_000):
            progress.update(step, 10_000, step, 10_000, losses, 1e-3)
        assert (time.process_time() - began) / 10_000 < 1e-4
