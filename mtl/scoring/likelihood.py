"""How likely a language model finds texts after others: exact, and each shared prefix computed once.

All requests together are a trie of tokens. A passage under several questions, a question under its choices and
in-context examples under all rows are shared prefixes of it, whoever made them so.

- Whatever branches is laid into one row under a mask that lets a token see its own ancestors only.
- A prefix under more than fits into a row is computed first, and rows go on from its keys and values (transformers).
- The last token of a continuation is never fed, and the vocabulary is projected only where something is predicted.

Legend: R requests, L tokens to be predicted, B rows, T tokens of a row, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtl.decoder.cache import Behind, KeyValueCache
from mtl.decoder.gpt import Decoder
from mtl.scoring.trie import Cost, Row, Shape, Trie

LOGITS = 2**20
"""Logits computed at once: few enough to stay in a processor's cache."""
PROCESSOR_TOKENS = 1024
"""Tokens of a pass on a processor at most, for the same reason."""
PADDING = 64
"""Most padding in a batch, in tokens: about what another pass costs on a processor."""


@dataclass(frozen=True, slots=True)
class Request:
    """A continuation after a context, each of at least one token.

    :raises ValueError: where one of the two is empty.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.context or not self.continuation:
            raise ValueError("A context and a continuation should have at least one token each.")


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model says of a request."""

    nats: float
    """Negative log-likelihood of the whole continuation, summed in float64 from log-probabilities in float32."""
    greedy: bool
    """Whether each token of the continuation is the likeliest in its place; of several as likely, the lowest id is."""
    token_nats: tuple[float, ...]
    """The same of each token of the continuation."""


def likelihoods(
    decoder: Decoder,
    requests: Sequence[Request],
    *,
    batch_tokens: int = 8192,
    banned: Sequence[int] = (),
    advance: Callable[[int], None] | None = None,
) -> list[Likelihood]:
    """Likelihood of each request, in their order. It depends neither on the other requests nor on ``batch_tokens``.

    :param batch_tokens: Most tokens of a pass, padding included; a longer row stands alone. A processor, which is
        faster so, takes 1024 at most.
    :param banned: Tokens that never count as the likeliest first token of a continuation. Probabilities stay.
    :param advance: Told how many more requests are done, now and then.
    :raises ValueError: on a request that does not fit into the decoder's context. Nothing is cut.
    """
    _check(requests, decoder.context)
    if not requests:
        return []
    distinct = {request: number for number, request in enumerate(dict.fromkeys(requests))}
    numbers = [distinct[request] for request in requests]
    ledger = _Ledger(list(distinct), np.bincount(numbers), advance)
    was_training = decoder.training
    decoder.eval()
    try:
        with torch.inference_mode():
            _Reading(decoder, ledger, batch_tokens, banned).read_all()
    finally:
        decoder.train(was_training)
    found = ledger.results()
    return [found[number] for number in numbers]


def _check(requests: Sequence[Request], context: int) -> None:
    for number, request in enumerate(requests):
        before, after = len(request.context), len(request.continuation)
        if before + after - 1 > context:
            raise ValueError(
                f"Request {number} should fit into the context of {context} tokens. Found {before + after - 1}:"
                f" {before} of its context and all but the last of the {after} of its continuation."
            )


