"""The final scores of a run: of which checkpoint, on which rows, and each task where it was best alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtl.answering import Answered, Scorer, encoded
from mtl.assembly import Loaded, limited, load_weights, save_answers
from mtl.config.errors import UserError
from mtl.config.schema import FitConfig
from mtl.learning.supervisor import own_checkpoint
from mtl.learning.training import Trained
from mtl.parts import Trainings
from mtl.record.folder import RunFolder
from mtl.scoring.score import TaskScore, average
from mtl.tasks.task import Split, Task


@dataclass(frozen=True)
class Ended:
    """What is reported of a trained run."""

    scores: list[TaskScore]
    said: dict[str, dict[str, Any]]
    """What stands beside the scores of each task."""
    of_own: dict[str, Any] | None
    """The average where each task stands at its own checkpoint; None where that is not wanted."""


class Ending:
    """Scores the model of a run whose parts are all trained, and writes its answers.

    :param folder: With the checkpoints of the whole model.
    """

    def __init__(
        self,
        config: FitConfig,
        scorer: Scorer,
        loaded: Loaded,
        trainings: Trainings,
        folder: RunFolder,
    ):
        self.config = config
        self.scorer = scorer
        self.loaded = loaded
        self.trainings = trainings
        self.model = trainings.model
        self.folder = folder

    def score(self, trained: Sequence[Trained]) -> Ended:
        """All tasks at the checkpoint that counts, and each at its own where that is wanted."""
        wanted = self.config.evaluation.checkpoint == "best"
        best = wanted and self.folder.best_checkpoint.is_file()
        load_weights(
            self.model, self.folder.best_checkpoint if best else self.folder.last_checkpoint
        )
        scores, said = [], {}
        for task in self.loaded.tasks:
            score, answered, split = self._score(task, decode=True)
            scores.append(score)
            said[task.name] = dict(answered.said)
            save_answers(self.folder, task, split, answered.answers)
        if not self.config.evaluation.per_task or self.model.reads == "corpus":
            return Ended(scores, said, None)
        own = self._own(trained, {score.task: score for score in scores}, best=best)
        for name, (step, score) in own.items():
            metrics = score.as_summary()["metrics"]
            said[name]["own_checkpoint"] = {"step": step, "metrics": metrics}
        return Ended(scores, said, average([score for _, score in own.values()]))

    def _score(self, task: Task, *, decode: bool) -> tuple[TaskScore, Answered, Split]:
        """The model as it is on the rows that the final score is of."""
        config = self.config.evaluation
        split = limited(final_split(task, self.config), config.rows)
        store = encoded(self.model, task, split, self.config.data)
        score, answered = self.scorer.score(
            self.model, task, split, store, resamples=config.resamples, alone=True, decode=decode
        )
        return score, answered, split

    def _own(
        self, trained: Sequence[Trained], common: dict[str, TaskScore], *, best: bool
    ) -> dict[str, tuple[int | None, TaskScore]]:
        """Step and score of each task at the checkpoint that was best for it alone.

        :param common: The scores at the checkpoint for all tasks.
        :param best: Whether that is the best one, rather than the last.
        """
        if self.trainings.several:
            # Each task has a model of its own; where its best checkpoint counts, that is what was scored.
            if not best and self.folder.best_checkpoint.is_file():
                load_weights(self.model, self.folder.best_checkpoint)
                tasks = self.loaded.tasks
                common = {task.name: self._score(task, decode=False)[0] for task in tasks}
            steps = {
                part.strategy.tasks[0].name: done.best_step
                for part, done in zip(self.trainings.parts, trained, strict=True)
                if part in self.trainings.final
            }
            return {name: (steps[name], score) for name, score in common.items()}
        (done,) = trained
        chosen = done.best_step if best else done.steps
        found: dict[str, tuple[int | None, TaskScore]] = {}
        for task in self.loaded.tasks:
            step = done.best_by_task.get(task.name, chosen)
            if step == chosen or step is None:
                found[task.name] = (chosen, common[task.name])
                continue
            load_weights(self.model, own_checkpoint(self.folder.last_checkpoint.parent, step))
            found[task.name] = (step, self._score(task, decode=False)[0])
        return found


def final_split(task: Task, config: FitConfig) -> Split:
    """The split that the final scores are of.

    :raises UserError: the task has no rows to select by, and scores of these are wanted.
    """
    if config.evaluation.split == "report":
        return task.report
    if task.selection is None:
        raise UserError(
            f"task '{task.name}' has no rows to select by",
            where="evaluation.split=selection",
            hints=["leave it out of the search"],
        )
    return task.selection
