from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig
from mtl.decoder.building import new_decoder

CONFIGS = Path(__file__).parents[3] / "configs" / "decoder"
PARAMETERS = {
    # Published counts, with GPT-2's vocabulary of 50257 (GPT-1's of 40478).
    "gpt1": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
    # By hand: V D + T D + layers (12 D**2 + 13 D) + 2 D.
    "micro": 50257 * 32 + 128 * 32 + 2 * (12 * 32**2 + 13 * 32) + 2 * 32,
    "tiny": 50257 * 64 + 256 * 64 + 2 * (12 * 64**2 + 13 * 64) + 2 * 64,
    "small": 50257 * 256 + 512 * 256 + 4 * (12 * 256**2 + 13 * 256) + 2 * 256,
    # By hand: V D + 4 H (D + H) + 8 H + H D + D.
    "tiny_lstm": 50257 * 64 + 4 * 134 * (64 + 134) + 8 * 134 + 134 * 64 + 64,
    "gpt1_lstm": 40478 * 768 + 4 * 2048 * (768 + 2048) + 8 * 2048 + 2048 * 768 + 768,
    "gpt1_lstm_matched": 40478 * 768 + 4 * 4168 * (768 + 4168) + 8 * 4168 + 4168 * 768 + 768,
}
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])


def tokens_of(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(50, (rows, length), generator=torch.Generator().manual_seed(seed))


def block_diagonal(lengths: list[int], total: int) -> tuple[Tensor, Tensor]:
    """Positions and mask of a row of packed sequences; the padding behind sees itself."""
    owner = torch.full((total,), -1)
    positions = torch.zeros(total, dtype=torch.long)
    start = 0
    for index, length in enumerate(lengths):
        owner[start : start + length] = index
        positions[start : start + length] = torch.arange(length)
        start += length
    causal = torch.ones(total, total, dtype=torch.bool).tril()
    return positions, ((owner[:, None] == owner) & causal) | torch.eye(total, dtype=torch.bool)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_named_sizes_have_their_exact_parameter_counts(name: str) -> None:
    config = DecoderConfig(**yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))
    with torch.device("meta"):
        decoder = new_decoder(config, 40478 if name.startswith("gpt1") else 50257)

    assert config.name == name
    assert decoder.device.type == "meta"
    assert sum(parameter.numel() for parameter in decoder.parameters()) == PARAMETERS[name]


def test_every_named_size_is_counted() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == PARAMETERS.keys()


@NORMS
def test_construction_leaves_the_global_random_state_alone(make, norm) -> None:
    before = torch.get_rng_state()
    make(norm=norm)
    assert torch.equal(torch.get_rng_state(), before)


def test_construction_does_not_read_the_global_random_state(make) -> None:
    torch.manual_seed(1)
    one = make()
    torch.manual_seed(2)
    two = make()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_another_seed_gives_other_weights(make) -> None:
    assert not torch.equal(make(seed=0).token_embedding.weight, make(seed=1).token_embedding.weight)


def test_no_two_parameters_share_their_random_stream(make) -> None:
    decoder = make(layers=3)
    firsts = [(p.flatten()[:32] / p.std()).tolist() for p in decoder.parameters() if p.dim() == 2]
    correlations = torch.corrcoef(torch.tensor(firsts)) - torch.eye(len(firsts))
    assert correlations.abs().max() < 0.8


def test_special_tokens_change_no_other_weight(make) -> None:
    plain = make(50)
    few = make(53, base_vocabulary=50)
    many = make(77, base_vocabulary=50)

    for name, parameter in plain.named_parameters():
        if name != "token_embedding.weight":
            assert torch.equal(parameter, few.get_parameter(name)), name
            assert torch.equal(parameter, many.get_parameter(name)), name
    assert torch.equal(few.token_embedding.weight[:50], plain.token_embedding.weight)
    assert torch.equal(many.token_embedding.weight[:53], few.token_embedding.weight)
    assert many.token_embedding.weight[50:].unique(dim=0).shape[0] == 27


def test_special_tokens_change_no_base_row_at_any_size(make) -> None:
    """torch draws 16 normals at a time, so that a longer draw begins otherwise where the shorter one ends."""
    for base in (1, 3, 7):
        alone = make(base, width=4, heads=1).token_embedding.weight
        followed = make(base + 2, base_vocabulary=base, width=4, heads=1).token_embedding.weight
        assert torch.equal(followed[:base], alone)


