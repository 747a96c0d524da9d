"""The jobs of a study in a storage: each is done once, and none is lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl.config.study_schema import (
    ArmConfig,
    RangeConfig,
    SearchConfig,
    StudyConfig,
    StudyDefinition,
)
from mtl.studying import storage as module
from mtl.studying import worker
from mtl.studying.liveness import is_gone, owner
from mtl.studying.plan import Job, Plan, make_plan
from mtl.studying.scheduling import Schedule
from mtl.studying.search import Search
from mtl.studying.storage import MOST_DEATHS, Outcome, Queue, default_storage, open_storage

SPACE = {"optimizer.learning_rate": RangeConfig(low=1e-4, high=1e-2, log=True)}
SEARCH = SearchConfig(trials=2, space=SPACE)


@pytest.fixture
def plan() -> Plan:
    study = StudyDefinition(
        name="toy",
        question="?",
        arms={
            "a": ArmConfig(settings=["strategy=mt_dnn"]),
            "b": ArmConfig(settings=["init_from={run:a}"], tuned_as="a"),
        },
        seeds=[0, 1],
        search=SEARCH,
    )
    return make_plan(StudyConfig(study=study), ["t"])


@pytest.fixture
def queue(tmp_path: Path, plan: Plan) -> Queue:
    return Queue(open_storage(default_storage(tmp_path)), "toy", plan)


@pytest.fixture
def schedule(plan: Plan) -> Schedule:
    search = Search("a", SEARCH, SPACE, whole=frozenset(), trials=2)
    return Schedule(plan, {"a": search}, lambda arm, seed: True)


def another(queue: Queue) -> Queue:
    """The same study, as another process sees it."""
    url = str(queue.storage._backend.url)
    return Queue(open_storage(url), "toy", queue.plan)


def finish(queue: Queue, job: Job, value: float, ending: str = "finished") -> None:
    record = queue.records()[job]
    assert queue.claim(record)
    values = [value] if job.kind == "trial" and ending == "finished" else []
    parameters = {"optimizer.learning_rate": value} if job.kind == "trial" else {}
    outcome = Outcome(ending=ending, values=values, parameters=parameters)  # type: ignore[arg-type]
    assert queue.end(record, outcome)


def test_every_job_is_there_once_whoever_comes_first(queue):
    other = another(queue)
    with ThreadPoolExecutor(2) as both:
        one, two = both.map(lambda q: q.records(), [queue, other])
    assert [r.trial_id for r in one.values()] == [r.trial_id for r in two.values()]
    assert len(one) == 2 + 2 + 2
    assert {record.state for record in one.values()} == {"WAITING"}


def test_one_of_two_gets_a_job(queue):
    """Each job is asked for by two at the same moment, each with connections of its own."""
    other = another(queue)
    ours, theirs = list(queue.records().values()), list(other.records().values())
    start = threading.Barrier(2)

    def take(pair):
        start.wait()
        return pair[0].claim(pair[1])

    with ThreadPoolExecutor(2) as both:
        for one, two in zip(ours, theirs, strict=True):
            assert sorted(both.map(take, [(queue, one), (other, two)])) == [False, True]


def test_a_job_that_was_given_up_waits_again_and_remembers(queue):
    job, record = next(iter(queue.records().items()))
    assert queue.claim(record)
    queue.report(record, 10, 0.25)
    queue.give_up(record, died=True)
    again = queue.records()[job]
    assert again.state == "WAITING"
    assert again.trial_id != record.trial_id
    assert again.intermediate == {10: 0.25}
    assert again.deaths == 1
    # Whoever was thought dead cannot write any more.
    assert not queue.end(record, Outcome(ending="finished", values=[1.0]))
    assert not queue.beat(record, 5)
    assert queue.claim(again)
    queue.give_up(again, died=False)
    assert queue.records()[job].deaths == 1  # asked to stop is not dead


def test_giving_up_twice_makes_one_job(queue):
    job, record = next(iter(queue.records().items()))
    assert queue.claim(record)
    other = another(queue)
    theirs = other.records()[job]
    queue.give_up(record, died=True)
    other.give_up(theirs, died=True)
    assert queue.records()[job].trial_id == other.records()[job].trial_id
    assert queue.records()[job].deaths == 1


def test_a_finished_job_is_not_given_up(queue):
    job = next(iter(queue.records()))
    finish(queue, job, 0.5)
    queue.give_up(queue.records()[job], died=True)
    record = queue.records()[job]
    assert (record.ending, record.values, record.deaths) == ("finished", [0.5], 0)


def test_a_dead_worker_of_this_machine_is_noticed_at_once(queue):
    job, record = next(iter(queue.records().items()))
    code = "import sys; from mtl.studying.liveness import owner; import json; print(json.dumps(owner()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert queue.claim(record)
    assert queue.abandoned(queue.records()) == []
    queue.storage.set_trial_user_attr(record.trial_id, "owner", json.loads(done.stdout))
    assert [r.job for r in queue.abandoned(queue.records())] == [job]


def test_a_worker_of_another_machine_is_given_up_when_its_claim_is_not_renewed(queue, monkeypatch):
    job, record = next(iter(queue.records().items()))
    assert queue.claim(record)
    queue.storage.set_trial_user_attr(
        record.trial_id, "owner", {"host": "elsewhere", "pid": 1, "started": "0"}
    )
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    assert queue.abandoned(queue.records()) == []
    clock[0] += module.GRACE_SECONDS - 1
    queue.beat(record, 7)
    assert queue.abandoned(queue.records()) == []
    clock[0] += module.GRACE_SECONDS - 1
    assert queue.abandoned(queue.records()) == []
    clock[0] += 2
    assert [r.job for r in queue.abandoned(queue.records())] == [job]


def test_this_process_is_not_gone():
    assert not is_gone(owner())
    assert is_gone({**owner(), "started": "1"})  # another process that got the same number
    assert not is_gone({**owner(), "host": "elsewhere"})
    assert not is_gone(None)


def test_large_results_come_back_whole(queue):
    job = next(iter(queue.records()))
    record = queue.records()[job]
    assert queue.claim(record)
    dice = random.Random(0)
    content = {"curves": {f"name {i}": [[j, dice.random()] for j in range(100)] for i in range(60)}}
    assert queue.end(record, Outcome(ending="finished", values=[0.1], content=content))
    found = another(queue).records()[job]
    assert found.content() == content
    pieces = [v for k, v in found.attributes.items() if k.startswith("content:")]
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= module.PIECE


def test_the_order_of_jobs(queue, schedule):
    def ready() -> list[str]:
        return [record.job.name for record in schedule.ready(queue.records())]

    assert ready() == ["tuning/a/000"]
    finish(queue, Job(kind="trial", arm="a", number=0), 0.003)
    assert ready() == ["tuning/a/001"]
    finish(queue, Job(kind="trial", arm="a", number=1), 0.004)
    assert ready() == ["runs/a/seed0", "runs/a/seed1"]
    run = Job(kind="run", arm="a", number=0)
    assert schedule.parameters(run, queue.records()) == {"optimizer.learning_rate": 0.004}
    finish(queue, run, 0.0)
    assert ready() == ["runs/b/seed0", "runs/a/seed1"] or ready() == [
        "runs/a/seed1",
        "runs/b/seed0",
    ]
    follower = Job(kind="run", arm="b", number=0)
    assert schedule.parameters(follower, queue.records()) == {"optimizer.learning_rate": 0.004}


def test_of_equal_trials_the_first_is_chosen(queue, schedule):
    for number in (0, 1):
        record = queue.records()[Job(kind="trial", arm="a", number=number)]
        assert queue.claim(record)
        parameters = {"optimizer.learning_rate": 0.001 * (number + 1)}
        assert queue.end(record, Outcome(ending="finished", values=[0.5], parameters=parameters))
    chosen = schedule.chosen("a", queue.records())
    assert chosen is not None
    assert chosen.job.number == 0


def test_what_cannot_be_done_says_why(queue, schedule):
    for number in (0, 1):
        finish(queue, Job(kind="trial", arm="a", number=number), 0.0, ending="diverged")
    run = Job(kind="run", arm="a", number=0)
    records = queue.records()
    assert records[Job(kind="trial", arm="a", number=0)].ending == "diverged"
    assert next(record.job for record in schedule.ready(records)) == run
    assert schedule.hopeless(run, records) == "no trial of the search of arm 'a' finished"
    finish(queue, run, 0.0, ending="failed")
    follower = Job(kind="run", arm="b", number=0)
    assert "search of arm 'a'" in (schedule.hopeless(follower, queue.records()) or "")


def test_a_run_that_lies_on_another_machine_is_left_to_it(queue, plan, schedule):
    for number in (0, 1):
        finish(queue, Job(kind="trial", arm="a", number=number), 0.1)
    finish(queue, Job(kind="run", arm="a", number=0), 0.0)
    elsewhere = Schedule(plan, schedule.searches, lambda arm, seed: False)
    assert [r.job.name for r in elsewhere.ready(queue.records())] == ["runs/a/seed1"]


def test_a_job_that_no_process_survives_is_recorded_as_failed(queue, schedule, capsys):
    job = Job(kind="trial", arm="a", number=0)
    for _ in range(MOST_DEATHS):
        record = queue.records()[job]
        assert record.state == "WAITING"
        assert queue.claim(record)
        queue.give_up(record, died=True)
    study = SimpleNamespace(queue=queue, schedule=schedule, searches={}, runner=None)
    assert worker._do(study, queue.records()[job])  # without a runner: nothing is run
    ended = queue.records()[job]
    assert ended.state == "FAIL"
    assert ended.attributes["ending"] == "failed"
    assert ended.attributes["reason"] == (
        f"its process died {MOST_DEATHS} times, perhaps for want of memory"
    )
    assert job.name in capsys.readouterr().out
