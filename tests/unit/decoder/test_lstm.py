"""The decoder with an LSTM trunk: against torch's own LSTM, and each sequence of a packed batch against it alone."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mtl.config.schema import DecoderConfig
from mtl.data.batch import Batch, collate
from mtl.data.encoding import Encoded
from mtl.decoder.building import new_decoder
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.decoder.lstm import LstmDecoder

CONFIGS = Path(__file__).parents[3] / "configs" / "decoder"
SHAPE = {"name": "test", "layers": 2, "width": 16, "heads": 1, "context": 48, "trunk": "lstm"}
SHAPES = pytest.mark.parametrize(
    "shape",
    [
        {"layers": 1},
        {"layers": 2},
        {"layers": 1, "units": 24},
        {"layers": 3, "units": 10},
    ],
    ids=str,
)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17, 18]]


def make(vocabulary_size: int = 50, *, large: bool = False, **changes: object) -> Decoder:
    """A decoder in evaluation mode, its matrices large where asked, so that states differ visibly."""
    decoder = new_decoder(DecoderConfig(**{**SHAPE, **changes}), vocabulary_size)
    if large:
        for name, parameter in decoder.named_parameters():
            if parameter.dim() == 2:
                parameter.data *= 4 if "token" in name else 2
    return decoder.eval()


def tokens_of(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(50, (rows, length), generator=torch.Generator().manual_seed(seed))


def reference(decoder: Decoder, tokens: Tensor) -> Tensor:
    """The same through one stacked ``torch.nn.LSTM`` that carries over the weights."""
    config = decoder.config
    units = config.units or config.width
    lstm = torch.nn.LSTM(config.width, units, config.layers, batch_first=True)
    for layer, block in enumerate(decoder.blocks):
        for name, weight in block.named_parameters():
            setattr(lstm, name.removesuffix("l0") + f"l{layer}", weight)
    hidden, _ = lstm(50 * decoder.token_embedding.weight[tokens])
    projection = decoder.projection
    if projection is None:
        return hidden
    return hidden @ projection.weight.T + projection.bias


@SHAPES
def test_a_plain_batch_equals_torchs_lstm(shape) -> None:
    decoder = make(large=True, **shape)
    tokens = tokens_of(3, 12)
    ours, theirs = decoder(tokens), reference(decoder, tokens)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)

    readout = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    parameters = list(decoder.parameters())
    one = torch.autograd.grad((ours * readout).sum(), parameters)
    other = torch.autograd.grad((theirs * readout).sum(), parameters)
    for mine, expected in zip(one, other, strict=True):
        assert expected.abs().max() > 0
        tolerance = 1e-6 * max(1.0, expected.abs().max().item())
        torch.testing.assert_close(mine, expected, atol=tolerance, rtol=0)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Examples with and without branches, several to a row."""
    encoded = []
    for _ in range(draw(st.integers(1, 7))):
        branches = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
        length = draw(st.integers(1, 9)) + sum(branches)
        tokens = np.array(draw(st.lists(st.integers(0, 49), min_size=length, max_size=length)))
        labelled = np.arange(length) > 0
        encoded.append(Encoded(tokens=tokens, labelled=labelled, target=0.0, branches=branches))
    numbers = range(len(encoded))
    row_tokens = draw(st.integers(0, 40))
    return collate(encoded, tasks=[0] * len(encoded), rows=numbers, row_tokens=row_tokens)


def paths(batch: Batch) -> list[tuple[Tensor, list[int]]]:
    """Each sequence of a batch from its first token to its last, and where its tokens lie among the R*T."""
    sources = dict(zip(*_edges(batch), strict=True))
    found = []
    for end in batch.branch_ends.tolist():
        path = [end]
        while path[-1] in sources:
            path.append(sources[path[-1]])
        path.reverse()
        found.append((batch.tokens.flatten()[path], path))
    return found


def _edges(batch: Batch) -> tuple[list[int], list[int]]:
    """Each labelled token (all but the first of an example) and the token before it."""
    width = batch.tokens.shape[1]
    labelled, before, position = [], [], batch.positions.flatten()
    for here in range(batch.tokens.numel()):
        row, column = divmod(here, width)
        for seen in range(column):
            visible = batch.mask is None or batch.mask[row, 0, column, seen]
            if visible and position[row * width + seen] == position[here] - 1:
                labelled.append(here)
                before.append(row * width + seen)
    return labelled, before


