"""Documents in windows: each token is predicted once, behind its own predecessors, as many as the policy promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.scoring.metrics import WindowPolicy
from mtl.scoring.windows import windows

FIRST = 7
POLICIES = pytest.mark.parametrize("policy", ["disjoint", "strided"])


@POLICIES
@given(length=st.integers(0, 70), context=st.integers(1, 20))
def test_each_token_once_behind_its_predecessors(
    policy: WindowPolicy, length: int, context: int
) -> None:
    tokens = list(range(100, 100 + length))
    cut = windows(tokens, FIRST, context, policy)
    assert [token for window in cut for token in window.continuation] == tokens
    fed = (FIRST, *tokens)
    end, seen = 0, []
    for window in cut:
        begin, end = end, end + len(window.continuation)
        behind = fed[: begin + 1]
        assert window.context == behind[-len(window.context) :]
        assert len(window.context) + len(window.continuation) - 1 <= context
        seen += [len(window.context) + k for k in range(len(window.continuation))]
    # What the first window predicts is all that there is before it.
    assert seen[:context] == list(range(1, min(length, context) + 1))
    if policy == "strided":
        assert all(count >= context // 2 for count in seen[context:])
    elif length > context:
        # As few windows as there can be, the last one full.
        assert len(cut) == -(-length // context)
        assert seen[-1] == context


@POLICIES
def test_a_document_of_ten_behind_contexts_of_four(policy: WindowPolicy) -> None:
    found = [(w.context, w.continuation) for w in windows(range(10), FIRST, 4, policy)]
    expected = {
        "disjoint": [((7,), (0, 1, 2, 3)), ((3,), (4, 5, 6, 7)), ((5, 6, 7), (8, 9))],
        "strided": [
            ((7,), (0, 1, 2, 3)),
            ((1, 2, 3), (4, 5)),
            ((3, 4, 5), (6, 7)),
            ((5, 6, 7), (8, 9)),
        ],
    }
    assert found == expected[policy]


def test_no_context_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        windows([1], FIRST, 0, "disjoint")
