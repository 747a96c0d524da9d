"""Mixtures from the command to the record: planned and realised, with a schedule, shared rows and less data."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import fitting
import moods

from mtl import fit

# How long a text of the moods is: read as the moods are, asked otherwise.
LENGTH = """kind: regression
source: {folder: moods}
segments: ["{{ text }}"]
target: "{{ text.split() | length }}"
range: [0, 10]
"""
COMMON = [
    *moods.SMALL,
    "batch.tokens=256",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "evaluation.resamples=2",
    "evaluation.times=1",
    "mixture=proportional",
    "record.every=1",
]
SHARED = ["strategy=mixed_batch", "tasks=[moods,length,pairs]", "budget.tokens=6000"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    folder = moods.build(tmp_path)
    moods.write(folder / "mine" / "task" / "length.yaml", LENGTH)
    monkeypatch.chdir(folder)


def run(*arguments):
    return fit.run([*COMMON, *arguments], config_dir="mine")


def summary(*arguments):
    return json.loads(run(*arguments).folder.summary.read_text())


def test_rows_that_two_tasks_read_are_computed_once_and_counted_once():
    together, apart = (
        summary(*SHARED, f"strategy.same_rows={how}", f"run_dir={how}")
        for how in ("together", "apart")
    )
    for found in (together, apart):
        ledger = found["ledger"]
        assert sum(ledger["tokens_by_task"].values()) == ledger["tokens"]
        assert ledger["tokens"] - 6000 < 256
        for name, exposure in found["mixture"].items():
            assert exposure["tokens"] == ledger["tokens_by_task"][name]
            assert exposure["rows"] == ledger["examples_by_task"][name]
    more = sum(together["ledger"]["examples_by_task"].values())
    assert more > 1.25 * sum(apart["ledger"]["examples_by_task"].values())
    passes = [exposure["passes"] for exposure in together["mixture"].values()]
    assert max(passes) - min(passes) < 1


def test_a_run_with_shared_rows_resumes_as_if_it_had_never_stopped(monkeypatch):
    arguments = [*SHARED, "budget.tokens=null", "budget.steps=20", "record.checkpoint_every=3"]
    whole = run(*arguments, "run_dir=whole").path
    status, _, error = fitting.fit_elsewhere(
        ["--config-dir", "mine", *COMMON, *arguments, "run_dir=part"],
        Path.cwd(),
        hook=("in_step", 10),
    )
    assert status != 0, error
    fit.run(["resume=part"])
    fitting.assert_same_run(whole, Path("part"))


def test_tasks_that_share_no_row_are_as_if_there_were_no_such_setting():
    arguments = ["strategy=mixed_batch", "tasks=[moods,echo,pairs]", "budget.tokens=3000"]
    one, other = (
        run(*arguments, f"strategy.same_rows={how}", f"run_dir={how}").folder.metrics.read_text()
        for how in ("together", "apart")
    )
    assert one == other


@pytest.mark.parametrize("strategy", ["mixed_batch", "mt_dnn", "hard_sharing"])
def test_a_schedule_is_followed(strategy):
    found = summary(
        f"strategy={strategy}",
        "tasks=[moods,pairs]",
        "budget.tokens=20000",
        "mixture.schedule=[{at: 1, rule: explicit, rates: {moods: 0, pairs: 1}}]",
        "run_dir=run",
    )["mixture"]
    # From 1:1 (as many rows) to 0:1.
    assert found["moods"]["planned"] == pytest.approx(0.25, abs=0.001)
    rows = {name: exposure["rows"] for name, exposure in found.items()}
    assert rows["moods"] / sum(rows.values()) == pytest.approx(0.25, abs=0.05)


def test_groups_are_drawn_by_their_rates():
    found = summary(
        "strategy=mixed_batch",
        "tasks=[moods,echo,pairs]",
        "budget.tokens=10000",
        "mixture=nested",
        "mixture.groups={texts: {tasks: [moods, echo]}, words: {tasks: [pairs]}}",
        "mixture.rates={texts: 1, words: 3}",
        "run_dir=run",
    )["mixture"]
    assert {name: exposure["planned"] for name, exposure in found.items()} == pytest.approx(
        {"moods": 0.125, "echo": 0.125, "pairs": 0.75}
    )
    rows = {name: exposure["rows"] for name, exposure in found.items()}
    assert rows["pairs"] / sum(rows.values()) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(("pack", "fixed"), [("once", True), ("every_epoch", False)])
def test_mt_dnn_batches_are_packed_once_or_anew(pack, fixed, monkeypatch):
    from mtl.learning.module import MultiTaskModule

    contents = []
    training_step = MultiTaskModule.training_step

    def watched(self, batches, index):
        (batch,) = batches
        contents.append((int(batch.task[0]), batch.rows))
        return training_step(self, batches, index)

    monkeypatch.setattr(MultiTaskModule, "training_step", watched)
    run(
        "strategy=mt_dnn",
        f"strategy.pack={pack}",
        "tasks=[moods,pairs]",
        "budget.tokens=null",
        "budget.epochs=2",
        "run_dir=run",
    )
    first, second = contents[: len(contents) // 2], contents[len(contents) // 2 :]
    assert first != second
    assert (sorted(first) == sorted(second)) is fixed


def test_a_fraction_of_the_rows_trains_and_the_record_says_so():
    found = summary(
        "strategy=mixed_batch",
        "tasks=[moods,pairs]",
        "fraction={moods: 0.1}",
        "budget.tokens=2000",
        "run_dir=run",
    )["data"]
    assert found["moods"]["rows"]["train"] == 11
    assert found["pairs"]["rows"]["train"] == 108
    assert any(
        "11 of 108 rows of train (fraction 0.1, seed 0)" in n for n in found["moods"]["notes"]
    )
