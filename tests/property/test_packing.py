"""Packing: nothing lost, nobody sees a neighbour, labels are predicted from the right place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.data.batch import Batch, collate, idle_batch
from mtl.data.encoding import Encoded
from mtl.data.packing import pack, pack_tightly


@st.composite
def encodings(draw: st.DrawFn) -> list[Encoded]:
    """Examples whose tokens are all different, so that each can be told wherever it stands."""
    found = []
    token = 1
    for _ in range(draw(st.integers(1, 7))):
        prefix = draw(st.integers(1, 6))
        branches = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
        n = prefix + sum(branches)
        labelled = np.array([False, *draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1))])
        tokens = np.arange(token, token + n, dtype=np.int32)
        found.append(Encoded(tokens=tokens, labelled=labelled, branches=branches, target=float(n)))
        token += n
    return found


def batch_of(examples: list[Encoded], row_tokens: int = 0) -> Batch:
    n = len(examples)
    return collate(
        examples,
        tasks=[i % 3 for i in range(n)],
        rows=range(10, 10 + n),
        row_tokens=row_tokens,
        tight=bool(row_tokens % 2),
    )


def branch_of(example: Encoded, i: int) -> int:
    """Number of the branch that token ``i`` stands in; -1 for the prefix."""
    end = example.prefix
    for number, length in enumerate((0, *example.branches)):
        end += length
        if i < end:
            return number - 1
    raise AssertionError


def sees(example: Encoded, i: int, j: int) -> bool:
    return j <= i and branch_of(example, j) in (-1, branch_of(example, i))


@settings(deadline=None)
@given(encodings(), st.integers(0, 30))
def test_every_token_once_and_everything_comes_back(examples: list[Encoded], row: int) -> None:
    batch = batch_of(examples, row)
    flat = batch.tokens.flatten().tolist()
    everything = [int(t) for e in examples for t in e.tokens]
    assert sorted(t for t in flat if t) == everything
    assert batch.real_tokens == len(everything)
    assert batch.encoded == tuple(examples)
    for example in examples:  # each lies in one piece of one row
        begin = flat.index(int(example.tokens[0]))
        assert flat[begin : begin + len(example.tokens)] == example.tokens.tolist()
        assert (
            begin // batch.tokens.shape[1]
            == (begin + len(example.tokens) - 1) // batch.tokens.shape[1]
        )
    longest = max(row, max(len(e.tokens) for e in examples))
    assert batch.tokens.shape[1] <= (1.25 * longest if row % 2 else longest)
    assert (batch.tokens != 0).any(0).all(), "unused columns are dropped"
    assert (batch.tokens != 0).any(1).all(), "no row is empty"


@settings(deadline=None)
@given(encodings(), st.integers(0, 30))
def test_mask_and_positions_equal_a_slow_reference(examples: list[Encoded], row: int) -> None:
    batch = batch_of(examples, row)
    rows, width = batch.tokens.shape
    owner = {int(t): (b, i) for b, e in enumerate(examples) for i, t in enumerate(e.tokens)}
    expected = torch.zeros(rows, 1, width, width, dtype=torch.bool)
    positions = torch.zeros(rows, width, dtype=torch.int64)
    for r in range(rows):
        for x in range(width):
            if (token := int(batch.tokens[r, x])) == 0:
                continue
            b, i = owner[token]
            branch = branch_of(examples[b], i)
            before = sum(examples[b].branches[:branch]) if branch > 0 else 0
            positions[r, x] = i - before
            for y in range(width):
                other = int(batch.tokens[r, y])
                if other and owner[other][0] == b:
                    expected[r, 0, x, y] = sees(examples[b], i, owner[other][1])
    assert torch.equal(batch.positions, positions)
    plain = all(not e.branches for e in examples) and rows == len(examples)
    assert (batch.mask is None) == plain
    if batch.mask is not None:
        real = (batch.tokens != 0)[:, None, :, None]
        assert torch.equal(batch.mask & real, expected)
        assert batch.mask.any(-1).all(), "a token that sees nothing has no softmax"
        assert not (batch.mask & ~real & (batch.tokens != 0)[:, None, None, :]).any()


@settings(deadline=None)
@given(encodings(), st.integers(0, 30))
def test_labels_and_branches_point_to_the_right_tokens(examples: list[Encoded], row: int) -> None:
    batch = batch_of(examples, row)
    flat = batch.tokens.flatten()
    sources, tokens, branches, ends, owners = [], [], [], [], []
    for b, example in enumerate(examples):
        first_branch = len(ends)
        cuts = np.cumsum([example.prefix, *example.branches])
        for end in cuts[1:] if example.branches else cuts:
            ends.append(int(example.tokens[end - 1]))
            owners.append(b)
        for i in np.flatnonzero(example.labelled).tolist():
            branch = branch_of(example, i)
            before = example.prefix - 1 if i in cuts else i - 1
            sources.append(int(example.tokens[before]))
            tokens.append(int(example.tokens[i]))
            branches.append(first_branch + max(branch, 0))
    assert flat[batch.label_sources].tolist() == sources
    assert batch.label_tokens.tolist() == tokens
    assert batch.label_branches.tolist() == branches
    assert flat[batch.branch_ends].tolist() == ends
    assert batch.branch_examples.tolist() == owners
    assert batch.terms.tolist() == [e.terms for e in examples]
    assert batch.target.tolist() == [e.target for e in examples]
    assert batch.weight.tolist() == pytest.approx([1 / len(examples)] * len(examples))
    assert batch.rows == tuple(range(10, 10 + len(examples)))
    assert batch.task.tolist() == [i % 3 for i in range(len(examples))]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 120))
def test_first_fit_decreasing(lengths: list[int], room: int) -> None:
    rows, columns = pack(np.array(lengths), room)
    used: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        r = next((r for r, n in enumerate(used) if n + lengths[i] <= room), len(used))
        if r == len(used):
            used.append(0)
        assert (rows[i], columns[i]) == (r, used[r])
        used[r] += lengths[i]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 70), st.integers(0, 2**32)
)
def test_tight_rows_hold_everything_in_at_most_as_many_places(
    lengths: list[int], room: int, seed: int
) -> None:
    own = np.array(lengths)
    room = max(room, int(own.max()))
    rows, columns = pack_tightly(own, room)
    used = np.zeros((int(rows.max()) + 1, int((columns + own).max())), dtype=int)
    for row, column, length in zip(rows, columns, lengths, strict=True):
        used[row, column : column + length] += 1
    assert used.sum() == own.sum()
    assert used.max() == 1
    assert used.any(axis=1).all()
    plain_rows, plain_columns = pack(own, room)
    assert used.size <= (int(plain_rows.max()) + 1) * int((plain_columns + own).max())
    assert used.shape[1] <= 1.25 * room


def test_tight_rows_waste_less_on_short_documents() -> None:
    """19 documents of about a hundred tokens to a step, as microworld has them."""
    random = np.random.default_rng(0)
    shares = []
    for packing in (pack, pack_tightly):
        real = places = 0
        for _ in range(100):
            own = np.clip(random.normal(105, 42, 19).astype(int), 4, 256)
            rows, columns = packing(own, int(own.max()))
            real += int(own.sum())
            places += (int(rows.max()) + 1) * int((columns + own).max())
        shares.append(real / places)
    assert shares[0] < 0.9
    assert shares[1] > shares[0] + 0.03


def test_idle_batch_counts_for_nothing() -> None:
    batch = idle_batch()
    assert batch.tokens.shape == (1, 1)
    assert batch.real_tokens == 0
    assert (batch.weight.tolist(), batch.target.tolist()) == ([0.0], [0.0])
    assert (len(batch.label_tokens), batch.terms.tolist()) == (0, [1])
    assert (batch.task.tolist(), batch.rows, batch.branch_ends.tolist()) == ([0], (-1,), [0])


def test_what_cannot_be_packed_is_refused() -> None:
    one = Encoded(tokens=np.array([1, 2], np.int32), labelled=np.array([True, False]))
    with pytest.raises(ValueError, match="first token of an example cannot be labelled"):
        batch_of([one])
    free = replace(one, labelled=np.array([False, False]))
    with pytest.raises(ValueError, match="A prefix and each of its branches"):
        batch_of([replace(free, branches=(2,))])
    with pytest.raises(ValueError, match="Found an empty one"):
        batch_of([Encoded(tokens=np.zeros(0, np.int32), labelled=np.zeros(0, np.bool_))])
