"""Mistakes in a mixture or a fraction are said before anything is read."""

import pytest

from mtl.config.mixing import fraction_names_tasks, mixture_fits

TASKS = ["sst2", "cola", "rte"]
GROUPS = {
    "glue": {"tasks": ["sst2", "cola"], "rule": "temperature", "temperature": 2.0},
    "rest": {"tasks": ["rte"]},
}
BETWEEN = {"glue": 7.0, "rest": 3.0}
EACH = {"sst2": 1.0, "cola": 0.0, "rte": 2.0}


def problems(**mixture):
    found = mixture_fits({"tasks": TASKS, "mixture": {"name": "proportional", **mixture}})
    return [(problem.key.removeprefix("mixture."), problem.expected) for problem in found]


@pytest.mark.parametrize(
    "mixture",
    [
        {},
        {"name": "explicit", "rates": EACH},
        {"name": "capped", "cap": 100},
        {"name": "nested", "groups": GROUPS, "rates": BETWEEN},
        {"schedule": [{"at": 0.5, "rule": "equal"}, {"at": 1, "rule": "explicit", "rates": EACH}]},
        {"name": "explicit", "rates": EACH, "schedule": [{"at": 1}]},
        {"name": "explicit", "rates": EACH, "schedule": [{"at": 1, "rule": "equal"}]},
        {"cap": 100, "schedule": [{"at": 1, "rule": "capped"}]},
        {
            "name": "nested",
            "groups": GROUPS,
            "rates": BETWEEN,
            "schedule": [{"at": 1, "rates": {"glue": 0.0, "rest": 1.0}}],
        },
        {"groups": GROUPS, "schedule": [{"at": 1, "rule": "nested", "rates": BETWEEN}]},
    ],
)
def test_what_fits(mixture):
    assert problems(**mixture) == []


@pytest.mark.parametrize(
    ("mixture", "key", "expected"),
    [
        ({"rates": EACH}, "rates", "empty, unless mixture=explicit"),
        (
            {"name": "explicit", "rates": {"sst": 1.0}},
            "rates",
            "one rate for each of sst2, cola, rte",
        ),
        (
            {"name": "explicit", "rates": dict.fromkeys(TASKS, 0.0)},
            "rates",
            "more than 0 for at least one",
        ),
        ({"name": "explicit", "rates": {**EACH, "cola": -1.0}}, "rates.cola", "0 or more"),
        ({"name": "capped"}, "cap", "given where mixture.name is capped"),
        ({"groups": GROUPS}, "groups", "empty, unless mixture=nested"),
        (
            {"name": "nested", "groups": GROUPS, "rates": {"glue": 1.0}},
            "rates",
            "one rate for each of glue, rest",
        ),
        (
            {"name": "nested", "groups": GROUPS, "rates": dict.fromkeys(GROUPS, 0.0)},
            "rates",
            "more than 0 for at least one",
        ),
        (
            {
                "name": "nested",
                "groups": {"a": {"tasks": ["sst2", "cola"]}, "b": {"tasks": ["cola", "rtr"]}},
                "rates": {"a": 1.0, "b": 1.0},
            },
            "groups",
            "groups in which each chosen task stands once "
            "(in none: rte; in several: cola; not among tasks: rtr)",
        ),
        (
            {
                "name": "nested",
                "groups": {**GROUPS, "none": {"tasks": []}},
                "rates": {**BETWEEN, "none": 1.0},
            },
            "groups.none.tasks",
            "a list of at least one task",
        ),
        (
            {
                "name": "nested",
                "groups": {**GROUPS, "rest": {"tasks": ["rte"], "temperature": 0.0}},
                "rates": BETWEEN,
            },
            "groups.rest.temperature",
            "more than 0",
        ),
        (
            {
                "name": "nested",
                "groups": {**GROUPS, "rest": {"tasks": ["rte"], "rates": {"rte": 1.0}}},
                "rates": BETWEEN,
            },
            "groups.rest.rates",
            "empty, unless mixture.groups.rest.rule is explicit",
        ),
        ({"schedule": [{"at": 1.5}]}, "schedule.0.at", "between 0 and 1"),
        ({"schedule": [{"at": 0.5}, {"at": 0.5}]}, "schedule", "points whose at ascends"),
        (
            {"schedule": [{"at": 1, "rule": "explicit", "rates": {"sst": 1.0}}]},
            "schedule.0.rates",
            "one rate for each of sst2, cola, rte",
        ),
        (
            {"schedule": [{"at": 1, "rule": "explicit", "rates": dict.fromkeys(TASKS, 0.0)}]},
            "schedule.0.rates",
            "more than 0 for at least one",
        ),
        (
            {"schedule": [{"at": 1, "temperature": 2.0}]},
            "schedule.0.temperature",
            "null, unless mixture.schedule.0.rule is temperature",
        ),
        (
            {"name": "temperature", "schedule": [{"at": 1, "temperature": 0.0}]},
            "schedule.0.temperature",
            "more than 0",
        ),
        (
            {"schedule": [{"at": 1, "rule": "nested", "rates": {"a": 1.0}}]},
            "groups",
            "groups in which each chosen task stands once (in none: sst2, cola, rte)",
        ),
    ],
)
def test_what_does_not_fit(mixture, key, expected):
    assert (key, expected) in problems(**mixture)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.5, []),
        ({"sst2": 0.5, "rte": 1.0}, []),
        ({"sst": 0.5}, [("fraction", "a share for one or several of sst2, cola, rte")]),
        ({"sst2": 0.0}, [("fraction.sst2", "more than 0 and at most 1")]),
        ({"sst2": 1.1}, [("fraction.sst2", "more than 0 and at most 1")]),
    ],
)
def test_fractions(fraction, expected):
    found = fraction_names_tasks({"tasks": TASKS, "fraction": fraction})
    assert [(problem.key, problem.expected) for problem in found] == expected
