"""The stochastic answer network: a head for pairs that reads the first segment several times.

Liu et al., "Multi-Task Deep Neural Networks for Natural Language Understanding" (1901.11504), section 3, "Pairwise
Text Classification Output", after Liu et al., "Stochastic Answer Networks for Machine Reading Comprehension"
(1712.03556).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.data.batch import Batch
from mtl.decoder.gathering import rows_at


class StochasticAnswerNetwork(nn.Module):
    """Log-probabilities of classes from the states of a premise and a hypothesis.

    With x_j^p and x_j^h the states of premise and hypothesis, and K steps:

    - s_0 = sum_j softmax_j(w0 . x_j^h) x_j^h;
    - x_k = sum_j softmax_j(s_{k-1} W1 x_j^p) x_j^p and s_k = GRU(s_{k-1}, x_k) for k = 1 .. K-1; x_0, which the
      paper leaves open, is read with s_0;
    - P_k = softmax(W3 [s_k; x_k; abs(s_k - x_k); s_k * x_k] + b3);
    - the answer is the mean of P_0 .. P_{K-1}.

    Stochastic prediction dropout: in training each step is left out of an example's mean with probability
    ``step_dropout``, but never all of them.

    The premise goes from the start token to the delimiter, the hypothesis from there to the extract token; special
    tokens are among the states, as they are in the authors' code, so neither is ever empty. In a causal decoder the
    hypothesis has read the premise, and not the other way round.

    :param width: D.
    :param classes: C.
    :param delimiter: The token between the two.
    :param steps: K, at least 1.
    :param step_dropout: At least 0 and below 1.
    :param dropout: Of what a step classifies (the input of W3), at least 0 and below 1.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        delimiter: int,
        steps: int = 5,
        step_dropout: float = 0.1,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.delimiter = delimiter
        self.steps = steps
        self.step_dropout = step_dropout
        self.dropout = nn.Dropout(dropout)
        self.summary = nn.Linear(width, 1, bias=False)
        self.attention = nn.Linear(width, width, bias=False)
        self.recurrence = nn.GRUCell(width, width) if steps > 1 else None
        self.classify = nn.Linear(4 * width, classes)

    def forward(self, hidden: Tensor, batch: Batch, ends: Tensor) -> Tensor:
        """(E, C) log-probabilities in nats of E unbranched examples.

        :param hidden: (R*T, D) states of the batch, laid flat.
        :param ends: (E,) flat index of each example's last token.
        """
        index, premise, hypothesis = self._segments(batch, ends)
        # A recurrence of softmaxes and a mean of probabilities need more digits than the decoder may compute in.
        with torch.autocast(hidden.device.type, enabled=False):
            states = rows_at(hidden, index.flatten()).unflatten(0, index.shape)
            states = states.to(self.classify.weight.dtype)
            steps = self._steps(states, premise, hypothesis)
            kept = self._kept(steps)
            summed = steps.masked_fill(~kept[:, :, None], -torch.inf).logsumexp(1)
            return summed - kept.sum(1, keepdim=True).to(summed.dtype).log()

    def operations(self, lengths: np.ndarray) -> np.ndarray:
        """(N,) int64: operations of the forward matrix products for examples of (N,) L tokens each.

        ``4 L D`` for the summary, ``4 L D + 2 D**2`` for each time the premise is read (once for the first two steps
        together, once for every later one), ``12 D**2`` for each turn of the recurrence and ``8 D C`` for each step.
        """
        width = self.attention.in_features
        reads, turns = max(1, self.steps - 1), self.steps - 1
        of_token = 4 * width * (1 + reads)
        of_steps = 2 * self.steps * self.classify.weight.numel()
        return np.asarray(lengths * of_token + width**2 * (2 * reads + 12 * turns) + of_steps)

    def _segments(self, batch: Batch, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(E, L) flat index of each example's tokens, and which of them are its premise, and its hypothesis."""
        lengths = batch.positions.flatten()[ends, None] + 1
        place = torch.arange(int(lengths.max()), device=ends.device)
        inside = place < lengths
        index = torch.where(inside, ends[:, None] - lengths + 1 + place, ends[:, None])
        delimiters = (batch.tokens.flatten()[index] == self.delimiter).long()
        behind = delimiters.cumsum(1) > delimiters
        # The idle example of a device without work is one token, which is then both.
        return index, inside & ~behind, inside & (behind | (place == lengths - 1))

    def _steps(self, states: Tensor, premise: Tensor, hypothesis: Tensor) -> Tensor:
        """(E, K, C) log-probabilities of each step."""
        s = _attend(states, self.summary(states).squeeze(2), hypothesis)
        x = self._read(s, states, premise)
        outputs = [self._classified(s, x)]
        for k in range(1, self.steps):
            assert self.recurrence is not None
            # x_1 is read with s_0, as x_0 is.
            x = x if k == 1 else self._read(s, states, premise)
            s = self.recurrence(x, s)
            outputs.append(self._classified(s, x))
        return torch.stack(outputs, 1)

    def _read(self, s: Tensor, states: Tensor, premise: Tensor) -> Tensor:
        return _attend(states, (states @ self.attention(s)[:, :, None]).squeeze(2), premise)

    def _classified(self, s: Tensor, x: Tensor) -> Tensor:
        features = self.dropout(torch.cat([s, x, (s - x).abs(), s * x], -1))
        return F.log_softmax(self.classify(features), -1)

    def _kept(self, steps: Tensor) -> Tensor:
        """(E, K) bool, at least one True for each example."""
        if not self.training:
            return steps.new_ones(steps.shape[:2], dtype=torch.bool)
        draws = torch.rand(steps.shape[:2], device=steps.device)
        # Where all would go, the one with the highest draw stays: any of them, with the same chance.
        return (draws >= self.step_dropout) | (draws == draws.amax(1, keepdim=True))


def _attend(states: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """(E, D) mean of states (E, L, D) under the softmax of scores (E, L) within the mask."""
    weights = scores.masked_fill(~mask, -torch.inf).softmax(1)
    return (weights[:, None] @ states).squeeze(1)
