"""What is drawn from logits, against the distribution written out slowly."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from mtl.decoder import sampling
from mtl.decoder.generation import generate
from mtl.decoder.sampling import draw, probabilities

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13]]


def slowly(logits, temperature, top_k=None, top_p=None):
    """One row of probabilities, token by token in order of likelihood, lower ids first among equals."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    order = order[: top_k or len(order)]
    weight = [math.exp((logits[token] - logits[order[0]]) / temperature) for token in order]
    share = [one / math.fsum(weight) for one in weight]
    kept, mass = 0, 0.0
    while kept < len(order) and (top_p is None or kept == 0 or mass < top_p):
        mass += share[kept]
        kept += 1
    found = [0.0] * len(logits)
    for token, one in zip(order[:kept], share, strict=False):
        found[token] = one / mass
    return found


SETTINGS = [
    {"temperature": 1.0},
    {"temperature": 0.4},
    {"temperature": 2.5},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.5, "top_p": 0.8},
    {"temperature": 2.0, "top_k": 9, "top_p": 0.7},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_frequencies_follow_the_softmax(make, setting, seed) -> None:
    """4000 rows with the same prompt are 4000 independent draws from one known distribution."""
    decoder = make(12, scale=15)
    logits = decoder.logits(decoder(torch.tensor([[1, 2, 3]]))[0, -1]).tolist()
    likely = np.array(slowly(logits, **setting))
    answers = generate(decoder, [[1, 2, 3]] * 4000, max_new_tokens=1, seed=seed, **setting)
    counts = Counter(answer[0] for answer in answers)
    observed = np.array([counts[token] for token in range(12)])
    assert observed[likely == 0].sum() == 0
    expected = likely * 4000
    rare = (expected > 0) & (expected < 5)  # together in one cell, where the approximation holds
    if rare.any():
        first = np.flatnonzero(expected >= 5)[0]
        expected[first] += expected[rare].sum()
        observed[first] += observed[rare].sum()
        expected[rare] = 0
    cells = expected > 0
    assert cells.sum() >= 3
    assert expected.max() > 1.5 * expected[cells].min()
    assert chisquare(observed[cells], expected[cells]).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_one_most_likely_token_is_the_greedy_one(make, temperature) -> None:
    decoder = make(scale=10)
    greedy = generate(decoder, PROMPTS, max_new_tokens=15)
    for seed in (0, 1):
        options = {"max_new_tokens": 15, "temperature": temperature, "seed": seed}
        assert generate(decoder, PROMPTS, top_k=1, **options) == greedy
        assert generate(decoder, PROMPTS, top_p=1e-6, **options) == greedy


def test_of_equal_tokens_the_lower_ids_are_kept() -> None:
    logits = torch.zeros(3, 5000)
    logits[1, 4000:] = 1.0
    for settings, counts in (({"top_k": 3}, (3, 3, 3)), ({"top_p": 0.4}, (2000, 989, 2000))):
        likely = probabilities(logits, 1.0, **settings)
        first = torch.tensor([0, 4000, 0])
        for row, count in enumerate(counts):
            kept = likely[row].nonzero()[:, 0]
            assert kept[0] == first[row]
            assert kept[-1] - kept[0] + 1 == len(kept)
            assert len(kept) == pytest.approx(count, abs=3)


@given(data=st.data(), temperature=st.floats(0.05, 20))
def test_the_first_tokens_looked_at_are_enough_or_all_are(data, temperature) -> None:
    """A small first look, so that both ways are taken, against the slow form."""
    size = data.draw(st.integers(2, 14))
    row = st.lists(st.integers(-6, 6).map(float), min_size=size, max_size=size)
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    top_k = data.draw(st.none() | st.integers(1, 15))
    top_p = data.draw(st.none() | st.integers(1, 99).map(lambda n: n / 100 + 0.00123))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "NUCLEUS", 4)
        found = probabilities(torch.tensor(rows), temperature, top_k, top_p)
    for ours, logits in zip(found.tolist(), rows, strict=True):
        assert ours == pytest.approx(slowly(logits, temperature, top_k, top_p), abs=1e-5)


