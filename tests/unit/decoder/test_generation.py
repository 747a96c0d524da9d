from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mtl.config.errors import UserError
from mtl.decoder.building import new_decoder
from mtl.decoder.cache import KeyValueCache
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13], [4], [14, 15, 16, 17, 18]]
pytestmark = pytest.mark.usefixtures("both_ways")
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])


def slowly(decoder: Decoder, prompt: list[int], new: int) -> list[int]:
    """Greedy decoding that reads the whole sequence again for every token."""
    tokens = list(prompt)
    for _ in range(new):
        logits = decoder.logits(decoder(torch.tensor([tokens]))[0, -1])
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]


@NORMS
def test_cached_generation_equals_reading_everything_again(make, norm) -> None:
    decoder = make(norm=norm, scale=10)
    expected = [slowly(decoder, prompt, 20) for prompt in PROMPTS]
    assert len({tuple(tokens) for tokens in expected}) == 5  # two prompts are equal
    assert generate(decoder, PROMPTS, max_new_tokens=20) == expected


@pytest.mark.parametrize(
    "shape", [{"norm": "pre"}, {"norm": "post"}, {"trunk": "lstm", "units": 24}], ids=str
)
def test_offsets_are_added_to_the_embeddings_of_old_and_new_tokens(make, shape) -> None:
    """Cached, against a decoder whose token embeddings hold the offset, reading everything again."""
    decoder = new_decoder(replace(make().config, **shape), 50).eval()
    for parameter in decoder.parameters():
        parameter.data *= 5 if parameter.dim() > 1 else 1
    offsets = torch.randn(len(PROMPTS), 32, generator=torch.Generator().manual_seed(0)) * 0.5
    weight = decoder.token_embedding.weight.detach().clone()
    expected = []
    for prompt, offset in zip(PROMPTS, offsets, strict=True):
        tokens = list(prompt)
        for _ in range(12):
            decoder.token_embedding.weight.data = weight + offset
            hidden = decoder(torch.tensor([tokens]))[0, -1]
            tokens.append(int((weight @ hidden).argmax()))
        expected.append(tokens[len(prompt) :])
    decoder.token_embedding.weight.data = weight
    assert generate(decoder, PROMPTS, max_new_tokens=12, offsets=offsets) == expected
    assert generate(decoder, PROMPTS, max_new_tokens=12) != expected


@NORMS
def test_hidden_states_do_not_depend_on_the_neighbours(make, norm) -> None:
    """Prefill and three single steps of rows of unequal length against full passes of each row alone."""
    decoder = make(norm=norm, scale=10)
    sequences = [torch.arange(n) + n for n in (4, 9, 1, 6)]
    lengths = [len(sequence) for sequence in sequences]
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    cache = KeyValueCache(4, 12)
    seen = [[] for _ in sequences]
    hidden = decoder(padded, cache=cache)
    cache.advance(lengths)
    for row, length in enumerate(lengths):
        seen[row].append(hidden[row, :length])
    for step in range(3):
        hidden = decoder(torch.tensor([[30 + step]] * 4), cache=cache)
        cache.advance([1] * 4)
        for row in range(4):
            seen[row].append(hidden[row])
    for row, sequence in enumerate(sequences):
        alone = decoder(torch.cat([sequence, torch.tensor([30, 31, 32])])[None])[0]
        torch.testing.assert_close(torch.cat(seen[row]), alone, atol=1e-5, rtol=0)


def test_cache_reads_several_tokens_behind_rows_of_unequal_length(make) -> None:
    decoder = make(scale=10)
    cache = KeyValueCache(2, 9)
    decoder(torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0]]), cache=cache)
    cache.advance([4, 1])
    hidden = decoder(torch.tensor([[6, 7, 8], [9, 10, 11]]), cache=cache)
    for row, whole in enumerate(([1, 2, 3, 4, 6, 7, 8], [5, 9, 10, 11])):
        alone = decoder(torch.tensor([whole]))[0, -3:]
        torch.testing.assert_close(hidden[row], alone, atol=1e-5, rtol=0)


