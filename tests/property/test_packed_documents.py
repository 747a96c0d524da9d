"""Running text from documents to the batches of an epoch: nothing lost, nothing twice, no document sees another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.data.loader import TrainLoader
from mtl.data.mixture import Schedule
from mtl.data.plan import Plan
from mtl.data.store import EncodedSplit, chunks
from mtl.tasks.task import Example

END = 0


def store_of(documents: list[int], context: int) -> EncodedSplit:
    """Documents of so many tokens, all different and above 0, as a strategy that reads running text encodes them."""
    starts = np.cumsum([1, *documents])
    examples = [Example(str(i), (), (), None, references=("x",)) for i in range(len(documents))]

    def encode(example: Example) -> list:
        own = int(example.row)
        return chunks([*range(starts[own], starts[own + 1]), END], context, first=END)

    return EncodedSplit.build(examples, encode)


@given(
    documents=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    context=st.integers(2, 24),
    batch=st.integers(24, 90),
    accumulate=st.integers(1, 2),
    tight=st.booleans(),
)
def test_each_token_is_predicted_once_an_epoch_from_its_own_document(
    documents: list[int], context: int, batch: int, accumulate: int, tight: bool
) -> None:
    store = store_of(documents, context)
    plan = Plan(
        [store.lengths],
        Schedule.constant({"text": 1.0}),
        keys=["text"],
        composition="mixed",
        batch_tokens=batch,
        seed=3,
    )
    steps = len(list(itertools.takewhile(lambda step: step.epoch == 0, plan.steps())))
    document_of = np.repeat(np.arange(len(documents)), documents)
    predicted: list[int] = []
    for pieces in TrainLoader([store], plan, steps=steps, accumulate=accumulate, tight=tight):
        for one in pieces:
            flat = one.tokens.flatten().numpy()
            width = one.tokens.shape[1]
            predicted += one.label_tokens.tolist()
            assert int(one.positions.max()) < context
            if one.real_tokens == 0:
                continue
            for source, label in zip(
                one.label_sources.tolist(), one.label_tokens.tolist(), strict=True
            ):
                row, column = divmod(source, width)
                seen = np.arange(width) <= column
                if one.mask is not None:
                    seen = one.mask[row, 0, column].numpy()
                owners = {
                    document_of[t - 1] for t in flat.reshape(-1, width)[row][seen] if t != END
                }
                assert len(owners) <= 1
                if label != END:
                    assert owners <= {document_of[label - 1]}
    assert sorted(t for t in predicted if t != END) == list(range(1, sum(documents) + 1))
    assert predicted.count(END) == len(documents)


def test_no_token_of_a_document_is_lost_to_a_short_context() -> None:
    assert store_of([7], 3).cut_tokens == 0
    with pytest.raises(ValueError, match="at least 2 tokens"):
        store_of([7], 1)
