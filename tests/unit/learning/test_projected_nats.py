"""Logits in pieces: losses and gradients of the whole, and never the whole in memory.

Legend: P tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.learning import cross_entropy
from mtl.learning.cross_entropy import most_logits, projected_nats

P, D, V = 50, 12, 40
FLOAT32, BFLOAT16 = 2.0**-24, 2.0**-9
"""The most that rounding to nearest changes a number, relative to it."""


class Head:
    """A projection with a bias, and where it is called with how many tokens."""

    def __init__(self, width: int = D, vocabulary: int = V) -> None:
        generator = torch.Generator().manual_seed(0)
        self.linear = nn.Linear(width, vocabulary)
        for parameter in self.linear.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / width**0.5
        self.states = torch.randn(P, width, generator=generator).requires_grad_()
        self.tokens = torch.randint(vocabulary, (P,), generator=generator)
        self.scale = torch.randn(P, generator=generator)  # of any sign, as gradient methods have it
        self.calls: list[int] = []

    def __call__(self, states: Tensor) -> Tensor:
        self.calls.append(len(states))
        found: Tensor = self.linear(states)
        return found

    @property
    def leaves(self) -> list[Tensor]:
        return [self.states, self.linear.weight, self.linear.bias]

    def nats(self) -> Tensor:
        return projected_nats(self.states, self.tokens, self, vocabulary=V)

    def found(self) -> tuple[Tensor, ...]:
        nats = self.nats()
        return nats.detach(), *torch.autograd.grad((nats * self.scale).sum(), self.leaves)

    def exact(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """In float64; and beside each gradient the sum of its terms' sizes, of which rounding is a share."""
        states, weight, bias = (leaf.detach().double().requires_grad_() for leaf in self.leaves)
        logits = F.linear(states, weight, bias)
        nats = F.cross_entropy(logits, self.tokens, reduction="none")
        loss = (nats * self.scale).sum()
        *gradients, of_logits = torch.autograd.grad(loss, [states, weight, bias, logits])
        size = of_logits.abs()
        sizes = size @ weight.abs(), size.T @ states.abs(), size.sum(0)
        return (nats.detach(), *gradients), tuple(one.detach() for one in sizes)

    def largest(self) -> float:
        """Of the logits' terms, the largest sum of sizes."""
        return float(F.linear(*(leaf.detach().abs() for leaf in self.leaves)).max())


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets how many logits are computed at once, and into how many pieces these would be cut."""

    def limit(logits: int, pieces: int = 1) -> None:
        monkeypatch.setattr(cross_entropy, "most_logits", lambda device: logits)
        monkeypatch.setattr(cross_entropy, "PIECES", pieces)

    return limit


@pytest.mark.parametrize(
    ("logits", "pieces", "calls"),
    [
        (P * V, 1, [50]),  # as many as there may be
        (P * V, 4, [50]),
        (P * V - 1, 1, [25, 25]),
        (P * V - 1, 4, [10, 10, 10, 10, 10]),
        (P * V // 3, 1, [13, 13, 13, 11]),
        (1, 1, [1] * P),
        (1, 4, [1] * P),
    ],
)
def test_projects_in_equal_pieces_and_each_once_more_for_the_gradient(
    logits: int, pieces: int, calls: list[int], in_pieces: Callable[..., None]
) -> None:
    in_pieces(logits, pieces)
    head = Head()
    nats = head.nats()
    assert head.calls == calls
    nats.sum().backward()
    assert head.calls[len(calls) :] == ([] if len(calls) == 1 else calls[::-1])


def test_below_the_limit_nothing_is_other_than_it_was(
    in_pieces: Callable[..., None],
) -> None:
    in_pieces(P * V)
    head = Head()
    nats = cross_entropy.token_nats(head.linear(head.states), head.tokens)
    whole = nats, *torch.autograd.grad((nats * head.scale).sum(), head.leaves)
    assert all(map(torch.equal, head.found(), whole))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("logits", [P * V, P * V // 2, P * V // 7, 1])
def test_losses_and_gradients(logits: int, half: bool, in_pieces: Callable[..., None]) -> None:
    """Whole or in pieces they are as near to the exact ones as roundings allow.

    - A logit is off by a rounding of the sum of its terms' sizes for each of its D + 1 terms; under autocast, to which
      that is nothing, by those of state, weight and logit to bfloat16.
    - So a loss is by twice that and the roundings of the sum over V, and a probability by as much relative to itself;
      relative to its distance from 1 too, which here is never smaller.
    - A gradient is off by as much relative to the sum of its terms' sizes, and by a rounding for each term; under
      autocast by those of both factors and of the product of each piece.
    """
    in_pieces(logits)
    head = Head()
    (nats, *gradients), sizes = head.exact()
    assert float(nats.min()) > math.log(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found, *found_gradients = head.found()
    of_logit = 4 * BFLOAT16 if half else (D + 1) * FLOAT32
    away = math.expm1(2 * of_logit * head.largest() + (V + 8) * FLOAT32)
    assert float((found - nats).abs().max()) <= away
    away += 4 * BFLOAT16 if half else (P + V) * FLOAT32
    for ours, exact, size in zip(found_gradients, gradients, sizes, strict=True):
        assert ours.dtype == torch.float32
        assert bool(((ours - exact).abs() <= away * size).all())


def test_under_autocast_the_gradients_of_pieces_are_added_in_float32(
    in_pieces: Callable[..., None],
) -> None:
    """As near to the exact sum as the whole matrix comes, in which bfloat16 is rounded to once."""
    head = Head()
    head.states.data.abs_()
    head.scale.fill_(1.0)
    away = []
    for logits in (P * V, 1):
        in_pieces(logits)
        with torch.autocast("cpu", torch.bfloat16):
            weight = head.found()[2].double()
        exact = head.exact()[0][2]
        away.append(float((weight - exact).norm() / exact.norm()))
    whole, pieces = away
    assert pieces < 1.2 * whole


def test_tied_embeddings(in_pieces: Callable[..., None]) -> None:
    """The states follow from the weight that projects them."""
    gradients = []
    for logits in (P * V, P * V // 5):
        in_pieces(logits)
        weight = Head().linear.weight
        tokens = torch.arange(P) % V
        project = partial(F.linear, weight=weight)
        nats = projected_nats(weight[tokens], tokens.flip(0), project, vocabulary=V)
        nats.mean().backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=(P + D + V) * FLOAT32)


def test_one_graph_is_gone_through_for_each_task(in_pieces: Callable[..., None]) -> None:
    """And each time its gradient is that of a graph of its own."""
    in_pieces(P * V // 4)
    head, own = Head(), []
    nats = head.nats()
    parts = [slice(0, 9), slice(9, 30), slice(30, P)]
    for part in parts:
        loss = (nats[part] * head.scale[part]).sum()
        own.append(torch.autograd.grad(loss, head.leaves, retain_graph=part is not parts[-1]))
        fresh = (head.nats()[part] * head.scale[part]).sum()
        assert all(map(torch.equal, own[-1], torch.autograd.grad(fresh, head.leaves)))
    for parts_of_one, whole in zip(zip(*own, strict=True), head.found()[1:], strict=True):
        torch.testing.assert_close(sum(parts_of_one), whole, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="second time"):
        nats.sum().backward()


def test_the_same_twice(in_pieces: Callable[..., None]) -> None:
    in_pieces(P * V // 4)
    assert all(map(torch.equal, Head().found(), Head().found()))


def test_what_a_projection_draws_is_drawn_alike_in_the_backward_pass(
    in_pieces: Callable[..., None],
) -> None:
    in_pieces(P * V // 4)
    head, seen = Head(), []

    def project(states: Tensor) -> Tensor:
        dropped = F.dropout(states, 0.5)
        seen.append(dropped.detach())
        return head(dropped)

    nats = projected_nats(head.states, head.tokens, project, vocabulary=V)
    forward = torch.cat(seen)
    before = torch.get_rng_state()
    (gradient,) = torch.autograd.grad(nats.sum(), head.states)
    assert torch.equal(torch.get_rng_state(), before)
    # The pieces come back from the last to the first.
    assert torch.equal(torch.cat(seen[: len(seen) // 2 - 1 : -1]), forward)
    assert torch.equal(gradient == 0, forward == 0)


def test_scores_take_no_graph(in_pieces: Callable[..., None]) -> None:
    in_pieces(P * V // 4)
    head = Head()
    with torch.no_grad():
        nats = head.nats()
    assert not nats.requires_grad
    torch.testing.assert_close(nats, head.nats().detach(), rtol=1e-6, atol=1e-6)


class Storages(TorchDispatchMode):
    """The largest storage, and how many of at least half its size were alive at a time."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.half, self.largest, self.most = half, 0, 0
        self.seen: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            storage = result.untyped_storage()
            self.largest = max(self.largest, storage.nbytes())
            if storage.nbytes() >= self.half:
                reference = StorageWeakRef(storage)
                self.seen[reference.cdata] = reference
        self.seen = {key: one for key, one in self.seen.items() if not one.expired()}
        self.most = max(self.most, len(self.seen))
        return result