def test_the_cache_takes_the_precision_of_autocast(make) -> None:
    decoder = make(scale=10)
    cache = KeyValueCache(2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoder(torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), cache=cache)
        cache.advance([4, 2])
        hidden = decoder(torch.tensor([[7], [8]]), cache=cache)
        for row, whole in enumerate(([1, 2, 3, 4, 7], [5, 6, 8])):
            alone = decoder(torch.tensor([whole]))[0, -1:]
            torch.testing.assert_close(hidden[row], alone, atol=0.05, rtol=0)
    nothing = torch.zeros(2, 4, 0, 8, dtype=torch.bfloat16)
    keys, values = cache.append(0, nothing, nothing)
    assert keys.dtype == values.dtype == torch.bfloat16


def test_dropping_rows_keeps_the_others(make) -> None:
    decoder = make(scale=10)
    cache = KeyValueCache(3, 6)
    decoder(torch.tensor([[1, 2, 3], [4, 5, 0], [6, 7, 8]]), cache=cache)
    cache.advance([3, 2, 3])
    cache.keep([1, 2])
    assert cache.lengths == [2, 3]
    hidden = decoder(torch.tensor([[9], [10]]), cache=cache)
    for row, whole in enumerate(([4, 5, 9], [6, 7, 8, 10])):
        alone = decoder(torch.tensor([whole]))[0, -1:]
        torch.testing.assert_close(hidden[row], alone, atol=1e-5, rtol=0)


def test_cache_refuses_more_than_it_holds(make) -> None:
    with pytest.raises(ValueError, match="the cache holds 4 tokens a row, got 5"):
        make()(torch.zeros(1, 5, dtype=torch.long), cache=KeyValueCache(1, 4))


def test_mask_and_cache_exclude_each_other(make) -> None:
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool).tril()
    with pytest.raises(ValueError, match="`mask` and `cache` cannot be given together"):
        make()(torch.zeros(1, 2, dtype=torch.long), mask=mask, cache=KeyValueCache(1, 4))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_answers_the_same_alone_and_in_a_batch(make, temperature) -> None:
    decoder = make(scale=10)
    options = {
        "max_new_tokens": 15,
        "temperature": temperature,
        "stop": set(range(0, 50, 6)),
        "seed": 4,
    }
    together = generate(decoder, PROMPTS, **options)
    assert len({len(answer) for answer in together}) > 2  # rows stop at different steps
    # Row 0 draws from the stream of row 0 whatever follows it.
    assert generate(decoder, PROMPTS[:1], **options) == together[:1]
    assert generate(decoder, PROMPTS[:3], **options) == together[:3]
    replaced = generate(decoder, [[40], *PROMPTS[1:]], **options)
    assert replaced[1:] == together[1:]


@pytest.mark.parametrize("temperature", [0.0, 1.3])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_named_stream_answers_the_same_in_any_batch_and_order(make, temperature, size) -> None:
    decoder = make(scale=10)
    options = {
        "max_new_tokens": 15,
        "temperature": temperature,
        "top_p": 0.95,
        "stop": set(range(0, 50, 6)),
        "seed": 4,
    }
    together = generate(decoder, PROMPTS, **options)
    order = [3, 0, 5, 2, 4, 1]
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        prompts = [PROMPTS[row] for row in rows]
        assert generate(decoder, prompts, streams=rows, **options) == [together[r] for r in rows]
    same, other = (
        generate(decoder, [[4]], streams=[stream], max_new_tokens=15, temperature=1.0)
        for stream in (7, 8)
    )
    assert same != other


def test_a_row_ends_when_it_is_said_to(make) -> None:
    decoder = make(scale=10)
    free = generate(decoder, PROMPTS, max_new_tokens=9)
    asked: list[tuple[int, int]] = []

    def ended(row: int, tokens: list[int]) -> bool:
        asked.append((row, len(tokens)))
        return row % 2 == 1 and len(tokens) == row

    found = generate(decoder, PROMPTS, max_new_tokens=9, ended=ended)
    assert found == [free[row][: row if row % 2 else 9] for row in range(6)]
    assert asked == sorted(asked, key=lambda pair: (pair[1], pair[0]))
    assert [n for row, n in asked if row == 3] == [1, 2, 3]


def test_one_token_behind_rows_of_one_length_needs_no_mask(make) -> None:
    cache = KeyValueCache(2, 5)
    make()(torch.tensor([[1, 2, 3], [4, 5, 6]]), cache=cache)
    cache.advance([3, 3])
    assert cache.mask(1, torch.device("cpu")) is None
    assert cache.mask(2, torch.device("cpu")) is not None
    cache.keep([0])
    assert cache.mask(1, torch.device("cpu")) is None


