"""Soft sharing of strength 0 against single_task on the same exposure, run to run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fitting

from mtl import fit

RUN = [*fitting.SMALL, "budget.steps=6", "evaluation.times=1", "decoder.dropout=0.1"]


def weights(run, before, after):
    """The weights of a run whose names begin with ``before``, under names that begin with ``after``."""
    saved = fitting.checkpoint(run.path)["state_dict"]
    return {
        after + name.removeprefix(before): value
        for name, value in saved.items()
        if name.startswith(before)
    }


def test_strength_0_is_single_task_to_the_last_bit(tmp_path):
    """Weights, answers and counts, with dropout; with another strength the weights are others."""
    soft = [*RUN, "strategy=soft_sharing"]
    together, pulled = (
        fit.run([*soft, f"strategy.strength={strength}", f"run_dir={tmp_path / strength}"])
        for strength in ("0", "1")
    )
    like = ["budget.steps=null", f"budget.like={together.path}"]
    alone = fit.run([*RUN, "strategy=single_task", *like, f"run_dir={tmp_path / 'alone'}"])
    for task in together.summary["tasks"]:
        copy = f"strategy.copies.{task}."
        expected = weights(alone, copy, copy)
        for run, equal in ((together, True), (pulled, False)):
            tower = weights(run, f"strategy.towers.{task}.", f"{copy}decoder.")
            head = weights(run, f"strategy.heads.heads.{task}.", f"{copy}heads.heads.{task}.")
            found = {**tower, **head}
            assert found.keys() == expected.keys()
            assert fitting.same(found, expected) == equal, task
    for path in sorted((together.path / "predictions").iterdir()):
        assert path.read_bytes() == (alone.path / "predictions" / path.name).read_bytes(), path.name
    mine, theirs = (run.summary["ledger"] for run in (together, alone))
    for key in ("tokens_by_task", "examples_by_task", "target_tokens_by_task", "parameters"):
        assert mine[key] == theirs[key], key
