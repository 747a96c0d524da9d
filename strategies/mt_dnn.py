"""MT-DNN: batches of one task each, merged over tasks and shuffled.

Liu et al., "Multi-Task Deep Neural Networks for Natural Language Understanding" (1901.11504), Algorithm 1: each
task's rows are packed into mini-batches, the batches of all tasks are merged and shuffled every epoch, and one batch
of one task makes one update. With proportional mixing this approximates the sum of the tasks' objectives weighted by
the size of their data. The trunk is a causal decoder here, so a row is pooled at its last (extract) token.
"""

from __future__ import annotations

from mtl.learning.headed import HeadedStrategy


class MTDNN(HeadedStrategy):
    """MT-DNN: one task per batch, batches of all tasks merged and shuffled; a head per task."""

    composition = "one_task"
    reduction = "example_mean"
