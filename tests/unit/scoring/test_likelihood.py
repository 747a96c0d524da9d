"""What likelihoods cost, what they refuse, and known answers. See tests/property and tests/parity for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl.config.schema import DecoderConfig
from mtl.decoder.building import new_decoder
from mtl.decoder.gpt import Decoder
from mtl.scoring.likelihood import Request, likelihoods

TRUNKS = pytest.mark.parametrize("trunk", ["transformer", "lstm"])
V = 50


def make(trunk: str = "transformer", context: int = 160) -> Decoder:
    shape = {"layers": 2, "width": 16, "heads": 2, "context": context}
    return new_decoder(DecoderConfig(name="test", trunk=trunk, **shape), V).eval()


class Watched:
    """Counts what a decoder computes."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.projected = 0

    @property
    def fed(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)


@contextmanager
def watched(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    seen = Watched()

    def fed(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.shapes.append(tuple(given[0].shape))

    def logits(hidden: Tensor, project: Callable[[Tensor], Tensor] = decoder.logits) -> Tensor:
        seen.projected += len(hidden)
        return project(hidden)

    handle = decoder.register_forward_pre_hook(fed)
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "logits", logits)
        yield seen
    handle.remove()


def numbers(count: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(V, (count,), generator=generator).tolist())


@TRUNKS
def test_answers_of_one_token_cost_their_context_alone(
    trunk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = make(trunk)
    question = numbers(20, 0)
    with watched(decoder, monkeypatch) as seen:
        found = likelihoods(decoder, [Request(question, (answer,)) for answer in range(V)])
    assert seen.shapes == [(1, 20)]
    assert seen.projected == 1
    assert sum(math.exp(-one.nats) for one in found) == pytest.approx(1)
    assert sum(one.greedy for one in found) == 1


@TRUNKS
def test_a_passage_under_questions_under_choices_is_computed_once(
    trunk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 tokens of passage, two questions of 10, four choices of 5 each, whose last token is not fed."""
    decoder = make(trunk)
    passage = numbers(40, 0)
    asked = [
        Request((*passage, 0, q, *numbers(8, q)), (c, *numbers(4, 10 * q + c)))
        for q in (1, 2)
        for c in range(4)
    ]
    with watched(decoder, monkeypatch) as seen:
        likelihoods(decoder, asked)
    # The questions begin with the same token.
    assert seen.shapes == [(1, 40 + 1 + 2 * 9 + 2 * 4 * 4)]
    # At the end of each question all first tokens are predicted from one place.
    assert seen.projected == 2 * (1 + 4 * 4)


def test_examples_in_context_are_computed_once_for_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More rows than fit into one sequence go on from the examples' keys and values."""
    decoder = make()
    examples = numbers(100, 0)
    asked = [Request((*examples, row, *numbers(19, row)), numbers(6, row)) for row in range(40)]
    with watched(decoder, monkeypatch) as seen:
        likelihoods(decoder, asked)
    assert seen.fed == 100 + 40 * (20 + 5)
    assert seen.shapes[0] == (1, 100)


def test_rows_of_similar_length_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = make()
    asked = [Request(numbers(5 + 3 * row % 130, row), numbers(1, row)) for row in range(300)]
    real = sum(len(request.context) for request in asked)
    with watched(decoder, monkeypatch) as seen:
        likelihoods(decoder, asked, batch_tokens=1024)
    assert real <= seen.fed < 1.07 * real
    assert max(math.prod(shape) for shape in seen.shapes) <= 1024
    assert len(seen.shapes) < 1.3 * real / 1024


def test_each_request_is_computed_once_and_counted_as_often_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = make()
    one, other = Request((1, 2, 3), (4, 5)), Request((6, 7), (8,))
    done: list[int] = []
    with watched(decoder, monkeypatch) as seen:
        found = likelihoods(decoder, [one, other, one, one], advance=done.append)
    assert seen.fed == 4 + 2 + 2  # (1, 2, 3, 4) and (6, 7) with two of padding
    assert seen.projected == 3
    assert found[0] == found[2] == found[3] != found[1]
    assert sum(done) == 4
    assert likelihoods(decoder, []) == []


def test_of_tokens_as_likely_the_lowest_id_is_the_likeliest() -> None:
    decoder = make()
    decoder.token_embedding.weight.data.zero_()
    found = likelihoods(decoder, [Request((1,), (token,)) for token in (0, 1, 7)])
    assert [one.greedy for one in found] == [True, False, False]
    assert [one.nats for one in found] == pytest.approx([math.log(V)] * 3)
    # With 0 out of the way it is the next.
    asked = [Request((1,), (1,)), Request((1,), (0,)), Request((1,), (1, 0)), Request((1,), (1, 1))]
    found = likelihoods(decoder, asked, banned=[0])
    assert [one.greedy for one in found] == [True, False, True, False]
    assert found[2].token_nats == pytest.approx([math.log(V)] * 2)


@TRUNKS
def test_nothing_is_cut(trunk: str) -> None:
    decoder = make(trunk, context=16)
    full = Request(numbers(12, 0), numbers(5, 1))  # the last is not fed
    assert len(likelihoods(decoder, [full])[0].token_nats) == 5
    with pytest.raises(
        ValueError, match=r"^Request 1 .* context of 16 tokens\. Found 17: 13 of its"
    ):
        likelihoods(decoder, [full, Request(numbers(13, 0), numbers(5, 1))])


@pytest.mark.parametrize("parts", [((), (1,)), ((1,), ())], ids=["context", "continuation"])
def test_neither_part_is_empty(parts: Any) -> None:
    with pytest.raises(ValueError, match="at least one token each"):
        Request(*parts)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_decoder_as_it_was(training: bool) -> None:
    shape = {"layers": 1, "width": 16, "heads": 2, "context": 8, "dropout": 0.5}
    decoder = new_decoder(DecoderConfig(name="test", **shape), V).train(training)
    asked = [Request((1, 2), (3,))]
    assert likelihoods(decoder, asked) == likelihoods(decoder, asked)  # nothing is dropped
    assert decoder.training is training
    with pytest.raises(IndexError):
        likelihoods(decoder, [Request((V,), (0,))])
    assert decoder.training is training
