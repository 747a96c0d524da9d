"""An arm's search: a pure function of its seed and of what its trials came to."""

from __future__ import annotations

import optuna
import pytest

from mtl.config.errors import UserError
from mtl.config.study_schema import RangeConfig, SearchConfig
from mtl.studying.search import Ended, Search, check_search

SPACE = {
    "optimizer.learning_rate": RangeConfig(low=1e-4, high=1e-2, log=True),
    "decoder.layers": RangeConfig(low=1, high=4),
    "balance": RangeConfig(choices=["sum", "random"]),
}


def search(space=SPACE, trials=12, **given) -> Search:
    return Search(
        "arm",
        SearchConfig(trials=trials, **given),
        space,
        whole=frozenset({"decoder.layers"}),
        trials=trials,
    )


def value(parameters) -> float:
    return -abs(parameters["optimizer.learning_rate"] - 2e-3) * 100 + parameters["decoder.layers"]


def searched(one: Search, trials: int, fails=(), costs: int = 0) -> list[Ended]:
    ended: list[Ended] = []
    for index in range(trials):
        parameters = one.draw(index, ended[: one.begins_after(index)])
        values = None if index in fails else [value(parameters), *[float(index)] * costs]
        ended.append(Ended(index=index, parameters=parameters, values=values))
    return ended


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "nsga2"])
@pytest.mark.parametrize("parallel", [1, 3])
def test_the_order_in_which_trials_end_changes_nothing(sampler, parallel):
    first = searched(search(sampler=sampler, parallel=parallel), 9, fails=(2,))
    again = search(sampler=sampler, parallel=parallel)
    for trial in reversed(first):
        # What is known of its own batch and of later ones must not matter.
        assert again.draw(trial.index, list(reversed(first))) == trial.parameters


def test_values_lie_in_their_ranges_and_have_their_kinds():
    for trial in searched(search(sampler="random"), 12):
        assert 1e-4 <= trial.parameters["optimizer.learning_rate"] <= 1e-2
        assert trial.parameters["decoder.layers"] in (1, 2, 3, 4)
        assert isinstance(trial.parameters["decoder.layers"], int)
        assert trial.parameters["balance"] in ("sum", "random")


def test_optuna_alone_draws_the_same():
    """One trial after the other is Optuna's own loop."""
    ended = searched(search(sampler="tpe"), 12)
    one = search(sampler="tpe")
    study = optuna.create_study(direction="maximize", sampler=one._sampler())
    for trial in ended:
        own = study.ask(one.distributions)
        assert own.params == trial.parameters
        study.tell(own, value(own.params))


def test_cmaes_goes_on_where_it_was():
    space = {
        "optimizer.learning_rate": RangeConfig(low=1e-4, high=1e-2, log=True),
        "optimizer.weight_decay": RangeConfig(low=0.0, high=1.0),
    }
    one = search(space, sampler="cmaes", trials=30)
    study = optuna.create_study(direction="maximize", sampler=one._sampler())
    ended: list[Ended] = []
    for index in range(30):
        own = study.ask(one.distributions)
        assert one.draw(index, ended) == own.params
        found = -(own.params["optimizer.weight_decay"] ** 2)
        study.tell(own, found)
        ended.append(Ended(index=index, parameters=own.params, values=[found]))


def test_a_grid_visits_each_point_once():
    space = {
        "decoder.layers": RangeConfig(low=1, high=3),
        "optimizer.weight_decay": RangeConfig(low=0.0, high=0.5, step=0.25),
    }
    one = search(space, sampler="grid", trials=9)
    check_search(one)
    ended: list[Ended] = []
    for index in range(9):
        parameters = one.draw(index, ended)
        ended.append(Ended(index=index, parameters=parameters, values=[0.0]))
    points = {tuple(trial.parameters.values()) for trial in ended}
    assert points == {(n, w) for n in (1, 2, 3) for w in (0.0, 0.25, 0.5)}


def test_a_trial_below_the_median_is_stopped_and_one_above_is_not():
    one = search(sampler="random", pruner="median", trials=8)
    ended = []
    for index in range(6):
        parameters = one.draw(index, ended)
        ended.append(
            Ended(
                index=index, parameters=parameters, values=[index], intermediate={10: float(index)}
            )
        )
    assert one.should_stop(6, ended, {10: 1.0})
    assert not one.should_stop(6, ended, {10: 4.0})
    assert not search(sampler="random", trials=8).should_stop(6, ended, {10: 1.0})


def test_results_of_another_version_are_refused():
    one = search(sampler="random")
    ended = searched(one, 2)
    changed = Ended(
        index=0,
        parameters={**ended[0].parameters, "decoder.layers": 9},
        values=ended[0].values,
    )
    with pytest.raises(UserError, match="trial 0 is drawn anew"):
        one.draw(2, [changed, ended[1]])


@pytest.mark.parametrize(
    ("given", "space", "message"),
    [
        ({"sampler": "grid"}, SPACE, "a grid needs the steps of optimizer.learning_rate"),
        (
            {"sampler": "grid"},
            {"decoder.layers": RangeConfig(low=1, high=4)},
            "the grid of arm 'arm' has 4 points, fewer than 12 trials",
        ),
        ({"sampler": "cmaes"}, SPACE, "cmaes searches numbers, and balance has choices"),
        ({"objectives": ["tokens"], "pruner": "median"}, SPACE, "cannot stop runs early"),
    ],
)
def test_what_a_sampler_cannot_search_is_refused(given, space, message):
    with pytest.raises(UserError, match=message):
        check_search(search(space, **given))
