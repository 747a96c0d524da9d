"""MT-DNN: batches of one task each, merged over tasks and shuffled.

Liu et al., "Multi-Task Deep Neural Networks for Natural Language Understanding" (1901.11504), Algorithm 1: each
task's rows are packed into mini-batches, the batches of all tasks are merged and shuffled every epoch, and one batch
of one task makes one update. With proportional mixing this approximates the sum of the tasks' objectives weighted by
the size of their data. The trunk is a causal decoder here, so a row is pooled at its last (extract) token.

Heads (section 3): softmax(W x) for one segment, w . x with the squared error for similarity, the stochastic answer
network for pairs, and for ranking -log softmax over the candidates of a query of the relevance w . x, with gamma = 1
(the paper's g is the identity, as in the authors' code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mtl.config.errors import UserError
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.headed import HeadedStrategy
from mtl.learning.heads import Heads
from mtl.learning.san import StochasticAnswerNetwork
from mtl.learning.strategy import Stage
from mtl.tasks.task import Task


class MTDNN(HeadedStrategy):
    """MT-DNN: one task per batch, batches of all tasks merged and shuffled; a head per task.

    :param pack: ``once``: a batch holds the same rows in every epoch (Algorithm 1). ``every_epoch``: rows are packed
        anew.
    :param ratio: Rows of all auxiliary tasks for each row of the first task, at most all there are; each keeps its
        share among them. Null: the run's mixture.
    :param pairwise: Head of pair classification. ``san``: the stochastic answer network. ``linear``: softmax(W x).
    :param san_steps: Times the network reads the first segment.
    :param prediction_dropout: Probability that one of these steps is left out of the answer in training.
    :param head_dropout: Dropout probability on what a head reads.
    :param fine_tune: Share of the budget in which, at the end, each task trains a copy of the model of its own.
    """

    composition = "one_task"
    reduction = "example_mean"

    def __init__(
        self,
        *,
        pack: Literal["once", "every_epoch"] = "once",
        ratio: float | None = None,
        pairwise: Literal["san", "linear"] = "san",
        san_steps: int = 5,
        prediction_dropout: float = 0.1,
        head_dropout: float = 0.1,
        fine_tune: float = 0.0,
    ):
        super().__init__()
        self.packing = pack
        self.ratio = ratio
        self.pairwise = pairwise
        self.san_steps = san_steps
        self.prediction_dropout = prediction_dropout
        self.head_dropout = head_dropout
        self.fine_tune = fine_tune
        self._check()

    def stages(self) -> tuple[Stage, ...]:
        if self.fine_tune == 0:
            return super().stages()
        return (
            Stage("multi-task", share=1 - self.fine_tune),
            Stage("fine-tune", each=True, share=self.fine_tune),
        )

    def rates(self, sizes: Mapping[str, int]) -> Mapping[str, float] | None:
        """With a ratio r and n_k rows: n_0 for the first task, n_k * min(1, r * n_0 / sum of the others) for others."""
        if self.ratio is None:
            return None
        (first, rows), *others = sizes.items()
        auxiliary = sum(n for _, n in others)
        kept = min(1.0, self.ratio * rows / auxiliary) if others else 0.0
        drawn = {first: float(rows), **{name: n * kept for name, n in others}}
        total = sum(drawn.values())
        return {name: n / total for name, n in drawn.items()}

    def make_heads(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, seed: int
    ) -> Heads:
        def pair_head(classes: int) -> StochasticAnswerNetwork:
            return StochasticAnswerNetwork(
                decoder.width,
                classes,
                delimiter=vocabulary.delimiter,
                steps=self.san_steps,
                step_dropout=self.prediction_dropout,
                dropout=self.head_dropout,
            )

        return Heads(
            tasks,
            decoder,
            seed,
            dropout=self.head_dropout,
            pair_head=pair_head if self.pairwise == "san" else None,
        )

    def _check(self) -> None:
        if self.ratio is not None and not 0 < self.ratio < float("inf"):
            raise UserError(
                "the ratio of auxiliary rows is more than 0 and finite",
                where=f"strategy.ratio={self.ratio:g}",
                hints=["strategy.ratio=null leaves it to the mixture"],
            )
        if self.san_steps < 1:
            raise UserError(
                "a stochastic answer network makes 1 step or more",
                where=f"strategy.san_steps={self.san_steps}",
            )
        for name in ("prediction_dropout", "head_dropout", "fine_tune"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UserError(
                    f"{name} is at least 0 and below 1", where=f"strategy.{name}={value:g}"
                )
