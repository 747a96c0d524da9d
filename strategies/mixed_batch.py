"""Mixed batches: rows of several tasks in one batch, their losses summed.

Summing the losses of one batch is how GPT-1 fine-tunes (L3 = L2 + lambda L1, section 3.2) and BERT pretrains; here
the summands belong to rows of different tasks, drawn freely by the mixture, and to several questions asked of one row.
How the per-example losses become one number is a named choice, because the choices differ as soon as lengths or counts
do.
"""

from __future__ import annotations

from typing import Literal

from mtl.learning.headed import HeadedStrategy


class MixedBatch(HeadedStrategy):
    """Mixed batches: rows of all tasks freely mixed in each batch, losses summed; a head per task.

    :param reduction: ``example_mean`` counts every row the same, ``token_mean`` every labelled token; the
        ``task_`` forms take the mean within each task first.
    :param same_rows: Rows of one source that several tasks read alike (a class and a score of one row): ``together``
        one forward pass trains all their losses, ``apart`` each task draws them for itself.
    """

    composition = "mixed"

    def __init__(
        self,
        *,
        reduction: Literal[
            "example_mean", "token_mean", "task_example_mean", "task_token_mean"
        ] = "example_mean",
        same_rows: Literal["together", "apart"] = "together",
    ):
        super().__init__()
        self.reduction = reduction
        self.joins_rows = same_rows == "together"
