"""Cross-entropy in pieces equals that of the whole matrix, gradients too."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.learning import cross_entropy
from mtl.learning.cross_entropy import token_nats


def drawn(tokens: int, vocabulary: int, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    logits = scale * torch.randn(tokens, vocabulary, generator=generator)
    return logits, torch.randint(vocabulary, (tokens,), generator=generator)


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("cached", [1, 40, 1 << 18])  # a row at a time, several, all
@pytest.mark.parametrize("shape", [(7, 13), (1, 5), (0, 5)])
def test_equals_the_operators(
    cached: int, shape: tuple[int, int], overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "CACHED", cached)
    logits, tokens = drawn(*shape)
    scale = torch.randn(shape[0])  # of any sign, as gradient methods have it
    found = []
    for nats_of in (
        lambda a, b: token_nats(a, b, overwrite=overwrite),
        lambda a, b: F.cross_entropy(a, b, reduction="none"),
    ):
        own = logits.clone().requires_grad_()
        nats = nats_of(own, tokens)
        (nats * scale).sum().backward()
        assert overwrite or torch.equal(own, logits)
        found.append((nats.detach(), own.grad))
    (ours, gradient), (expected, expected_gradient) = found
    assert torch.equal(token_nats(logits, tokens), expected)  # scores: where no gradient is taken
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_keeps_its_digits_where_a_token_is_all_but_impossible() -> None:
    logits = torch.tensor([[0.0, 200.0, -200.0]], requires_grad=True)
    nats = token_nats(logits, torch.tensor([2]))
    nats.sum().backward()
    assert nats.item() == 400.0
    assert torch.equal(logits.grad, torch.tensor([[0.0, 1.0, -1.0]]))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("behind", [1e-3, 1.0, 59.0, 61.0, 87.0, 200.0])
def test_likely_and_unlikely_tokens_keep_their_digits(
    behind: float, precision: torch.dtype
) -> None:
    """A probability near 1 leaves a gradient that is small and yet exact; one below what float32 holds is not lost."""
    logits = torch.tensor([[0.0, -behind, -250.0]], dtype=precision)
    for token in range(2):
        own = logits.clone().requires_grad_()
        exact = logits.double().requires_grad_()
        labels = torch.tensor([token])
        nats, expected = token_nats(own, labels), F.cross_entropy(exact, labels, reduction="none")
        nats.backward(torch.ones(1))
        expected.backward(torch.ones(1))
        torch.testing.assert_close(nats.double(), expected, rtol=1e-6, atol=1e-7)
        rounding = 1e-5 if precision == torch.float32 else 2**-8
        torch.testing.assert_close(own.grad.double(), exact.grad, rtol=rounding, atol=1e-7)


def test_in_lower_precision_only_the_logits_are_rounded() -> None:
    logits, tokens = drawn(9, 300)
    rounded = logits.bfloat16().requires_grad_()
    exact = rounded.detach().float().requires_grad_()
    scored = token_nats(rounded.detach(), tokens)
    nats = token_nats(rounded, tokens)
    expected = F.cross_entropy(exact, tokens, reduction="none")
    nats.sum().backward()
    expected.sum().backward()
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(scored, expected)
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


class Matrices(TorchDispatchMode):
    """Counts the storages of a size that are alive at a time."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.most = numbers, 0
        self.seen: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() >= self.numbers:
            reference = StorageWeakRef(result.untyped_storage())
            self.seen[reference.cdata] = reference
        self.seen = {key: one for key, one in self.seen.items() if not one.expired()}
        self.most = max(self.most, len(self.seen))
        return result


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_holds_two_matrices_at_most(
    precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probabilities, in place of the logits, and their gradient, beside a few rows."""
    monkeypatch.setattr(cross_entropy, "CACHED", 1 << 15)
    hidden = torch.randn(64, 4, dtype=precision, requires_grad=True)
    embedding = torch.randn(8192, 4, dtype=precision)
    tokens = torch.arange(64)
    with Matrices(64 * 8192 * hidden.element_size()) as counted:
        token_nats(F.linear(hidden, embedding), tokens, overwrite=True).sum().backward()
    assert counted.most == 2
    with Matrices(64 * 8192 * hidden.element_size()) as counted:
        F.cross_entropy(F.linear(hidden, embedding), tokens).backward()
    assert counted.most > 2
