"""Reductions against their definitions, term by term."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.learning.reduction import REDUCTIONS, reduction

STEPS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4)), min_size=1, max_size=40)


def _slow(name: str, losses: list[float], terms: list[int], tasks: list[int]) -> float:
    """The reduction written as the sentence that defines it."""
    rows = list(zip(losses, terms, tasks, strict=True))
    if name == "example_mean":
        return sum(losses) / len(losses)
    if name == "token_mean":
        return sum(loss * n for loss, n, _ in rows) / sum(terms)
    means = []
    for task in sorted(set(tasks)):
        own = [(loss, n) for loss, n, k in rows if k == task]
        if name.startswith("task_example"):
            means.append(sum(loss for loss, _ in own) / len(own))
        else:
            means.append(sum(loss * n for loss, n in own) / sum(n for _, n in own))
    return sum(means) if name == "task_example_sum" else sum(means) / len(means)


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@given(step=STEPS, seed=st.integers(0, 1000))
def test_weighted_sum_is_the_named_mean(name: str, step: list[tuple[int, int]], seed: int) -> None:
    terms, tasks = [n for n, _ in step], [k for _, k in step]
    losses = np.random.default_rng(seed).uniform(0, 9, len(step))
    weights = reduction(name)(np.array(terms), np.array(tasks))
    assert weights.dtype == np.float32
    assert weights @ losses == pytest.approx(_slow(name, losses.tolist(), terms, tasks), rel=1e-5)
    means = len(set(tasks)) if name == "task_example_sum" else 1
    assert weights.sum() == pytest.approx(means, abs=1e-5)


def test_they_differ_where_lengths_and_counts_do_and_agree_where_they_do_not() -> None:
    losses = np.array([1.0, 2.0, 4.0])
    uneven = [
        float(f(np.array([1, 2, 5]), np.array([0, 0, 1])) @ losses) for f in REDUCTIONS.values()
    ]
    assert len({round(value, 4) for value in uneven}) == 5
    even = [float(f(np.array([3, 3]), np.array([0, 1])) @ losses[:2]) for f in REDUCTIONS.values()]
    assert even == pytest.approx([1.5] * 4 + [3.0])


def test_a_misspelt_reduction_names_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        reduction("token_meen")
    assert str(error.value).splitlines()[:2] == [
        "unknown reduction 'token_meen'",
        "  did you mean: token_mean",
    ]


@given(step=STEPS, terms=st.integers(1, 50))
def test_tokens_and_examples_count_alike_where_all_are_as_long(
    step: list[tuple[int, int]], terms: int
) -> None:
    tasks = np.array([k for _, k in step])
    same = np.full(len(step), terms)
    for one, other in (("token_mean", "example_mean"), ("task_token_mean", "task_example_mean")):
        np.testing.assert_allclose(
            reduction(one)(same, tasks), reduction(other)(same, tasks), rtol=1e-6
        )
