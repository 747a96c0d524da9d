"""Decoding on a GPU: one step is recorded, and then replayed for every token (a CUDA graph).

A step of a few rows is hundreds of small kernels, and a GPU is done with each before the host has asked for the next;
a recorded step is asked for as a whole. So it is always the same work on the same tensors: rows that have ended stay
until half of them have, attention reads the whole cache under a mask, the chosen token becomes the next step's input
without the host, which looks at the tokens only every few steps.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtl.decoder.cache import FixedCache, KeyValueCache
from mtl.decoder.continuing import Choice, Continuations
from mtl.decoder.gpt import Decoder

LEAST_NEW_TOKENS = 32
"""New tokens of a row from which a recording is expected to be repaid: it takes as long as a few steps, behind
``WARM_UP`` that are not replayed, and has torch give back the memory it keeps. An estimate; no GPU has run it."""
WARM_UP = 3
"""Steps before one is recorded, as torch's documentation asks for."""
BETWEEN_LOOKS = 4
"""Steps after which the host looks whether rows have ended; what is computed behind an end is thrown away."""
SLOT_MULTIPLE = 64
"""Slots of a cache: kernels of attention read masks of a multiple of 8."""


def can_replay(decoder: Decoder, max_new_tokens: int) -> bool:
    """Whether :func:`go_on` is there for the decoder, and expected to be faster."""
    return decoder.device.type == "cuda" and max_new_tokens >= LEAST_NEW_TOKENS


def slots(tokens: int) -> int:
    """Tokens a row's cache holds, where that many are needed."""
    return -(-tokens // SLOT_MULTIPLE) * SLOT_MULTIPLE


def go_on(
    decoder: Decoder,
    cache: KeyValueCache,
    rows: Sequence[int],
    tokens: Sequence[int],
    choice: Choice,
    answers: Continuations,
    offsets: Tensor | None,
) -> None:
    """Continue rows until all have ended. Fewer rows are another recording, which as many tokens must repay.

    :param cache: What the rows have read; of ``slots`` tokens, and of no use afterwards.
    :param rows: (B,) numbers of the rows in ``answers``.
    :param tokens: (B,) the token each has chosen and not yet read.
    :param offsets: (rows of all answers, D), added to the embeddings of a row's tokens.
    """
    kind = decoder.device.type
    # A cast that autocast keeps would lie among the tensors of one recording, and be read by the next.
    with torch.autocast(
        kind,
        dtype=torch.get_autocast_dtype(kind),
        enabled=torch.is_autocast_enabled(kind),
        cache_enabled=False,
    ):
        while rows:
            added = None if offsets is None else offsets[rows, None]
            step = _Step(decoder, FixedCache(cache, decoder.device), tokens, choice, added)
            do, going, done = Recorded(step, decoder.device), list(range(len(rows))), 0
            while going:
                left = answers.left(rows[going[0]])
                if 2 * len(going) <= len(rows) and left >= LEAST_NEW_TOKENS:
                    break
                count = min(BETWEEN_LOOKS, left) if choice.greedy else 1
                for _ in range(count):
                    do()
                done += count
                for tokens in step.chosen(count, rows):
                    going = [p for p in going if answers.take(rows[p], tokens[p])]
            cache.advance([done] * len(rows))
            cache.keep(going)
            rows, tokens = [rows[p] for p in going], [tokens[p] for p in going]


class _Step:
    """A token of each row is read, and the next one chosen if that is the most likely one, else made ready for."""

    def __init__(
        self,
        decoder: Decoder,
        cache: FixedCache,
        tokens: Sequence[int],
        choice: Choice,
        added: Tensor | None,
    ):
        self._decoder, self._cache, self._choice, self._added = decoder, cache, choice, added
        self._tokens = torch.tensor(tokens, device=decoder.device)[:, None]
        self._written = self._tokens.new_zeros(len(tokens), BETWEEN_LOOKS)
        self._column = self._tokens.new_zeros(1)
        self._logits: Tensor | None = None

    def __call__(self) -> None:
        hidden = self._decoder(self._tokens, cache=self._cache, offsets=self._added)[:, 0]
        self._cache.filled.add_(1)
        self._logits = self._choice.logits(hidden)
        if self._choice.greedy:
            chosen = self._logits.argmax(-1, keepdim=True)
            self._tokens.copy_(chosen)
            self._written.index_copy_(1, self._column, chosen)
            self._column.add_(1).remainder_(BETWEEN_LOOKS)

    def chosen(self, count: int, rows: Sequence[int]) -> list[list[int]]:
        """For each of the last ``count`` steps the (B,) tokens; a last one that was only made ready for is drawn."""
        if self._choice.greedy:
            found: list[list[int]] = self._written[:, :count].t().tolist()
            return found
        assert self._logits is not None
        drawn = self._choice.tokens(self._logits, rows)
        self._tokens.copy_(torch.tensor(drawn)[:, None])
        return [drawn]


class Recorded:
    """Work that is always the same on the same tensors: after its first calls a GPU replays it as a whole.

    :param work: Waits for nothing, and leaves its results in tensors of its own.
    """

    def __init__(self, work: Callable[[], None], device: torch.device):
        self._work, self._device = work, device
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        self._calls += 1
        if self._device.type != "cuda":
            self._work()
            return
        with torch.cuda.device(self._device):
            if self._calls <= WARM_UP:
                self._warm_up()
                return
            if self._graph is None:
                self._record()
            assert self._graph is not None
            self._graph.replay()

    def _warm_up(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._work()
        torch.cuda.current_stream().wait_stream(side)

    def _record(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # The thread that builds batches may ask the GPU for memory meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._work()
