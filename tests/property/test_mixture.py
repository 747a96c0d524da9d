"""Mixture rates: known answers, limits and the person's mistakes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.config.schema import MixtureConfig, MixtureGroup
from mtl.data.mixture import rates

sizes = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 10**7), min_size=1)


@given(sizes, st.floats(0.1, 1000), st.none() | st.integers(1, 10**6))
def test_rates_sum_to_one_and_follow_the_sizes(
    n: dict[str, int], temperature: float, cap: int | None
) -> None:
    config = MixtureConfig(name="temperature", temperature=temperature, cap=cap)
    found = rates(n, config)
    assert list(found) == list(n)
    assert sum(found.values()) == pytest.approx(1)
    by_size = [found[task] for task in sorted(n, key=lambda task: n[task])]
    assert by_size == sorted(by_size)


@given(sizes)
def test_temperature_one_is_proportional_and_a_large_one_equal(n: dict[str, int]) -> None:
    proportional = rates(n, MixtureConfig(name="proportional"))
    assert proportional == {task: pytest.approx(m / sum(n.values())) for task, m in n.items()}
    assert rates(n, MixtureConfig(name="temperature", temperature=1.0)) == proportional
    equal = rates(n, MixtureConfig(name="equal"))
    assert equal == {task: pytest.approx(1 / len(n)) for task in n}
    hot = rates(n, MixtureConfig(name="temperature", temperature=1e9))
    assert hot == {task: pytest.approx(rate, abs=1e-6) for task, rate in equal.items()}


def test_known_answers() -> None:
    n = {"large": 400, "small": 25}
    assert rates(n, MixtureConfig(name="temperature", temperature=2.0)) == {
        "large": pytest.approx(20 / 25),
        "small": pytest.approx(5 / 25),
    }
    # The cap comes before the temperature: sqrt(100) and sqrt(25), not min(sqrt(400), 100).
    assert rates(n, MixtureConfig(name="temperature", temperature=2.0, cap=100)) == {
        "large": pytest.approx(10 / 15),
        "small": pytest.approx(5 / 15),
    }
    assert rates(n, MixtureConfig(name="capped", cap=75))["large"] == pytest.approx(0.75)
    explicit = MixtureConfig(name="explicit", rates={"small": 3, "large": 1})
    assert rates(n, explicit) == {"large": 0.25, "small": 0.75}
    assert np.isclose(
        rates({"a": 1, "b": 10**7}, MixtureConfig(name="temperature", temperature=1e-3))["b"], 1
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            MixtureConfig(name="explicit", rates={"sst": 1, "rte": 1}),
            "unknown task 'sst' (mixture.rates.sst=1)\n  did you mean: sst2\n  available: rte, sst2",
        ),
        (
            MixtureConfig(name="explicit", rates={"rte": 1}),
            "no rate is given for sst2 (mixture.rates)\n"
            "  give every chosen task a rate; 0 leaves it out of training",
        ),
        (
            MixtureConfig(name="explicit", rates={"rte": -1, "sst2": 2}),
            "a rate is a number of 0 or more (mixture.rates.rte=-1)",
        ),
        (
            MixtureConfig(name="explicit", rates={"rte": 0, "sst2": 0}),
            "all rates are 0, so nothing would be trained (mixture.rates)",
        ),
        (
            MixtureConfig(name="temperature", temperature=0.0),
            "the temperature of a mixture is a number above 0 (mixture.temperature=0.0)\n"
            "  1 is proportional to rows, a large one tends to equal",
        ),
        (
            MixtureConfig(name="proportional", cap=0),
            "the cap of a mixture is at least 1 row (mixture.cap=0)",
        ),
    ],
)
def test_mistakes(config: MixtureConfig, message: str) -> None:
    with pytest.raises(UserError) as raised:
        rates({"sst2": 10, "rte": 5}, config)
    assert str(raised.value) == message


def nested(rates: dict[str, float], **groups: MixtureGroup) -> MixtureConfig:
    return MixtureConfig(name="nested", rates=rates, groups=groups)


def test_groups_share_their_rate_by_their_own_rule() -> None:
    config = nested(
        {"glue": 7, "rest": 3},
        glue=MixtureGroup(tasks=["sst2", "cola"], rule="temperature", temperature=2.0),
        rest=MixtureGroup(tasks=["copa", "trec"], rule="explicit", rates={"copa": 2, "trec": 1}),
    )
    assert rates({"sst2": 400, "cola": 25, "copa": 9, "trec": 8}, config) == pytest.approx(
        {"sst2": 0.7 * 0.8, "cola": 0.7 * 0.2, "copa": 0.2, "trec": 0.1}
    )


@given(sizes, st.floats(0.1, 10))
def test_one_group_is_its_rule_and_groups_of_their_sizes_are_no_groups(
    n: dict[str, int], temperature: float
) -> None:
    tasks = list(n)
    one = MixtureGroup(tasks=tasks, rule="temperature", temperature=temperature, cap=1000)
    alone = MixtureConfig(name="temperature", temperature=temperature, cap=1000)
    assert rates(n, nested({"all": 3}, all=one)) == pytest.approx(rates(n, alone))
    halves = {"first": tasks[: len(tasks) // 2], "second": tasks[len(tasks) // 2 :]}
    groups = {name: MixtureGroup(tasks=own) for name, own in halves.items() if own}
    between = {name: float(sum(n[task] for task in group.tasks)) for name, group in groups.items()}
    assert rates(n, nested(between, **groups)) == pytest.approx(
        rates(n, MixtureConfig(name="proportional"))
    )


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["sst2"]}, "each task stands in exactly one group, 'rte' stands in no group"),
        (
            {"a": ["sst2", "rte"], "b": ["rte"]},
            "each task stands in exactly one group, 'rte' stands in a and b",
        ),
        ({"a": ["sst2", "rte"], "b": []}, "a group has at least one task"),
        ({"a": ["sst2", "rtr"]}, "unknown task 'rtr'"),
    ],
)
def test_mistakes_in_groups(groups: dict[str, list[str]], message: str) -> None:
    made = {name: MixtureGroup(tasks=tasks) for name, tasks in groups.items()}
    with pytest.raises(UserError) as raised:
        rates({"sst2": 10, "rte": 5}, nested(dict.fromkeys(groups, 1.0), **made))
    assert raised.value.problem == message
    assert (raised.value.where or "").startswith("mixture.groups")
