"""A request's likelihood is its own: the same alone, fed slowly, as among others, in any order and batch."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.config.schema import DecoderConfig
from mtl.decoder.building import new_decoder
from mtl.decoder.gpt import Decoder
from mtl.scoring import trie
from mtl.scoring.likelihood import Likelihood, Request, likelihoods

CONTEXT = 72
TOKENS = 12
MOST_NATS_APART = 2e-6


def make(trunk: str) -> Decoder:
    """A decoder whose weights are large enough that what a token sees changes its probabilities a lot."""
    shape = {"layers": 2, "width": 32, "heads": 2, "context": CONTEXT}
    decoder = new_decoder(DecoderConfig(name="test", trunk=trunk, **shape), TOKENS)
    for name, parameter in decoder.named_parameters():
        if parameter.dim() == 2:
            parameter.data *= 8 if trunk == "transformer" or "token" in name else 2
    return decoder.eval()


DECODERS = {trunk: make(trunk) for trunk in ("transformer", "lstm")}


@torch.inference_mode()
def alone(decoder: Decoder, request: Request, banned: Sequence[int] = ()) -> Likelihood:
    """The request as one plain row, every token looked at by itself."""
    hidden = decoder(torch.tensor([request.context + request.continuation[:-1]]))[0]
    nats, greedy = [], True
    for k, token in enumerate(request.continuation):
        logits = decoder.logits(hidden[len(request.context) - 1 + k])
        nats.append(-float(logits.log_softmax(-1)[token]))
        if k == 0:
            logits[list(banned)] = -torch.inf
        greedy &= int(logits.argmax()) == token
    return Likelihood(sum(nats), greedy, tuple(nats))


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    """Contexts that begin alike for a while, as passages, questions and in-context examples do; few tokens differ."""
    token = st.integers(0, 2)
    random = draw(st.randoms(use_true_random=False))
    stem = [random.randrange(TOKENS) for _ in range(CONTEXT)]
    found = []
    for _ in range(draw(st.integers(1, 12))):
        begin = stem[: draw(st.integers(0, CONTEXT - 12))]
        context = begin + draw(st.lists(token, min_size=1, max_size=8))
        continuation = draw(st.lists(token, min_size=1, max_size=5))
        found.append(Request(tuple(context), tuple(continuation)))
    return found


def same(one: Likelihood, other: Likelihood) -> None:
    assert one.token_nats == pytest.approx(other.token_nats, rel=0, abs=MOST_NATS_APART)
    assert one.nats == pytest.approx(sum(other.token_nats), rel=0, abs=1e-5)
    assert one.greedy == other.greedy


@pytest.mark.parametrize("trunk", DECODERS)
@pytest.mark.parametrize(
    ("shortest", "worth"),
    [(trie.PREFIX, trie.WORTH), (2, 0)],
    ids=["as it is", "every prefix on its own"],
)
@settings(max_examples=40)
@given(data=st.data())
def test_neither_neighbours_nor_order_nor_batch_size_count(
    trunk: str, shortest: int, worth: int, data: st.DataObject
) -> None:
    decoder = DECODERS[trunk]
    asked = data.draw(requests())
    banned = data.draw(st.lists(st.integers(0, 2), max_size=2))
    batch_tokens = data.draw(st.sampled_from([1, 200, 8192]))
    with patch.object(trie, "PREFIX", shortest), patch.object(trie, "WORTH", worth):
        found = likelihoods(decoder, asked, batch_tokens=batch_tokens, banned=banned)
        order = data.draw(st.permutations(range(len(asked))))
        some = order[: data.draw(st.integers(1, len(asked)))]
        among_others = likelihoods(decoder, [asked[i] for i in some], banned=banned)
    expected = [alone(decoder, request, banned) for request in asked]
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    for i, one in zip(some, among_others, strict=True):
        same(one, expected[i])
    # Of candidates asked twice the first is taken, as they are equal bit for bit.
    assert likeliest(found) == likeliest(expected)


def likeliest(candidates: Sequence[Likelihood]) -> int:
    return min(range(len(candidates)), key=lambda i: candidates[i].nats)