def test_resized_vocabulary_equals_one_that_was_built_larger(make) -> None:
    tokens = tokens_of(2, 9)
    resized = make(50)
    hidden = resized(tokens)
    resized.resize_vocabulary(55, seed=0)

    assert resized.vocabulary_size == 55
    assert torch.equal(
        resized.token_embedding.weight, make(55, base_vocabulary=50).token_embedding.weight
    )
    assert torch.equal(resized(tokens), hidden)
    assert resized.logits(hidden).shape == (2, 9, 55)
    assert resized.token_embedding.weight.requires_grad


def test_a_vocabulary_never_shrinks(make) -> None:
    with pytest.raises(ValueError, match="`size` must be at least the vocabulary's 50, got 49"):
        make(50).resize_vocabulary(49, seed=0)


@NORMS
def test_initial_weights_have_the_documented_spread(make, norm) -> None:
    decoder = make(1000, norm=norm, layers=8, width=128, context=256)
    residual = 0.02 / math.sqrt(2 * 8) if norm == "pre" else 0.02
    checked = 0
    for name, parameter in decoder.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            expected = residual if name.endswith(".output.weight") else 0.02
            tolerance = 4 / math.sqrt(2 * parameter.numel())  # four standard errors
            assert parameter.std().item() == pytest.approx(expected, rel=tolerance), name
            assert abs(parameter.mean().item()) < 4 * expected / math.sqrt(parameter.numel()), name
            checked += name.endswith(".output.weight")
    assert checked == 16


@NORMS
def test_a_token_never_sees_what_comes_after(make, norm) -> None:
    decoder = make(norm=norm, scale=10)
    tokens = tokens_of(2, 12)
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 50

    before, after = decoder(tokens), decoder(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-3


@NORMS
def test_no_gradient_reaches_the_future(make, norm) -> None:
    decoder = make(norm=norm, scale=10)
    decoder(torch.arange(12)[None])[0, 6].square().sum().backward()
    reached = decoder.token_embedding.weight.grad.abs().amax(-1) > 0
    assert reached.tolist() == [True] * 7 + [False] * 43


@NORMS
def test_explicit_causal_mask_and_positions_are_the_default(make, norm) -> None:
    decoder = make(norm=norm, scale=10)
    tokens = tokens_of(3, 11)
    positions, mask = block_diagonal([11], 11)
    explicit = decoder(tokens, positions.expand(3, -1), mask.expand(3, 1, -1, -1))
    torch.testing.assert_close(explicit, decoder(tokens), atol=1e-5, rtol=0)


@NORMS
def test_packed_sequences_equal_separate_ones(make, norm) -> None:
    decoder = make(norm=norm, scale=10)
    lengths = [[5, 9, 3], [14, 1], [20]]
    sequences = [[tokens_of(1, n, seed=n)[0] for n in row] for row in lengths]
    packed = torch.zeros(3, 20, dtype=torch.long)
    laid = [block_diagonal(row, 20) for row in lengths]
    for index, row in enumerate(sequences):
        joined = torch.cat(row)
        packed[index, : len(joined)] = joined

    positions = torch.stack([p for p, _ in laid])
    mask = torch.stack([m for _, m in laid])[:, None]
    hidden = decoder(packed, positions, mask)
    for index, row in enumerate(sequences):
        start = 0
        for sequence in row:
            alone = decoder(sequence[None])[0]
            together = hidden[index, start : start + len(sequence)]
            torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
            start += len(sequence)


def test_packed_gradients_equal_separate_ones(make) -> None:
    packed, separate = make(scale=5), make(scale=5)
    first, second = tokens_of(1, 6, seed=1), tokens_of(1, 10, seed=2)
    positions, mask = block_diagonal([6, 10], 16)
    readout = torch.randn(1, 16, 32)
    (
        packed(torch.cat([first, second], 1), positions[None], mask[None, None]) * readout
    ).sum().backward()
    (separate(first) * readout[:, :6]).sum().backward()
    (separate(second) * readout[:, 6:]).sum().backward()
    for name, parameter in packed.named_parameters():
        expected = separate.get_parameter(name).grad
        tolerance = 1e-5 * max(1.0, expected.abs().max().item())
        assert (parameter.grad - expected).abs().max().item() < tolerance, name


def test_packed_rows_may_be_longer_than_the_context(make) -> None:
    decoder = make(context=8, scale=10)
    tokens = tokens_of(1, 8)
    positions, mask = block_diagonal([8, 8], 16)
    hidden = decoder(tokens.repeat(1, 2), positions[None], mask[None, None])
    torch.testing.assert_close(hidden[:, 8:], decoder(tokens), atol=1e-5, rtol=0)


def test_a_row_longer_than_the_context_is_refused(make) -> None:
    with pytest.raises(ValueError, match="`tokens` must be at most `context` long, got 9 and 8"):
        make(context=8)(tokens_of(1, 9))


def test_heads_must_divide_the_width(make) -> None:
    with pytest.raises(UserError) as raised:
        make(width=30, heads=4)
    assert str(raised.value) == "width must be a multiple of heads, got 30 and 4 (decoder test)"


def test_the_head_is_the_token_embedding(make) -> None:
    decoder = make()
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(decoder.logits(hidden), hidden @ decoder.token_embedding.weight.T)
    assert "token_embedding.weight" in dict(decoder.named_parameters())
    assert sum(p.shape == (50, 32) for p in decoder.parameters()) == 1


def test_pre_norm_ends_normalised_and_post_norm_has_no_final_norm(make) -> None:
    hidden = make(norm="pre", scale=10)(tokens_of(2, 6))
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(2, 6), atol=1e-5, rtol=0)
    assert make(norm="post").final_norm is None