class _Ledger:
    """Every token to be predicted, request after request, and what was found of it.

    :param requests: (R,) all different.
    :param copies: (R,) how often each was asked.
    """

    def __init__(
        self, requests: list[Request], copies: np.ndarray, advance: Callable[[int], None] | None
    ):
        self.trie = Trie([(*r.context, *r.continuation[:-1]) for r in requests])
        self.tokens = np.concatenate([np.array(r.continuation, dtype=np.int64) for r in requests])
        """(L,)"""
        counts = np.array([len(r.continuation) for r in requests])
        self.begins = counts.cumsum() - counts
        """(R,) the first token of each request among the L."""
        self.is_first = np.zeros(len(self.tokens), dtype=np.bool_)
        self.is_first[self.begins] = True
        self._sources = [len(r.context) - 1 for r in requests]
        self._owner = np.repeat(np.arange(len(requests)), counts)
        self._missing, self._copies, self._advance = counts.copy(), copies, advance
        self._by_sequence: list[list[int]] = [[] for _ in self.trie.tokens]
        for request, sequence in enumerate(self.trie.number):
            self._by_sequence[sequence].append(request)
        self._nats = np.empty(len(self.tokens))
        self._greedy = np.empty(len(self.tokens), dtype=np.bool_)

    def predicted_in(self, row: Row, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes of a row below ``depth``, and which of the L tokens each predicts."""
        nodes, slots = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for sequence, path in zip(row.sequences, row.paths, strict=True):
            for request in self._by_sequence[sequence]:
                first = self._sources[request] - depth
                chosen = path[max(first, 0) :]
                if len(chosen):
                    begin = self.begins[request] + max(-first, 0)
                    nodes.append(chosen)
                    slots.append(np.arange(begin, begin + len(chosen)))
        return np.concatenate(nodes), np.concatenate(slots)

    def write(self, slots: np.ndarray, nats: Tensor, greedy: Tensor) -> None:
        """Take the nats of some of the L tokens, and whether each is the likeliest."""
        self._nats[slots] = nats.cpu().numpy()
        self._greedy[slots] = greedy.cpu().numpy()
        touched, counts = np.unique(self._owner[slots], return_counts=True)
        self._missing[touched] -= counts
        done = touched[self._missing[touched] == 0]
        if self._advance is not None and len(done):
            self._advance(int(self._copies[done].sum()))

    def results(self) -> list[Likelihood]:
        """(R,)"""
        ends = [*self.begins[1:].tolist(), len(self.tokens)]
        found = []
        for begin, end in zip(self.begins.tolist(), ends, strict=True):
            nats = self._nats[begin:end]
            found.append(
                Likelihood(
                    float(nats.sum()), bool(self._greedy[begin:end].all()), tuple(nats.tolist())
                )
            )
        return found


class _Reading:
    """Passes of the decoder over a trie."""

    def __init__(self, decoder: Decoder, ledger: _Ledger, batch_tokens: int, banned: Sequence[int]):
        self.decoder, self.ledger, self.trie = decoder, ledger, ledger.trie
        on_processor = decoder.device.type == "cpu"
        self.batch_tokens = min(batch_tokens, PROCESSOR_TOKENS) if on_processor else batch_tokens
        self.banned = list(banned)
        token, with_one_seen = (decoder.flops(1, seen, 0, backward=False) for seen in (0, 1))
        self.cost = Cost(token, with_one_seen - token, max(2 * decoder.context, 512))
        cache = decoder.new_cache(1, int(self.trie.lengths.max()))
        # An LSTM's state goes on token by token, which is slower than to read a prefix once a row.
        self.prefix = cache if isinstance(cache, KeyValueCache) else None

    def read_all(self) -> None:
        """Predict all tokens of the ledger."""
        self._read(range(len(self.trie.tokens)), 0)

    def _read(self, sequences: range, depth: int) -> None:
        """Sequences that share ``depth`` tokens, which the prefix's cache holds."""
        plan = self.trie.plan(sequences, depth, self.cost, prefixes=self.prefix is not None)
        shapes = [self.trie.shape(part, depth) for part in plan.rows]
        for batch in _batches(shapes, self.batch_tokens):
            self._predict([self.trie.row(plan.rows[number], depth) for number in batch], depth)
        for part, reach in plan.prefixes:
            assert self.prefix is not None
            self._predict([self.trie.prefix(part, depth, reach)], depth, keep=True)
            self.prefix.advance([reach - depth])
            self._read(self.trie.below(part, reach), reach)
            self.prefix.rewind(depth)

    def _predict(self, batch: Sequence[Row], depth: int, *, keep: bool = False) -> None:
        """Write down what rows behind ``depth`` tokens predict.

        :param keep: Whether the prefix's cache takes up the one row, to be gone on from.
        """
        width = max(len(row.tokens) for row in batch)
        marks = [self.ledger.predicted_in(row, depth) for row in batch]
        nodes = np.concatenate([own + b * width for b, (own, _) in enumerate(marks)])
        slots = np.concatenate([own for _, own in marks])
        order = nodes.argsort(kind="stable")
        nodes, slots = nodes[order], slots[order]
        # A node that predicts for several requests is projected once.
        sources, place = np.unique(nodes, return_inverse=True)
        only = torch.from_numpy(sources).to(self.decoder.device)
        hidden = self._hidden(batch, (len(batch), width), depth, only, keep)
        step = max(1, LOGITS // self.decoder.vocabulary_size)
        for begin in range(0, len(sources), step):
            low, high = np.searchsorted(place, (begin, begin + step))
            self._score(hidden[begin : begin + step], place[low:high] - begin, slots[low:high])

    def _hidden(
        self, batch: Sequence[Row], shape: tuple[int, int], depth: int, only: Tensor, keep: bool
    ) -> Tensor:
        """(P, D) of the tokens ``only`` of B rows of T."""
        tokens, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        ends = np.tile(np.arange(1, shape[1] + 1), (shape[0], 1))  # padding sees itself
        for b, row in enumerate(batch):
            length = len(row.tokens)
            tokens[b, :length], positions[b, :length] = row.tokens, row.positions
            ends[b, :length] = row.ends
        read, at, end = (
            torch.from_numpy(array).to(self.decoder.device) for array in (tokens, positions, ends)
        )
        if keep:
            return self.decoder(read, cache=self.prefix, only=only)
        if not depth and all(row.plain for row in batch):
            return self.decoder(read, only=only)
        number = torch.arange(shape[1], device=read.device)
        mask = ((number[None] <= number[:, None]) & (number[:, None] < end[:, None]))[:, None]
        if not depth:
            return self.decoder(read, at, mask, only=only)
        assert self.prefix is not None
        return self.decoder(read, at, cache=Behind(self.prefix, mask), only=only)

    def _score(self, hidden: Tensor, place: np.ndarray, slots: np.ndarray) -> None:
        """``hidden[place[l]]`` predicts token ``slots[l]`` of the ledger."""
        logits = self.decoder.logits(hidden).float()
        at, label, is_first = (
            torch.from_numpy(array).to(logits.device)
            for array in (place, self.ledger.tokens[slots], self.ledger.is_first[slots])
        )
        nats = -logits.log_softmax(-1)[at, label]
        greedy = logits.argmax(-1)[at] == label
        if self.banned and is_first.any():
            logits[:, self.banned] = -torch.inf
            greedy = torch.where(is_first, logits.argmax(-1)[at] == label, greedy)
        self.ledger.write(slots, nats, greedy)


def _batches(shapes: Sequence[Shape], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of rows of similar length, the longest first; those without branches, which need no mask, apart."""
    batch: list[int] = []
    padding = 0
    for number in sorted(range(len(shapes)), key=lambda n: (shapes[n].plain, -shapes[n].tokens)):
        if batch:
            longest = shapes[batch[0]]
            padding += longest.tokens - shapes[number].tokens
            if (
                shapes[number].plain != longest.plain
                or padding > PADDING
                or (len(batch) + 1) * longest.tokens > batch_tokens
            ):
                yield batch
                batch, padding = [], 0
        batch.append(number)
    if batch:
        yield batch
