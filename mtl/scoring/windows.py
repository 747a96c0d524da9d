"""Documents longer than the context, cut into windows so that each token is predicted exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.scoring.likelihood import Request
from mtl.scoring.metrics import WindowPolicy


def windows(tokens: Sequence[int], first: int, context: int, policy: WindowPolicy) -> list[Request]:
    """Requests whose continuations are the document's tokens, in order.

    - ``disjoint``: windows side by side, a token seeing as little as one before it; lm-evaluation-harness's
      ``loglikelihood_rolling``. The last window takes as much real context as fits.
    - ``strided``: windows overlap by half, so that each token but the first ``context`` sees at least ``context // 2``
      before it.

    :param first: Token that the document's first is predicted from, such as the end of text.
    :param context: Most tokens fed at once (at least 1).
    :raises ValueError: where the context is below 1.
    """
    if context < 1:
        raise ValueError(f"`context` should be at least 1. Found {context}.")
    fed = (first, *tokens)  # fed[i] stands before tokens[i]
    step = context if policy == "disjoint" else context - context // 2
    cut = []
    begin, end = 0, min(context, len(tokens))
    while begin < end:
        # The last token predicted is not fed, so `context` tokens before it may be.
        seen = fed[max(0, end - context) : begin + 1]
        cut.append(Request(seen, fed[begin + 1 : end + 1]))
        begin, end = end, min(end + step, len(tokens))
    return cut