@settings(max_examples=40, deadline=None)
@given(batch=batches(), shape=st.sampled_from([{"layers": 1, "units": 24}, {"layers": 2}]))
def test_each_sequence_of_a_packed_batch_is_as_if_alone(batch, shape) -> None:
    together, alone = make(large=True, **shape), make(large=True, **shape)
    hidden = together(batch.tokens, batch.positions, batch.mask).flatten(0, 1)
    loss, expected_loss = hidden.new_zeros(()), hidden.new_zeros(())
    readout = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    for tokens, path in paths(batch):
        expected = alone(tokens[None])[0]
        torch.testing.assert_close(hidden[path], expected, atol=1e-6, rtol=0)
        loss = loss + (hidden[path] * readout[: len(path)]).sum()
        expected_loss = expected_loss + (expected * readout[: len(path)]).sum()
    one = torch.autograd.grad(loss, list(together.parameters()))
    other = torch.autograd.grad(expected_loss, list(alone.parameters()))
    for mine, theirs in zip(one, other, strict=True):
        tolerance = 2e-6 * max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=0)


def test_a_sequence_may_lie_scattered_over_its_row() -> None:
    """Two sequences in turns, and a branch that leaves the first of them in its middle."""
    decoder = make(large=True)
    tokens = tokens_of(1, 7)
    members = [[0, 2, 4], [1, 3, 6], [0, 2, 5]]
    mask = torch.eye(7, dtype=torch.bool)
    positions = torch.tensor([[0, 0, 1, 1, 2, 2, 2]])
    for path in members:
        for place, token in enumerate(path):
            mask[token, path[: place + 1]] = True
    hidden = decoder(tokens, positions, mask[None, None])[0]
    for path in members:
        alone = decoder(tokens[:, path])[0]
        torch.testing.assert_close(hidden[path], alone, atol=1e-6, rtol=0)


def test_positions_default_to_the_columns() -> None:
    decoder = make(large=True)
    tokens = tokens_of(3, 11)
    mask = torch.ones(3, 1, 11, 11, dtype=torch.bool).tril()
    torch.testing.assert_close(decoder(tokens, mask=mask), decoder(tokens), atol=1e-6, rtol=0)


@pytest.mark.parametrize("positions", [[0, 1, 3], [0, 0, 1]])
def test_a_token_without_one_token_before_it_is_refused(positions) -> None:
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool).tril()
    with pytest.raises(ValueError, match="should see exactly one token at the position before"):
        make()(tokens_of(1, 3), torch.tensor([positions]), mask)


def test_a_row_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="`tokens` must be at most `context` long, got 9 and 8"):
        make(context=8)(tokens_of(1, 9))


@SHAPES
def test_cached_generation_equals_reading_everything_again(shape) -> None:
    decoder = make(large=True, **shape)
    expected = []
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(20):
            tokens.append(int(decoder.logits(decoder(torch.tensor([tokens]))[0, -1]).argmax()))
        expected.append(tokens[len(prompt) :])
    assert len({tuple(tokens) for tokens in expected}) > 1
    assert generate(decoder, PROMPTS, max_new_tokens=20) == expected


def test_rows_that_stop_leave_the_others_as_they_were() -> None:
    decoder = make(large=True)
    free = generate(decoder, PROMPTS, max_new_tokens=9, temperature=3.0)
    stop = {free[0][2], free[3][5]}
    stopped = generate(decoder, PROMPTS, max_new_tokens=9, temperature=3.0, stop=stop)
    for answer, whole in zip(stopped, free, strict=True):
        cut = next((i for i, token in enumerate(whole) if token in stop), len(whole))
        assert answer == whole[:cut]
    assert len({len(answer) for answer in stopped}) > 1


def test_a_cache_goes_on_behind_rows_of_unequal_length() -> None:
    decoder = make(large=True)
    cache = decoder.new_cache(3, 9)
    decoder(torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0], [20, 21, 0, 0]]), cache=cache)
    cache.advance([4, 1, 2])
    cache.keep([1, 0])
    hidden = decoder(torch.tensor([[9, 10, 11], [6, 7, 0]]), cache=cache)
    cache.advance([3, 2])
    assert cache.lengths == [4, 6]
    last = decoder(torch.tensor([[12], [13]]), cache=cache)
    for row, whole in enumerate(([5, 9, 10, 11, 12], [1, 2, 3, 4, 6, 7, 13])):
        alone = decoder(torch.tensor([whole]))[0]
        read = len(whole) - 1
        new = min(3, read - [1, 4][row])
        torch.testing.assert_close(hidden[row, :new], alone[read - new : read], atol=1e-6, rtol=0)
        torch.testing.assert_close(last[row, 0], alone[-1], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="the cache holds 9 tokens a row, got 10"):
        decoder(torch.zeros(2, 4, dtype=torch.long), cache=cache)


def test_mask_and_cache_exclude_each_other() -> None:
    decoder = make()
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool).tril()
    with pytest.raises(ValueError, match="`mask` and `cache` cannot be given together"):
        decoder(tokens_of(1, 2), mask=mask, cache=decoder.new_cache(1, 4))


