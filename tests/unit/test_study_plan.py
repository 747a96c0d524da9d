"""Arms, runs and settings of a study."""

from __future__ import annotations

from typing import Any

import pytest

from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.studies import find_studies
from mtl.config.study_schema import (
    ArmConfig,
    BaselineConfig,
    RangeConfig,
    SearchConfig,
    SizeConfig,
    StudyConfig,
    StudyDefinition,
)
from mtl.study import for_study
from mtl.studying.plan import Job, common_settings, make_plan
from mtl.studying.settings import merged, runs_named, with_runs, written


def study(**given: Any) -> StudyConfig:
    over = {name: given.pop(name) for name in ("size", "settings_given") if name in given}
    definition = StudyDefinition(
        **{
            "name": "toy",
            "question": "?",
            "arms": {"a": ArmConfig(settings=["strategy=mt_dnn"])},
            "seeds": [0, 1],
            **given,
        }
    )
    return StudyConfig(
        study=definition,
        settings=over.get("settings_given", []),
        size=over.get("size", "small"),
    )


def test_later_settings_replace_earlier_ones_of_the_same_meaning():
    assert merged(["seed=1", "decoder=tiny"], ["seed=2"]) == ["decoder=tiny", "seed=2"]
    assert merged(["budget.tokens=5", "batch.tokens=2"], ["budget.steps=3"]) == [
        "batch.tokens=2",
        "budget.steps=3",
    ]
    assert merged(["suite=glue"], ["tasks=[rte]"]) == ["tasks=[rte]"]
    assert merged(["suite=glue", "tasks=[rte]"]) == ["suite=glue", "tasks=[rte]"]
    assert merged(["a=1"], ["a.b=2"]) == ["a=1", "a.b=2"]


def test_runs_of_other_arms_are_named_and_filled_in():
    settings = ["init_from={run:a/4}", "x=1"]
    assert runs_named(settings) == ["a/4"]
    assert with_runs(settings, lambda arm: f"/r/{arm}") == ["init_from=/r/a/4", "x=1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2, "0.30000000000000004"), (True, "true"), (None, "null"), (3, "3"), ("x", "x")],
)
def test_values_are_written_to_the_last_digit(value, text):
    assert written(value) == text


def test_arms_stand_at_every_combination_of_levels():
    plan = make_plan(
        study(
            arms={"a": ArmConfig(settings=["strategy=mt_dnn"]), "s": ArmConfig(source=True)},
            axes={
                "decoder": {"x": ["decoder=tiny"], "y": ["decoder=small"]},
                "rate": {"1": ["fraction=1"], "2": ["fraction=0.5"]},
            },
        ),
        ["t"],
    )
    assert list(plan.arms) == ["a/x/1", "a/x/2", "a/y/1", "a/y/2", "s"]
    assert plan.arms["a/y/2"].factors == {"decoder": "y", "rate": "2"}
    assert plan.arms["a/y/2"].settings == ["decoder=small", "fraction=0.5", "strategy=mt_dnn"]
    assert plan.arms["s"].role == "source"


def test_a_study_at_size_has_further_levels():
    given = {
        "axes": {"tasks": {"2": ["tasks=[t,u]"]}},
        "full": SizeConfig(axes={"tasks": {"3": ["tasks=[t,u,v]"]}}),
    }
    assert list(make_plan(study(**given), ["t"]).arms) == ["a/2"]
    plan = make_plan(study(**given, size="full"), ["t"])
    assert list(plan.arms) == ["a/2", "a/3"]
    assert plan.axes == {"tasks": ["2", "3"]}
    assert plan.arms["a/3"].settings == ["tasks=[t,u,v]", "strategy=mt_dnn"]


def test_pairs_of_tasks_and_each_task_alone():
    plan = make_plan(study(arms={"m": ArmConfig(over="pairs")}), ["t", "u", "v"])
    assert list(plan.arms) == ["m/t", "m/u", "m/v", "m/t+u", "m/t+v", "m/u+v"]
    assert plan.arms["m/t+v"].settings == ["tasks=[t,v]"]


