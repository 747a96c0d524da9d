"""Attention by products of matrices, where it takes the fused kernel's place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.decoder import attention
from mtl.decoder.attention import attend


def drawn(tokens: int = 12, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """(2, 3, T, 8) queries, keys and values that do not lie one after the other, as in a decoder."""
    generator = torch.Generator().manual_seed(tokens)
    parts = torch.randn(2, tokens, 3, 3, 8, generator=generator).to(dtype).unbind(2)
    return [part.transpose(1, 2).detach().requires_grad_() for part in parts]


def blocks(tokens: int = 12) -> Tensor:
    """(2, 1, T, T): two examples in a row, cut at another place in each row, the second with two branches."""
    mask = torch.zeros(2, tokens, tokens, dtype=torch.bool)
    for row, (first, second) in enumerate(((5, 9), (3, 7))):
        mask[row, :first, :first] = True
        mask[row, first:, first:] = True
        mask[row, second:, second - 2 : second] = False
    return (mask & torch.ones(tokens, tokens, dtype=torch.bool).tril())[:, None]


def gradients(result: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(result.shape, generator=generator).to(result.dtype)
    return list(torch.autograd.grad(result, inputs, upstream))


@pytest.mark.parametrize("mask", [None, blocks()])
@pytest.mark.parametrize("autocast", [True, False])
def test_is_as_near_to_float64_as_half_its_digits(mask: Tensor | None, autocast: bool) -> None:
    """bfloat16 has 8 bits: scores and weights are rounded once each, the result and the gradients too."""
    inputs = drawn()
    exact = [one.detach().double().requires_grad_() for one in inputs]
    expected = F.scaled_dot_product_attention(*exact, attn_mask=mask, is_causal=mask is None)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = attend(*inputs, mask, causal=mask is None, dropout=0.0)
    assert found.dtype == torch.bfloat16
    pairs = zip(
        [found, *gradients(found, inputs)], [expected, *gradients(expected, exact)], strict=True
    )
    for ours, theirs in pairs:
        assert (ours.double() - theirs).norm() < 2**-7 * theirs.norm()


@pytest.mark.parametrize("mask", [None, blocks()])
def test_what_is_not_seen_has_no_effect_at_all(mask: Tensor | None) -> None:
    inputs = drawn()
    query, key, value = inputs
    before = attend(query, key, value, mask, causal=mask is None, dropout=0.0)
    seen = mask if mask is not None else torch.ones(12, 12, dtype=torch.bool).tril()
    last = seen.expand(2, 1, 12, 12)[:, 0, :, -1]  # who sees the last token
    others = [part.detach().clone() for part in (key, value)]
    for part in others:
        part[:, :, -1] = 100.0
    after = attend(query, *others, mask, causal=mask is None, dropout=0.0)
    same = (before == after).all(-1).all(1)
    assert torch.equal(same, ~last)
    (of_value,) = torch.autograd.grad(before.transpose(1, 2)[~last].sum(), value)
    assert (of_value[:, :, -1] == 0).all()


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    inputs, mask = drawn(), blocks()
    whole = attend(*inputs, mask, causal=False, dropout=0.0)
    alone = attend(*(one[1:] for one in inputs), mask[1:], causal=False, dropout=0.0)
    assert torch.equal(whole[1:], alone)


@pytest.mark.parametrize(
    ("case", "fused"),
    [
        ("training", False),
        ("float32", True),
        ("scoring", True),
        ("frozen", True),
        ("dropout", True),
        ("long", True),
    ],
)
def test_where_the_fused_kernel_stays(
    case: str, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are those of the kernel whatever the training was, and long rows keep no weights."""
    called = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: called.append(1) or kernel(*a, **k)
    )
    monkeypatch.setattr(attention, "LONGEST", 12)
    inputs = drawn(13 if case == "long" else 12, *([torch.float32] if case == "float32" else []))
    if case == "frozen":
        inputs = [one.detach() for one in inputs]
    with torch.set_grad_enabled(case != "scoring"):
        attend(*inputs, None, causal=True, dropout=0.5 if case == "dropout" else 0.0)
    assert bool(called) is fused
