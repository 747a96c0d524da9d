"""MT-DNN: its heads, the ratio of auxiliary tasks, its stages and settings."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mtl.testing.strategies as suite
from mtl.config.errors import UserError
from mtl.data.batch import collate
from mtl.learning.readout import hidden_states
from mtl.learning.san import StochasticAnswerNetwork
from mtl.learning.strategy import Strategy
from mtl.testing.strategies import CONTEXT, PAIR, TASKS, StrategyConformance, examples
from strategies.mt_dnn import MTDNN


@pytest.fixture(autouse=True)
def with_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "TASKS", (*TASKS, PAIR))


class _Conforms(StrategyConformance):
    settings: dict[str, object] = {}  # noqa: RUF012  (overridden, never changed)

    def strategy(self) -> MTDNN:
        return MTDNN(**self.settings)  # type: ignore[arg-type]

    def trained_tasks(self) -> tuple:
        return (*TASKS, PAIR)


class TestWithANetworkForPairs(_Conforms):
    def test_own_parameters_of_a_pair_are_those_of_its_network(self) -> None:
        width, steps = 32, 5
        strategy = self.built()
        assert strategy.san_steps == steps
        recurrence = 2 * 3 * width * (width + 1)
        classifier = 2 * (4 * width + 1)
        expected = width + width * width + recurrence + classifier
        assert strategy.task_parameters(PAIR) == expected
        assert isinstance(strategy.heads.head_of(PAIR), StochasticAnswerNetwork)


class TestOneStep(_Conforms):
    settings = {"san_steps": 1}  # noqa: RUF012


class TestLinearPairs(_Conforms):
    settings = {"pairwise": "linear", "head_dropout": 0.0}  # noqa: RUF012

    def test_own_parameters_of_a_pair_are_two_rows(self) -> None:
        assert self.built().task_parameters(PAIR) == 2 * (32 + 1)


class TestFineTuned(_Conforms):
    settings = {"fine_tune": 0.25, "ratio": 0.5, "pack": "every_epoch"}  # noqa: RUF012


def _ranking(order: list[int], target: int) -> tuple[Strategy, torch.Tensor, torch.Tensor]:
    """A query with three candidates in the given order: strategy, its loss, and relevance by candidate."""
    conforms = TestLinearPairs()
    strategy = conforms.built()
    with torch.no_grad():
        for parameter in strategy.heads.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(5))
    texts = ("it was late", "he had no boat at all", "of rain")
    shown = tuple(texts[index] for index in order)
    example = replace(
        examples(TASKS[2], 1)[0],
        choices=shown,
        answers=tuple(f" {text}" for text in shown),
        target=order.index(target),
    )
    (encoded,) = strategy.encode(example, TASKS[2], strategy.vocabulary, CONTEXT, "train")
    batch = collate([encoded], tasks=[2], rows=[0])
    head = strategy.heads.head_of(TASKS[2])
    relevance = hidden_states(strategy.decoder, batch)[batch.branch_ends] @ head.weight[0]
    return (
        strategy,
        strategy.losses(batch)[0],
        relevance[torch.tensor(order).argsort()],
    )


def test_ranking_is_the_softmax_over_the_candidates_of_one_query() -> None:
    _, loss, relevance = _ranking([0, 1, 2], target=1)
    by_hand = -(relevance[1].exp() / relevance.exp().sum()).log()
    torch.testing.assert_close(loss, by_hand)
    assert loss > 0.01


@pytest.mark.parametrize("order", [[1, 0, 2], [2, 1, 0], [1, 2, 0]])
def test_permuting_the_candidates_with_the_target_changes_nothing(order: list[int]) -> None:
    _, loss, relevance = _ranking([0, 1, 2], target=2)
    _, permuted, same = _ranking(order, target=2)
    torch.testing.assert_close(permuted, loss, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(same, relevance, atol=1e-6, rtol=1e-6)


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    st.floats(0.01, 100, allow_nan=False),
)
def test_ratio_is_that_of_auxiliary_rows_to_rows_of_the_first_task(
    rows: list[int], ratio: float
) -> None:
    sizes = {f"task{index}": n for index, n in enumerate(rows)}
    rates = MTDNN(ratio=ratio).rates(sizes)
    assert rates is not None
    assert list(rates) == list(sizes)
    assert sum(rates.values()) == pytest.approx(1)
    first, others = rates["task0"], [rates[name] for name in sizes if name != "task0"]
    assert sum(others) / first == pytest.approx(min(ratio, sum(rows[1:]) / rows[0]))
    for rate, n in zip(others, rows[1:], strict=True):
        # Each keeps its share among the auxiliary ones.
        assert rate * sum(rows[1:]) == pytest.approx(n * sum(others))


def test_known_ratios() -> None:
    sizes = {"main": 100, "large": 300, "small": 100}
    assert MTDNN().rates(sizes) is None
    assert MTDNN(ratio=1).rates(sizes) == pytest.approx(
        {"main": 0.5, "large": 0.375, "small": 0.125}
    )
    assert MTDNN(ratio=9).rates(sizes) == pytest.approx({"main": 0.2, "large": 0.6, "small": 0.2})


def test_stages_and_packing_follow_the_settings() -> None:
    (alone,) = MTDNN().stages()
    assert (alone.share, alone.each) == (1, False)
    together, each = MTDNN(fine_tune=0.25).stages()
    assert (together.share, together.each) == (0.75, False)
    assert (each.share, each.each) == (0.25, True)
    assert MTDNN().packing == "once"
    assert MTDNN(pack="every_epoch").packing == "every_epoch"


def test_dropout_is_drawn_in_training_alone() -> None:
    strategy = TestWithANetworkForPairs().built()
    (encoded,) = strategy.encode(examples(PAIR, 1)[0], PAIR, strategy.vocabulary, CONTEXT, "train")
    batch = collate([encoded], tasks=[4], rows=[0])

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return float(strategy.losses(batch).detach())

    assert loss(0) == loss(1)
    strategy.train()
    assert loss(0) == loss(0)
    assert len({loss(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ratio": 0.0},
            "the ratio of auxiliary rows is more than 0 and finite (strategy.ratio=0)",
        ),
        ({"ratio": float("nan")}, "(strategy.ratio=nan)"),
        ({"san_steps": 0}, "makes 1 step or more (strategy.san_steps=0)"),
        ({"head_dropout": 1.0}, "head_dropout is at least 0 and below 1 (strategy.head_dropout=1)"),
        ({"prediction_dropout": -0.1}, "(strategy.prediction_dropout=-0.1)"),
        ({"fine_tune": 1.0}, "fine_tune is at least 0 and below 1 (strategy.fine_tune=1)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        MTDNN(**settings)