def test_the_baseline_has_three_budgets_and_the_reference_is_tuned_on_what_it_will_see():
    plan = make_plan(
        study(
            settings=["budget.tokens=100"],
            baseline=BaselineConfig(settings=["strategy=single_task"], exposure="a"),
            search=SearchConfig(trials=3, space={"optimizer.learning_rate": RangeConfig()}),
        ),
        ["t"],
    )
    divided, same, whole = (
        plan.arms[f"single_task_{form}"] for form in ("divided", "same_exposure", "whole")
    )
    assert plan.reference == "single_task_same_exposure"
    assert divided.settings == [
        "budget.tokens=100",
        "strategy=single_task",
        "budget.each=divided",
    ]
    assert same.settings == ["strategy=single_task", "budget.like={run:a}"]
    assert same.begins_from == ["a"]
    assert (divided.tuned_as, same.tuned_as, whole.tuned_as) == (None, None, divided.name)
    assert [plan.trials_of(arm) for arm in (divided, same, whole)] == [3, 3, 0]
    jobs = list(plan.jobs())
    assert len(jobs) == 3 * 3 + 1 + 2 * 4
    exposure = Job(kind="run", arm="a", number=plan.search_seed)
    assert jobs[9] == exposure
    assert plan.search_seed not in plan.seeds
    assert {plan.seed_of(job) for job in jobs[:10]} == {plan.search_seed}
    assert jobs[0] == Job(kind="trial", arm="a", number=0)
    assert jobs[1].arm == "single_task_divided"  # by turns, so that no arm is tuned before another
    assert {job.name for job in jobs} >= {"tuning/a/002", "runs/single_task_whole/seed1"}
    assert len({job.name for job in jobs}) == len(jobs)


def test_the_order_of_settings():
    """Study, size, command line, arm: later ones win."""
    config = study(
        settings=["seed=1", "batch.tokens=1", "budget.tokens=1", "decoder=micro"],
        full=SizeConfig(settings=["batch.tokens=2", "budget.tokens=2"], seeds=[7], trials=1),
        arms={"a": ArmConfig(settings=["decoder=small"])},
        size="full",
        settings_given=["budget.steps=3"],
    )
    plan = make_plan(config, ["t"])
    assert plan.arms["a"].settings == [
        "seed=1",
        "batch.tokens=2",
        "budget.steps=3",
        "decoder=small",
    ]
    assert plan.seeds == [7]
    common = common_settings(config)
    assert common == ["seed=1", "decoder=micro", "batch.tokens=2", "budget.steps=3"]


def test_arms_that_are_named_must_exist():
    with pytest.raises(UserError, match="unknown arm 'b'"):
        make_plan(study(arms={"a": ArmConfig(tuned_as="b")}), ["t"])
    with pytest.raises(UserError, match="unknown arm 'c'"):
        make_plan(study(arms={"a": ArmConfig(settings=["init_from={run:c}"])}), ["t"])
    with pytest.raises(UserError, match="did you mean: shared"):
        make_plan(study(arms={"shared": ArmConfig()}, reference="shard"), ["t"])
    with pytest.raises(UserError, match="begins from a run that begins from it"):
        make_plan(
            study(
                arms={
                    "a": ArmConfig(settings=["init_from={run:b}"]),
                    "b": ArmConfig(settings=["init_from={run:a}"]),
                }
            ),
            ["t"],
        )


def test_what_an_arm_under_search_begins_from_is_run_under_its_seed_first():
    plan = make_plan(
        study(
            arms={
                "a": ArmConfig(source=True),
                "b": ArmConfig(source=True, settings=["init_from={run:a}"]),
                "c": ArmConfig(settings=["init_from={run:b}"]),
            },
            search=SearchConfig(trials=2, space={"optimizer.learning_rate": RangeConfig()}),
        ),
        ["t"],
    )
    under = [job for job in plan.jobs() if plan.seed_of(job) == plan.search_seed]
    assert [job.arm for job in under if job.kind == "run"] == ["a", "b"]


def test_settings_of_fit_are_handed_on_and_those_of_the_study_are_kept():
    given = ["study=paradigms", "suite=glue", "study.seeds=[1,2]", "tasks=[a,b]", "workers=3"]
    assert for_study(given) == [
        "study=paradigms",
        "study.seeds=[1,2]",
        "workers=3",
        "settings=['suite=glue','tasks=[a,b]']",
    ]


@pytest.mark.parametrize(
    "setting",
    [
        "tasks=[rte,sst2]",
        "fraction={rte:0.5}",
        "data.root=/a b/'c'",
        "mixture.groups=[{name: 'x', tasks: [a]}]",
        'corpus.url="http://x"',
        "data.root=C:\\x\\",
    ],
)
def test_settings_come_through_the_command_line_as_they_were_written(setting):
    config = compose("study", StudyConfig, for_study(["study=paradigms", setting]))
    assert config.settings == [setting]


@pytest.mark.parametrize("name", find_studies())
def test_every_shipped_study_has_a_plan(name):
    config = compose("study", StudyConfig, [f"study={name}"])
    plan = make_plan(config, ["t", "u", "v"])
    assert config.study.name == name
    assert config.study.question.endswith("?")
    compared = [arm for arm in plan.arms.values() if arm.role != "source"]
    assert len(compared) > 2
    full = make_plan(compose("study", StudyConfig, [f"study={name}", "size=full"]), ["t", "u"])
    assert len(full.seeds) > len(plan.seeds)
