"""Cross-entropy in pieces equals that of the whole matrix, gradients too."""

import pytest
import torch
from torch.nn import functional as F

from mtl.learning import cross_entropy
from mtl.learning.cross_entropy import token_nats


def drawn(tokens: int, vocabulary: int, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    logits = scale * torch.randn(tokens, vocabulary, generator=generator)
    return logits, torch.randint(vocabulary, (tokens,), generator=generator)


@pytest.mark.parametrize("cached", [1, 40, 1 << 18])  # a row at a time, several, all
@pytest.mark.parametrize("shape", [(7, 13), (1, 5), (0, 5)])
def test_equals_the_operators(
    cached: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "CACHED", cached)
    logits, tokens = drawn(*shape)
    scale = torch.randn(shape[0])  # of any sign, as gradient methods have it
    found = []
    for nats_of in (token_nats, lambda a, b: F.cross_entropy(a, b, reduction="none")):
        own = logits.clone().requires_grad_()
        nats = nats_of(own, tokens)
        (nats * scale).sum().backward()
        found.append((nats.detach(), own.grad))
    (ours, gradient), (expected, expected_gradient) = found
    assert torch.equal(ours, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_keeps_its_digits_where_a_token_is_all_but_impossible() -> None:
    logits = torch.tensor([[0.0, 200.0, -200.0]], requires_grad=True)
    nats = token_nats(logits, torch.tensor([2]))
    nats.sum().backward()
    assert nats.item() == 400.0
    assert torch.equal(logits.grad, torch.tensor([[0.0, 1.0, -1.0]]))


def test_in_lower_precision_only_the_logits_are_rounded() -> None:
    logits, tokens = drawn(9, 300)
    rounded = logits.bfloat16().requires_grad_()
    exact = rounded.detach().float().requires_grad_()
    nats = token_nats(rounded, tokens)
    expected = F.cross_entropy(exact, tokens, reduction="none")
    nats.sum().backward()
    expected.sum().backward()
    assert nats.dtype == torch.float32
    assert torch.equal(nats, expected)
    torch.testing.assert_close(rounded.grad.float(), exact.grad, rtol=2**-8, atol=1e-6)


def test_can_be_differentiated_again() -> None:
    """Gradient methods go through one graph once for each task."""
    logits, tokens = drawn(6, 11)
    logits.requires_grad_()
    nats = token_nats(logits, tokens)
    first = torch.autograd.grad(nats[:3].sum(), logits, retain_graph=True)[0]
    second = torch.autograd.grad(nats[3:].sum(), logits, retain_graph=True)[0]
    both = torch.autograd.grad(nats.sum(), logits)[0]
    assert torch.equal(first + second, both)


def test_holds_two_matrices_at_most() -> None:
    """In the backward pass: the logits and their gradient, beside a few rows."""
    logits, tokens = drawn(64, 8192)
    logits.requires_grad_()
    with torch.profiler.profile(profile_memory=True) as profile:
        token_nats(logits, tokens).sum().backward()
    matrix = logits.numel() * logits.element_size()
    allocated = [
        event.self_cpu_memory_usage
        for event in profile.events()
        if event.self_cpu_memory_usage >= matrix
    ]
    assert len(allocated) == 1