def test_stop_tokens_end_a_row_and_are_left_out(make) -> None:
    decoder = make(scale=10)
    free = generate(decoder, PROMPTS, max_new_tokens=12)
    stop = {free[0][5], free[2][3]}
    stopped = generate(decoder, PROMPTS, max_new_tokens=12, stop=stop)
    for answer, whole in zip(stopped, free, strict=True):
        cut = next((i for i, token in enumerate(whole) if token in stop), len(whole))
        assert answer == whole[:cut]
    assert len(stopped[0]) <= 5 < len(free[0])


def test_finished_rows_are_not_computed(make, monkeypatch) -> None:
    decoder = make(scale=10)
    first = generate(decoder, [[1, 2, 3]], max_new_tokens=1)[0][0]
    rows: list[int] = []
    logits = decoder.logits
    generate(
        decoder,
        [[1, 2, 3], [20, 21]],
        max_new_tokens=5,
        stop=[first],
        project=lambda hidden: rows.append(len(hidden)) or logits(hidden),
    )
    assert rows[0] == 2
    assert set(rows[1:]) == {1}


def test_banned_tokens_are_never_chosen(make) -> None:
    decoder = make(scale=10)
    banned = sorted(
        {token for answer in generate(decoder, PROMPTS, max_new_tokens=9) for token in answer}
    )
    for temperature in (0.0, 3.0):
        answers = generate(
            decoder, PROMPTS, max_new_tokens=9, banned=banned, temperature=temperature
        )
        assert all(len(answer) == 9 for answer in answers)
        assert not {token for answer in answers for token in answer} & set(banned)


def test_a_projection_of_the_tasks_own_is_used(make) -> None:
    decoder = make(scale=10)
    answers = generate(
        decoder,
        PROMPTS,
        max_new_tokens=4,
        project=lambda hidden: torch.nn.functional.one_hot(
            torch.full((len(hidden),), 17), 50
        ).float(),
    )
    assert answers == [[17] * 4] * len(PROMPTS)


def test_dropout_is_off_while_decoding_and_on_again_after(make) -> None:
    decoder = make(dropout=0.5, scale=10)
    expected = generate(decoder, PROMPTS, max_new_tokens=8)
    decoder.train()
    assert generate(decoder, PROMPTS, max_new_tokens=8) == expected
    assert decoder.training
    decoder.eval()
    generate(decoder, PROMPTS, max_new_tokens=1)
    assert not decoder.training


def test_nothing_to_do_is_no_work(make) -> None:
    assert generate(make(), [], max_new_tokens=5) == []
    assert generate(make(), [[1]], max_new_tokens=0) == [[]]


def test_the_whole_context_can_be_filled(make) -> None:
    decoder = make(context=16, scale=10)
    assert generate(decoder, [list(range(10)), [3]], max_new_tokens=6) == [
        slowly(decoder, list(range(10)), 6),
        slowly(decoder, [3], 6),
    ]


def test_another_seed_samples_otherwise_and_the_same_seed_the_same(make) -> None:
    decoder = make()
    sample = [
        generate(decoder, PROMPTS, max_new_tokens=9, temperature=1.0, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert sample[0] == sample[1] != sample[2]
    assert sample[0][1] != sample[0][4]  # equal prompts in different rows


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (
            [[1], list(range(40))],
            {"max_new_tokens": 9},
            "a prompt of 40 tokens and 9 new ones do not fit into the context of 48 (prompt 1)",
        ),
        (
            [[1], []],
            {"max_new_tokens": 9},
            "the prompt is empty; at least one token is needed (prompt 1)",
        ),
        (
            [[1]],
            {"max_new_tokens": 1, "temperature": -1.0},
            "temperature must be 0 or more, got -1.0",
        ),
        ([[1]], {"max_new_tokens": 1, "top_k": 0}, "top_k must be 1 or more, got 0"),
        (
            [[1]],
            {"max_new_tokens": 1, "top_p": 1.5},
            "top_p must be above 0 and at most 1, got 1.5",
        ),
    ],
)
def test_mistakes_are_said(make, prompts, options, message) -> None:
    with pytest.raises(UserError) as raised:
        generate(make(), prompts, **options)
    assert str(raised.value) == message
