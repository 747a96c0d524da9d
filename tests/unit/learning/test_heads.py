"""Heads against the plain formulas, and the softmax over the choices of one row."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from mtl.config.schema import DecoderConfig
from mtl.data.batch import collate
from mtl.decoder.gpt import Decoder
from mtl.learning.heads import Heads, grouped_log_softmax, head_outputs
from mtl.learning.reading import for_heads
from mtl.learning.readout import hidden_states
from mtl.testing.strategies import CONTEXT, TASKS, base_vocabulary, examples

SHAPE = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(0, 99))
def test_grouped_log_softmax_is_log_softmax_of_each_group(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.randn(size, generator=generator) * 10 for size in sizes]
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    together = grouped_log_softmax(torch.cat(scores), groups, len(sizes))
    torch.testing.assert_close(together, torch.cat([s.log_softmax(0) for s in scores]))


def test_losses_are_the_formulas_of_each_kind() -> None:
    vocabulary = base_vocabulary()
    decoder = Decoder(SHAPE, vocabulary.size)
    heads = Heads(TASKS, decoder)
    for index, task in enumerate(TASKS):
        for example in examples(task, 3):
            (encoded,) = for_heads(example, task, vocabulary, CONTEXT, "train")
            batch = collate([encoded], tasks=[index], rows=[0])
            hidden, head = hidden_states(decoder, batch), heads.heads[task.name]
            if task.kind == "classification":
                logits = head(hidden[len(encoded.tokens) - 1])
                expected = F.cross_entropy(logits, torch.tensor(example.target))
            elif task.kind == "regression":
                expected = (head(hidden[len(encoded.tokens) - 1])[0] - example.target) ** 2
            elif task.kind == "multiple_choice":
                ends = encoded.prefix + torch.tensor(encoded.branches).cumsum(0) - 1
                expected = -head(hidden[ends]).squeeze(1).log_softmax(0)[example.target]
            else:
                where = torch.tensor(encoded.labelled).nonzero().squeeze(1)
                targets = torch.tensor(encoded.tokens)[where].long()
                expected = F.cross_entropy(head(hidden[where - 1]), targets)
            torch.testing.assert_close(heads.losses(decoder, batch)[0], expected)


def test_tasks_of_one_kind_share_no_loss() -> None:
    """Two tasks of each kind, their rows in turns: what is computed for both at once goes back to the right row."""
    again = tuple(replace(t, config=replace(t.config, name=f"{t.name}_2")) for t in TASKS)
    vocabulary, tasks = base_vocabulary(), (*TASKS, *again)
    decoder = Decoder(SHAPE, vocabulary.size)
    heads = Heads(tasks, decoder)
    rows = [
        (index, for_heads(example, task, vocabulary, CONTEXT, "train")[0])
        for index, task in enumerate(tasks)
        for example in examples(task, 3)
    ]
    rows = rows[::2] + rows[1::2]
    together = collate([e for _, e in rows], tasks=[k for k, _ in rows], rows=range(len(rows)))
    alone = [
        heads.losses(decoder, collate([encoded], tasks=[index], rows=[0]))[0]
        for index, encoded in rows
    ]
    torch.testing.assert_close(heads.losses(decoder, together), torch.stack(alone))


def test_permuting_the_choices_permutes_their_scores() -> None:
    vocabulary, task = base_vocabulary(), TASKS[2]
    decoder = Decoder(SHAPE, vocabulary.size)
    heads = Heads([task], decoder)
    example = examples(task, 2)[1]
    turned = type(example)(
        example.row,
        example.segments,
        example.prompt,
        0,
        example.answers[::-1],
        example.choices[::-1],
    )

    def scores(asked: object) -> torch.Tensor:
        encoded = for_heads(asked, task, vocabulary, CONTEXT, "answer")  # type: ignore[arg-type]
        batch = collate(encoded, tasks=[0], rows=[0])
        return torch.tensor(heads.answers(decoder, batch, task, vocabulary)[0].scores)

    torch.testing.assert_close(scores(example).flip(0), scores(turned), atol=1e-6, rtol=1e-6)


def test_a_task_adds_exactly_its_head() -> None:
    decoder = Decoder(SHAPE, 300)
    for count in range(1, len(TASKS) + 1):
        heads = Heads(TASKS[:count], decoder)
        expected = [
            head_outputs(task, 300)
            * (SHAPE.width + (task.kind in ("classification", "regression")))
            for task in TASKS[:count]
        ]
        assert [sum(p.numel() for p in heads.parameters_of(t)) for t in TASKS[:count]] == expected
        assert sum(p.numel() for p in heads.parameters()) == sum(expected)


def test_a_head_starts_the_same_whatever_the_other_tasks_are() -> None:
    decoder = Decoder(SHAPE, 300)
    one, all_of_them = Heads(TASKS[1:2], decoder, seed=3), Heads(TASKS, decoder, seed=3)
    name = TASKS[1].name
    assert torch.equal(one.heads[name].weight, all_of_them.heads[name].weight)
    assert not torch.equal(one.heads[name].weight, Heads(TASKS, decoder, seed=4).heads[name].weight)
