"""A context and its continuation as token ids, encoded as lm-evaluation-harness does (``TemplateLM._encode_pair``)."""

from __future__ import annotations

from mtl.data.vocabulary import Vocabulary


def encode_pair(
    vocabulary: Vocabulary,
    context: str,
    continuation: str,
    *,
    known: dict[str, list[int]] | None = None,
) -> tuple[list[int], list[int]]:
    """Token ids of both, none empty.

    - Blanks at the end of the context move to the continuation, whose first token they belong to.
    - Both are encoded together and cut where the context alone would end.
    - An empty context is the end-of-text token, which stands before every document. It is never there twice: special
      tokens are not read out of a text (the harness reads a ``<|endoftext|>`` that is written out as the token).

    :param known: Contexts encoded before, taken from here and added to it: the choices of a question share theirs.
    :raises ValueError: The continuation is empty, or none of it is left to predict because it merges into the
        context's last tokens.
    """
    if not continuation:
        raise ValueError("The continuation should not be empty.")
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    if not kept:
        return [vocabulary.end], vocabulary.encode(continuation)
    known = {} if known is None else known
    if kept not in known:
        known[kept] = vocabulary.encode(kept)
    before = known[kept]
    after = vocabulary.encode(kept + continuation)[len(before) :]
    if not after:
        raise ValueError(
            f"The continuation should begin a token of its own. Found {continuation!r}, which merges with the end of "
            f"the context, {kept[-20:]!r}."
        )
    return list(before), after