def test_no_more_than_a_piece_is_in_memory(in_pieces: Callable[..., None]) -> None:
    """Probabilities in place of the logits and their gradient, of one piece of 16, in every backward pass."""
    tokens, width, vocabulary = 4096, 4, 8192
    in_pieces(tokens * vocabulary // 16)
    states = torch.randn(tokens, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    labels = torch.arange(tokens)
    piece = tokens * vocabulary // 16 * 4
    with Storages(piece // 2) as counted:
        nats = projected_nats(states, labels, lambda x: F.linear(x, weight), vocabulary=vocabulary)
        for keep in (True, False):
            torch.autograd.grad(nats.sum(), [states, weight], retain_graph=keep)
    assert counted.largest == piece
    assert counted.most == 2


def test_what_a_device_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs of one kind, of whose memory drivers tell a little more or less, hold the same; so does every processor."""
    totals = [int(gibibytes * 2**30) for gibibytes in (79.1, 79.6, 23.6)]
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(total_memory=totals[device.index]),
    )
    cross_entropy._gpu_bytes.cache_clear()
    one, two, small = (most_logits(torch.device("cuda", index)) for index in range(3))
    cross_entropy._gpu_bytes.cache_clear()
    assert one == two == 16 * 2**30 // 12
    assert small == 4 * 2**30 // 12
    # A step of 2048 tokens, the default, is whole with GPT-2's vocabulary too.
    assert 2048 * 50257 < most_logits(torch.device("cpu")) == 2**28
