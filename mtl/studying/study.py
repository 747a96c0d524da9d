"""A study that is ready to run: its plan, searches, storage and folder, the same in every process that works on it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtl.config.complete import complete
from mtl.config.errors import UserError
from mtl.config.study_schema import StudyConfig
from mtl.record.folder import RunFolder
from mtl.studying.checking import Checker, whole_numbers
from mtl.studying.plan import Plan, PlannedArm, make_plan
from mtl.studying.running import Runner
from mtl.studying.scheduling import Schedule
from mtl.studying.search import Search, check_search
from mtl.studying.settings import key
from mtl.studying.storage import Queue, default_storage, open_storage

PARENT = "mlflow.json"
"""Where a study remembers its MLflow run."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is told: enough to make the same :class:`Study` again."""

    config: dict[str, Any]
    config_dir: str | None
    command: str

    def text(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Order:
        """The order of such a line."""
        return cls(**json.loads(text))


class Study:
    """Everything a process needs to work on a study.

    :param config_dir: A folder of the person's with further configs.
    :param command: What was typed.
    :raises UserError: a mistake in the study's file or on the command line.
    """

    def __init__(self, config: StudyConfig, *, config_dir: str | None = None, command: str = ""):
        self.config = config
        self.config_dir = config_dir
        self.command = command
        self.checker = Checker(config, config_dir=config_dir)
        self.plan: Plan = make_plan(config, self.checker.tasks())
        self.folder = Path(config.study_dir or f"runs/study-{config.study.name}")
        self.parent = self.folder / PARENT
        self.searches = {
            arm.name: self._search(arm)
            for arm in self.plan.arms.values()
            if self.plan.trials_of(arm)
        }
        self.schedule = Schedule(self.plan, self.searches, self._is_here)
        self.runner = Runner(self.folder, self.checker, self.plan)

    @classmethod
    def ordered(cls, order: Order) -> Study:
        """The study of an order."""
        config, problems = complete(StudyConfig, order.config)
        if config is None:
            raise UserError("; ".join(f"{p.key}: {p.kind} {p.expected}" for p in problems))
        return cls(config, config_dir=order.config_dir, command=order.command)

    def order(self) -> Order:
        """What a worker is told."""
        return Order(config=asdict(self.config), config_dir=self.config_dir, command=self.command)

    def check(self) -> None:
        """Find every mistake before the first step; nothing is written.

        :raises UserError: with all mistakes in one message.
        """
        configs = self.checker.check(self.plan)
        for search in self.searches.values():
            check_search(search)
        from mtl.tasks.loading import check_tasks

        tasks = {
            (name, config.data.root): (config.task[name], config.data)
            for config in configs.values()
            for name in config.tasks
        }
        for task, data in tasks.values():
            check_tasks([task], data)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file", where=f"study_dir={self.folder}")

    @cached_property
    def queue(self) -> Queue:
        """The study's jobs in its storage, which is opened.

        :raises UserError: the storage does not answer.
        """
        url = self.config.storage or default_storage(self.folder)
        objectives = 1 + len(self.config.study.search.objectives)
        return Queue(open_storage(url), self.config.study.name, self.plan, objectives=objectives)

    def definition(self) -> dict[str, Any]:
        """What decides the study's results, by name: a study is continued only where all of it is the same."""
        return {
            "metric": self.config.study.metric,
            "reference": self.plan.reference,
            "threads": self.config.threads,
            "seeds": list(self.plan.seeds),
            "trials": self.plan.trials,
            "search": {
                name: value
                for name, value in asdict(self.config.study.search).items()
                if name not in ("trials", "space")
            },
            "arms": {
                arm.name: {
                    "settings": {key(text): text.partition("=")[2] for text in arm.settings},
                    "space": {name: asdict(found) for name, found in arm.space.items()},
                    "tuned_as": arm.tuned_as,
                }
                for arm in self.plan.arms.values()
            },
        }

    def _search(self, arm: PlannedArm) -> Search:
        strategy = next(
            (text.partition("=")[2] for text in arm.settings if key(text) == "strategy"), ""
        )
        return Search(
            arm.name,
            self.config.study.search,
            arm.space,
            whole=frozenset(name for name in arm.space if whole_numbers(name, strategy)),
            trials=self.plan.trials,
        )

    def _is_here(self, arm: str, seed: int) -> bool:
        return RunFolder(self.runner.run_folder(arm, seed)).finished
