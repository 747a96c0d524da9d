"""Rows by their indices: what indexing gives, and with several threads the same gradients every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mtl.decoder.gathering import add_rows, rows_at


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_rows_and_their_gradients_are_those_of_indexing() -> None:
    x = torch.randn(7, 3, requires_grad=True)
    index, scale = torch.tensor([6, 0, 6, 6, 2]), torch.randn(5, 3)
    gradients = []
    for found in (rows_at(x, index), x[index]):
        torch.testing.assert_close(found, x[index])
        gradients += torch.autograd.grad((found * scale).sum(), x)
    torch.testing.assert_close(gradients[0], gradients[1])
    added = torch.ones(7, 3)
    add_rows(added, index, scale)
    torch.testing.assert_close(added, gradients[1] + 1)
    assert rows_at(x, index[:0]).shape == (0, 3)


@pytest.mark.usefixtures("two_threads")
def test_a_row_named_often_has_the_same_gradient_every_time() -> None:
    """Indexing adds as its threads come: about every second time with other bits."""
    scale, index = torch.randn(4000, 64), torch.randint(0, 300, (4000,))

    def gradient() -> torch.Tensor:
        x = torch.zeros(300, 64, requires_grad=True)
        rows_at(x, index).backward(scale)
        assert x.grad is not None
        added = torch.zeros(300, 64)
        add_rows(added, index, scale)
        return torch.cat([x.grad, added])

    first = gradient()
    assert all(first.equal(gradient()) for _ in range(100))