def test_a_drawn_token_has_the_uniform_number_in_its_part() -> None:
    likely = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]]).expand(6, 6)
    assert draw(likely, [0.0, 0.2, 0.25, 0.74, 0.75, 1 - 2**-53]) == [1, 1, 3, 3, 4, 4]


def test_second_tokens_are_drawn_anew(make) -> None:
    """Given the first token, the second still follows its own softmax: draws of a row are independent."""
    decoder = make(6, scale=15)
    answers = generate(decoder, [[1]] * 3000, max_new_tokens=2, temperature=1.0, seed=2)
    first, count = Counter(answer[0] for answer in answers).most_common(1)[0]
    likely = decoder.logits(decoder(torch.tensor([[1, first]]))[0, -1]).softmax(-1).double()
    seconds = Counter(answer[1] for answer in answers if answer[0] == first)
    expected = likely / likely.sum() * count
    assert chisquare([seconds[token] for token in range(6)], expected.tolist()).pvalue > 0.01


def test_top_k_and_top_p_keep_the_known_tokens() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.05, 0.25, 0.2]]).log()
    kept = {
        (None, None): [0.1, 0.4, 0.05, 0.25, 0.2],
        (1, None): [0, 1, 0, 0, 0],
        (2, None): [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0],
        (9, None): [0.1, 0.4, 0.05, 0.25, 0.2],
        (None, 0.39): [0, 1, 0, 0, 0],
        (None, 0.6): [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0],
        (None, 0.9): [0.1 / 0.95, 0.4 / 0.95, 0, 0.25 / 0.95, 0.2 / 0.95],
        (None, 1.0): [0.1, 0.4, 0.05, 0.25, 0.2],
        (3, 0.6): [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0],
        (3, 0.4): [0, 1, 0, 0, 0],  # 0.4 / 0.85 alone reaches 0.4
    }
    for (k, p), expected in kept.items():
        torch.testing.assert_close(
            probabilities(logits, 1.0, k, p),
            torch.tensor([expected], dtype=torch.float32),
            msg=f"{k}, {p}",
        )


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12),
    temperature=st.floats(0.05, 20),
    top_k=st.none() | st.integers(1, 15),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_what_is_sampled_from_is_a_distribution_over_the_most_likely(
    logits, temperature, top_k, top_p
) -> None:
    likely = probabilities(torch.tensor([logits]), temperature, top_k, top_p)[0]
    assert likely.sum().item() == pytest.approx(1, abs=1e-5)
    assert likely.isfinite().all()
    kept = [value for value, p in zip(logits, likely.tolist(), strict=True) if p > 0]
    left = [value for value, p in zip(logits, likely.tolist(), strict=True) if p == 0]
    assert len(kept) <= (top_k or len(logits))
    if left:
        assert min(kept) >= max(left)


def test_a_very_low_temperature_is_greedy(make) -> None:
    decoder = make(scale=10)
    greedy = generate(decoder, PROMPTS, max_new_tokens=9)
    assert generate(decoder, PROMPTS, max_new_tokens=9, temperature=1e-30) == greedy


@pytest.mark.gpu
def test_a_gpu_writes_what_the_cpu_writes(make) -> None:
    decoder = make(scale=10)
    settings = [{}, {"temperature": 1.0}, {"temperature": 1.3, "top_k": 7, "top_p": 0.9}]
    options = {"max_new_tokens": 15, "banned": [3, 4], "stop": {7, 9}, "seed": 2}
    expected = [generate(decoder, PROMPTS, **options, **setting) for setting in settings]
    decoder.cuda()
    assert [generate(decoder, PROMPTS, **options, **setting) for setting in settings] == expected
