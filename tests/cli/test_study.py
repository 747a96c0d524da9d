"""What ``python -m mtl.study`` says to a mistake: exit status 2, one message, and nothing made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere

TOY = """# toy
name: toy
question: Which of these is better?
settings: ["tasks=[microworld_sentiment]", decoder=micro, budget.tokens=4000, record.mlflow=false]
arms:
  hard_sharing: {settings: [strategy=hard_sharing]}
  signal: {settings: [strategy=task_signal]}
reference: hard_sharing
seeds: [0]
search:
  trials: 1
  space: {optimizer.learning_rate: {low: 0.001, high: 0.01, log: true}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "own" / "study").mkdir(parents=True)
    (tmp_path / "own" / "study" / "toy.yaml").write_text(TOY, encoding="utf-8")
    return tmp_path


def ask(place: Path, *words: str, toy: bool = True) -> subprocess.CompletedProcess[str]:
    given = ["study=toy", "--config-dir", "own", *words] if toy else list(words)
    environment = {**os.environ, "NO_COLOR": "1"}
    return elsewhere.python("-m", "mtl.study", *given, cwd=place, env=environment)


def refused(place: Path, *words: str, toy: bool = True) -> str:
    """The message, when all is as it has to be after a mistake."""
    before = sorted(place.rglob("*"))
    done = ask(place, *words, toy=toy)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert sorted(place.rglob("*")) == before
    return done.stderr


def test_a_study_that_does_not_exist(place):
    message = refused(place, "study=paradigm", toy=False)
    assert message.startswith(
        "error: unknown study 'paradigm' (command line: study=paradigm)\n  did you mean: paradigms\n"
    )


def test_an_arm_that_does_not_exist(place):
    assert refused(place, "study.reference=signl") == (
        "error: unknown arm 'signl' (study.reference=signl)\n"
        "  did you mean: signal\n"
        "  available: hard_sharing, signal\n"
    )


def test_a_strategy_that_does_not_exist(place):
    message = refused(place, "study.arms.signal.settings=['strategy=task_singal']")
    assert message.startswith(
        "error: unknown strategy 'task_singal' (study toy, arm signal: strategy=task_singal)\n"
        "  did you mean: task_signal\n"
    )


def test_a_metric_that_no_task_has(place):
    assert refused(place, "study.metric=microworld_sentiment/acuracy") == (
        "error: unknown metric 'microworld_sentiment/acuracy' "
        "(study.metric=microworld_sentiment/acuracy)\n"
        "  did you mean: microworld_sentiment/accuracy\n"
        "  available: average, microworld_sentiment/accuracy, microworld_sentiment/f1\n"
    )


def test_a_misspelt_key_in_the_search_space(place):
    assert refused(place, "study.search.space={optimizer.learning_rat: {low: 0.1, high: 1}}") == (
        "error: unknown key 'optimizer.learning_rat' "
        "(search space of arm hard_sharing: optimizer.learning_rat=0.1)\n"
        "  did you mean: optimizer.learning_rate\n"
        "  optimizer.learning_rate: float, default 0.002. Highest learning rate.\n"
    )


def test_an_empty_range(place):
    assert refused(place, "study.search.space={optimizer.warmup: {low: 0.2, high: 0.1}}") == (
        "error: the range is empty: low 0.2 is not below high 0.1 "
        "(study.search.space.optimizer.warmup)\n"
    )


def test_a_value_out_of_range_at_an_end(place):
    message = refused(place, "study.search.space={decoder.dropout: {low: 0, high: 1}}")
    assert message.startswith(
        "error: decoder.dropout must be at least 0 and below 1, found 1.0 "
        "(search space of arm hard_sharing: decoder.dropout=1)\n"
    )


def test_a_setting_that_tells_the_arms_apart(place):
    assert refused(place, "strategy=mt_dnn") == (
        "error: strategy distinguishes the arms of the study 'toy' (command line: strategy=mt_dnn)\n"
        "  set by: hard_sharing, signal\n"
    )


def test_a_setting_that_is_searched(place):
    assert refused(place, "optimizer.learning_rate=1e-3") == (
        "error: optimizer.learning_rate is searched by the study 'toy' "
        "(command line: optimizer.learning_rate=1e-3)\n"
        "  without a search: study.search.trials=0\n"
    )


def test_a_seed(place):
    assert refused(place, "seed=3") == (
        "error: seed is not for a study (command line: seed=3)\n"
        "  a study has several: study.seeds=[0,1,2]\n"
    )


def test_a_misspelt_setting_of_fit(place):
    message = refused(place, "budget.token=3")
    assert message.startswith(
        "error: unknown key 'budget.token' (command line: budget.token=3)\n"
        "  did you mean: budget.tokens\n"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not the URL of a database: Could not parse SQLAlchemy URL from given URL"),
        ("sqlite:////nowhere/x.db", "the storage does not answer: unable to open database file"),
        ("oracl://x/y", "not the URL of a database: Can't load plugin: sqlalchemy.dialects:oracl"),
    ],
)
def test_a_storage_that_cannot_be_reached(place, url, message):
    said = refused(place, f"storage={url}")
    assert said.startswith(f"error: {message}")
    assert f"(storage={url})" in said


def test_multirun(place):
    assert refused(place, "--multirun") == "error: a study is many runs already (--multirun)\n"


def test_two_studies_of_one_name(place):
    done = ask(place, "workers=0")
    assert done.returncode == 0, done.stderr
    again = ask(place, "workers=0", "budget.tokens=8000", "study.search.trials=2")
    assert again.returncode == 2
    assert again.stderr == (
        "error: the study 'toy' is there already with other settings (runs/study-toy)\n"
        "  trials: 1 there, 2 here\n"
        "  arms.hard_sharing.settings.budget: 4000 there, 8000 here\n"
        "  arms.signal.settings.budget: 4000 there, 8000 here\n"
        "  name another one: study.name=NAME, and another folder: study_dir=DIR\n"
    )
    same = ask(place, "workers=0", "study.seeds=[0,1]")  # only more of the same
    assert same.returncode == 0, same.stderr
    fewer = ask(place, "workers=0", "study.seeds=[1]")
    assert fewer.returncode == 2
    assert "  seeds: [0, 1] there, [1] here\n" in fewer.stderr


def test_help_teaches(place):
    done = ask(place, "--help", toy=False)
    assert done.returncode == 0
    for text in (
        "study=paradigms",
        "paradigms",
        "from studies/",
        "study.search.trials: int",
        "--config-dir DIR",
    ):
        assert text in done.stdout
