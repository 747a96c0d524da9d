"""Single task: one decoder per task, trained on that task alone. The baseline of everything.

What multi-task learning is measured against (Caruana, "Multitask Learning", 1997, section 2): no parameter and no
row is shared. How long each decoder trains decides what the comparison means, so the budget has three forms
(``budget.each=divided`` or ``whole``, ``budget.like=RUN_DIR``), and the ledger names the one that was used.
"""

from __future__ import annotations

from mtl.learning.headed import HeadedStrategy
from mtl.learning.strategy import Stage


class SingleTask(HeadedStrategy):
    """Single task: a decoder and a head for each task, trained on that task alone.

    Every decoder starts from the same weights and sees its task's rows as any other strategy would. A run over several
    tasks equals the runs over each of them.
    """

    composition = "mixed"
    reduction = "example_mean"

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("train", each=True),)