def test_dropout_lies_on_embeddings_and_layers_in_training_only(monkeypatch) -> None:
    decoder, without = make(dropout=0.25, large=True), make(large=True)
    tokens = tokens_of(2, 8)
    assert torch.equal(decoder(tokens), without(tokens))
    dropped: list[tuple[int, float]] = []
    dropout = torch.nn.functional.dropout
    monkeypatch.setattr(
        "torch.nn.functional.dropout",
        lambda x, p: dropped.append((x.shape[-1], p)) or dropout(x, p),
    )
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool).tril()
    for seen in (None, mask):
        dropped.clear()
        hidden = decoder.train()(tokens, mask=seen)
        assert dropped == [(16, 0.25)] * 3  # embeddings, and each of two layers
        assert not torch.allclose(hidden, without(tokens))


def test_special_tokens_change_no_other_weight() -> None:
    plain = make(50, units=20)
    config = plain.config
    more = new_decoder(config, 53, base_vocabulary=50)
    for name, parameter in plain.named_parameters():
        expected = more.get_parameter(name)
        assert torch.equal(parameter, expected[:50] if "token" in name else expected), name
    plain.resize_vocabulary(53, seed=0)
    assert torch.equal(plain.token_embedding.weight, more.token_embedding.weight)


def test_weights_follow_from_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one = make()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    two = make()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = new_decoder(one.config, 50, seed=1)
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs) == ("bias" in name), name


def test_initial_weights_are_as_documented() -> None:
    decoder = make(layers=2, width=64, units=96)
    for name, parameter in decoder.named_parameters():
        if name.endswith("bias_ih_l0"):
            gates = parameter.view(4, 96)
            assert torch.equal(gates, torch.tensor([0.0, 1, 0, 0])[:, None].expand(4, 96)), name
        elif "bias" in name:
            assert (parameter == 0).all(), name
        else:
            expected = 0.02 if "token" in name else 1 / math.sqrt(3 * 96)
            tolerance = 4 / math.sqrt(2 * parameter.numel())  # four standard errors
            assert parameter.std().item() == pytest.approx(expected, rel=tolerance), name


def test_a_copy_has_weights_of_its_own() -> None:
    decoder = make(large=True)
    tokens = tokens_of(2, 6)
    before = decoder(tokens)
    twin = copy.deepcopy(decoder)
    assert torch.equal(twin(tokens), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter += 0.1
    assert torch.equal(decoder(tokens), before)
    assert not torch.allclose(twin(tokens), before, atol=1e-3)
    decoder.load_state_dict(twin.state_dict())
    assert torch.equal(decoder(tokens), twin(tokens))


def test_autocast_computes_as_a_plain_pass_does_under_it() -> None:
    decoder = make(large=True)
    tokens = tokens_of(2, 9)
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    full = decoder(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for hidden in (
            decoder(tokens),
            decoder(tokens, mask=mask),
            decoder(tokens, cache=decoder.new_cache(2, 9)),
        ):
            torch.testing.assert_close(hidden.float(), full, atol=0.03, rtol=0)


def test_flops_of_a_case_counted_by_hand() -> None:
    decoder = make(100, layers=3, width=16, units=20)
    matrices = 80 * (16 + 20) + 2 * 80 * (20 + 20) + 20 * 16
    forward = 2 * (10 * matrices + 4 * 100 * 16)
    assert decoder.flops(10, 5.5, 4, backward=False) == forward
    assert decoder.flops(10, 99.0, 4) == 3 * forward
    unprojected = 2 * 3 * 20 * 16  # of three tokens
    assert decoder.flops(10, 5.5, 4, read=7, backward=False) == forward - unprojected
    as_wide = make(100, layers=3, width=16, units=16)
    assert as_wide.flops(10, 5.5, 4, read=7) == as_wide.flops(10, 5.5, 4)


def test_flops_agree_with_torchs_own_counter() -> None:
    """One step of the cell, which torch counts product by product."""
    decoder = make(layers=2, units=20)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden = decoder(tokens_of(6, 1), cache=decoder.new_cache(6, 1), only=torch.tensor([1, 4]))
        decoder.logits(hidden)
    assert counter.get_total_flops() == decoder.flops(6, 1, 2, read=2, backward=False)


@pytest.mark.parametrize(
    ("name", "like", "vocabulary"),
    [("tiny_lstm", "tiny", 8192), ("gpt1_lstm_matched", "gpt1", 40478)],
)
def test_matched_shapes_have_as_many_parameters(name, like, vocabulary) -> None:
    counts = []
    for stem in (name, like):
        config = DecoderConfig(**yaml.safe_load((CONFIGS / f"{stem}.yaml").read_text()))
        with torch.device("meta"):
            decoder = new_decoder(config, vocabulary)
        counts.append(sum(p.numel() for p in decoder.parameters()) - vocabulary * config.width)
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    assert (
        counts
        == {
            "tiny_lstm": [115_840, 116_480],
            "gpt1_lstm_matched": [85_528_128, 85_447_680],
        }[name]
    )


def test_the_trunk_is_chosen_by_the_config() -> None:
    assert type(make()) is LstmDecoder
    assert type(make(trunk="transformer")) is Decoder