def test_dropout_acts_in_training_only(make) -> None:
    decoder, without = make(dropout=0.5, scale=10), make(scale=10)
    tokens = tokens_of(2, 8)
    assert torch.equal(decoder(tokens), without(tokens))
    decoder.train()
    torch.manual_seed(0)
    assert not torch.allclose(decoder(tokens), decoder(tokens))


def test_each_kind_of_dropout_acts(make, monkeypatch) -> None:
    """Embeddings, attention weights and both residual branches of each of two blocks."""
    probabilities: list[float] = []
    attention: list[float] = []
    dropout, attend = torch.nn.functional.dropout, torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.dropout",
        lambda x, p: probabilities.append(p) or dropout(x, p),
    )
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda *a, **k: attention.append(k["dropout_p"]) or attend(*a, **k),
    )
    make(dropout=0.25).train()(tokens_of(1, 4))
    assert probabilities == [0.25] * 5
    assert attention == [0.25] * 2


def test_flops_of_a_case_counted_by_hand(make) -> None:
    decoder = make(100, layers=3, width=16, heads=2)
    matrices = 3 * (16 * 48 + 16 * 16 + 16 * 64 + 64 * 16)  # one multiply-add per weight and token
    attention = 3 * (2 * 16 * 5.5)  # scores and weighted sum over 5.5 tokens
    forward = 2 * (10 * (matrices + attention) + 4 * 100 * 16)
    assert decoder.flops(10, 5.5, 4, backward=False) == forward
    assert decoder.flops(10, 5.5, 4) == 3 * forward
    # Of four tokens, in the last of the three blocks.
    spared = 4 * 2 * (16 * 16 + 16 * 64 + 64 * 16)
    assert decoder.flops(10, 5.5, 4, read=6, backward=False) == forward - spared
    assert decoder.flops(10, 5.5, 4, read=6) == 3 * (forward - spared)
    assert decoder.flops(10, 5.5, 4, read=10) == decoder.flops(10, 5.5, 4)


@NORMS
@pytest.mark.parametrize("read", [None, 5, 1])
def test_flops_agree_with_torchs_own_counter(make, norm, read) -> None:
    decoder = make(layers=3, norm=norm)
    only = None if read is None else torch.arange(read) * 6
    # The plain implementation: torch counts its two products over the whole row of 16, and no CPU kernel's.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        decoder.logits(decoder(tokens_of(2, 16), only=only)).sum().backward()
    assert counter.get_total_flops() == decoder.flops(32, 16, read or 32, read=read)
