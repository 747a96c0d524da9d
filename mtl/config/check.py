"""Composes and checks a whole configuration, and says every mistake in one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtl.config import lines
from mtl.config.complete import complete, stored_tasks, strategy_keys
from mtl.config.composition import Composition, plain
from mtl.config.errors import UserError, nearest, raise_all, unknown_name
from mtl.config.keys import Key, as_dataclass, fields, find, found, keys
from mtl.config.overrides import Reader, Written, describe, unknown_key
from mtl.config.rules import get
from mtl.config.values import Problem

BUDGET = ("tokens", "steps", "epochs", "like")
NAMING = ("tasks", "suite", "run=")
"""Arguments that say which tasks are meant."""


@dataclass(frozen=True)
class Checked:
    """A configuration in which nothing is wrong."""

    arguments: list[str]
    """What Hydra is given: the person's arguments, and the definitions of the named tasks."""
    instance: Any
    """The schema's dataclass; of a sweep, its first job."""


def check_config(
    composition: Composition,
    schema: type,
    texts: Sequence[str],
    *,
    multirun: bool = False,
    place: str = "override",
) -> Checked:
    """Check every argument, then what they compose to.

    :raises UserError: with all mistakes, the arguments' in their order first.
    """
    return _Check(composition, schema, texts, multirun, place).run()


class _Check:
    def __init__(
        self,
        composition: Composition,
        schema: type,
        texts: Sequence[str],
        multirun: bool,
        place: str,
    ):
        self.composition = composition
        self.schema = schema
        self.texts = list(texts)
        self.reader = Reader(composition, schema, multirun=multirun, place=place)
        self.defaults: dict[str, Any] = {}

    def run(self) -> Checked:
        """All steps; what a step cannot go on from is said together with what was found before it."""
        self.reader.read(self.texts)
        try:
            checked = self._run()
        except UserError as error:
            self._add(None, error)
            self._raise()
            raise
        self._raise()
        return checked

    def _run(self) -> Checked:
        reader = self.reader
        choices = [written.arguments()[0] for written in reader.choices]
        base = self.composition.compose([*choices, *reader.hydra])
        self.defaults = OmegaConf.to_container(_without_hydra(base), resolve=False)  # type: ignore[assignment]
        if not reader.strategy_is_known:
            reader.values = [w for w in reader.values if not w.name.startswith("strategy.")]
        self._redo_unknown_keys()
        values = [self._prefixed(written, base) for written in reader.values]
        values = self._values_that_compose(base, choices, values)
        written = [*reader.choices, *values]
        self._one_folder_per_job(written)
        budget = self._replaced_budget(values)
        tasks = self._tasks(base, written, budget)
        instance = None
        for arguments in _jobs(written):
            config = self.composition.compose([*arguments, *budget, *tasks])
            data = plain(config)
            made, problems = complete(self.schema, data)
            instance = instance if instance is not None else made
            self._explain(problems, [*arguments, *tasks], data)
        arguments = [w.argument() for w in written]
        return Checked([*arguments, *budget, *tasks, *reader.hydra], instance)

    def _raise(self) -> None:
        errors: list[UserError] = []
        for _, error in sorted(self.reader.errors, key=lambda pair: pair[0]):
            if str(error) not in {str(other) for other in errors}:
                errors.append(error)
        raise_all(errors)

    def _redo_unknown_keys(self) -> None:
        """Name the defaults of the keys proposed, now that the config is known."""
        for index, (position, error) in enumerate(self.reader.errors):
            if error.problem.startswith("unknown key '"):
                name = error.problem.split("'")[1]
                again = unknown_key(
                    self.schema,
                    name,
                    self._more_keys(self.defaults),
                    self.defaults,
                    where=error.where,
                )
                self.reader.errors[index] = (position, again)

    def _prefixed(self, written: Written, base: DictConfig) -> Written:
        """Add ``++`` where the schema knows a key that the composed files leave out."""
        parent, _, last = written.name.rpartition(".")
        node = OmegaConf.select(base, parent, throw_on_missing=False) if parent else base
        present = isinstance(node, DictConfig) and last in node
        override = written.override
        # Hydra would take no further keys into a mapping; which ones there may be is checked against the schema.
        mapping = not override.is_sweep_override() and isinstance(override.value(), dict)
        more = written.prefix or mapping or not present
        return replace(written, prefix="++") if more else written

    def _values_that_compose(
        self, base: DictConfig, choices: list[str], values: list[Written]
    ) -> list[Written]:
        """The values Hydra can merge: a plain value in place of a mapping is said here."""
        kept = []
        for written in values:
            node = OmegaConf.select(base, written.name, throw_on_missing=False)
            override = written.override
            value = None if override.is_sweep_override() else override.value()
            broken = (
                isinstance(node, DictConfig) and not isinstance(value, dict) and value is not None
            )
            if broken and not str(value).startswith("${"):
                key = find(self.schema, written.name.split("."))
                assert key is not None
                problem = Problem(written.name, "type", value, "a mapping such as {name: value}")
                self._add(written.text, self._error(problem, key, self.reader.where(written.text)))
            else:
                kept.append(written)
        return kept

    def _one_folder_per_job(self, written: Sequence[Written]) -> None:
        if not any(one.override.is_sweep_override() for one in written):
            return
        for one in written:
            swept = one.override.is_sweep_override() or "${" in one.text
            if one.name in ("run_dir", "out") and not swept and one.override.value() is not None:
                problem = f"every job of the sweep would write to the same {one.name}"
                hint = f"name what differs: '{one.name}=runs/${{seed}}'"
                self._add(
                    one.text,
                    UserError(problem, where=self.reader.where(one.text), hints=[hint]),
                )

    def _replaced_budget(self, values: Sequence[Written]) -> list[str]:
        """A budget given as an argument replaces the one in the files, whatever its unit."""
        given = set()
        for written in values:
            if written.override.is_sweep_override():
                value: Any = True
            else:
                value = written.override.value()
            if written.name.startswith("budget.") and value is not None:
                given.add(written.name.removeprefix("budget."))
            elif written.name == "budget" and isinstance(value, dict):
                given |= {str(name) for name, item in value.items() if item is not None}
        return [f"++budget.{name}=null" for name in BUDGET if given and name not in given]

    def _tasks(
        self, base: DictConfig, written: Sequence[Written], budget: Sequence[str]
    ) -> list[str]:
        """The choices that compose the definition of every named task; unknown names are said."""
        names = {field.name for field in fields(self.schema)}
        if not {"tasks", "task"} <= names:
            return []
        known = [name for names in self.composition.options("task").values() for name in names]
        offered = self.composition.options("task")
        arguments: list[str] = []
        plain_ones = [w for w in written if not w.name.startswith("task.")]
        for job in _jobs(plain_ones):
            # Other values than these cannot change which tasks are meant.
            named = any(argument.lstrip("+").startswith(NAMING) for argument in job)
            data = plain(self.composition.compose([*job, *budget]) if named else base)
            stored = {**stored_tasks(data.get("run")), **(data.get("task") or {})}
            tasks = data.get("tasks")
            for position, name in enumerate(tasks if isinstance(tasks, list) else []):
                argument = f"+task@task.{name}={name}"
                if name in stored or argument in arguments or not isinstance(name, str):
                    continue
                if name in known:
                    arguments.append(argument)
                    continue
                text, where = self._origin(f"tasks.{position}", job)
                error = unknown_name("task", name, known, where=where)
                places = [
                    f"available in {place}: {', '.join(sorted(n))}" for place, n in offered.items()
                ]
                hints = [hint for hint in error.hints if not hint.startswith("available")] + places
                self._add(text, UserError(error.problem, where=where, hints=hints))
            for one in written:
                parts = one.name.split(".")
                if (
                    parts[0] == "task"
                    and len(parts) > 1
                    and isinstance(tasks, list)
                    and parts[1] not in tasks
                ):
                    error = unknown_name(
                        "task", parts[1], map(str, tasks), where=self.reader.where(one.text)
                    )
                    self._add(one.text, replace_problem(error, f"'{parts[1]}' is not among tasks"))
        return arguments

    def _explain(
        self, problems: Sequence[Problem], arguments: Sequence[str], data: dict[str, Any]
    ) -> None:
        more = self._more_keys(data)
        for problem in problems:
            key = problem.key
            if problem.kind == "missing" and "." in key:
                key = key.rpartition(".")[0]  # the file that ought to give it
            text, where = self._origin(key, arguments)
            if problem.kind == "missing" and key == problem.key:
                where = None
            self._add(text, self._explained(problem, more, where))

    def _explained(self, problem: Problem, more: Sequence[Key], where: str | None) -> UserError:
        if problem.key == "strategy.name":
            offered = self.composition.options("strategy")
            names = [name for names in offered.values() for name in names]
            return unknown_name("strategy", str(problem.found), names, where=where)
        if problem.kind == "unknown" and problem.key.startswith("strategy."):
            return self._unknown_setting(problem.key.removeprefix("strategy."), more, where)
        if problem.kind == "unknown":
            return unknown_key(self.schema, problem.key, more, self.defaults, where=where)
        key = next((key for key in more if key.name == problem.key), None)
        key = key or find(self.schema, [p for p in problem.key.split(".") if not p.isdigit()])
        return self._error(problem, key, where)

    def _unknown_setting(self, name: str, settings: Sequence[Key], where: str | None) -> UserError:
        strategy = (self.defaults.get("strategy") or {}).get("name")
        own = {
            key.name.partition(".")[2]: key for key in settings if key.name.startswith("strategy.")
        }
        hints = [f"did you mean: strategy.{guess}"] if (guess := nearest(name, own)) else []
        hints += [describe(key, self.defaults) for key in own.values()] or ["it has no settings"]
        return UserError(
            f"the strategy '{strategy}' has no setting '{name}'", where=where, hints=hints
        )

    def _error(self, problem: Problem, key: Key | None, where: str | None) -> UserError:
        hints = [describe(key, self.defaults)] if key is not None and key.help else []
        if problem.kind == "missing":
            return UserError(f"{problem.key} must be given", where=where, hints=hints)
        if (
            isinstance(problem.found, str)
            and (key is not None)
            and problem.expected.startswith("one of")
        ):
            options = problem.expected.removeprefix("one of ").split(", ")
            if guess := nearest(problem.found, options):
                hints.insert(0, f"did you mean: {guess}")
        text = f"{problem.key} must be {problem.expected}, found {found(problem.found)}"
        return UserError(text, where=where, hints=hints)

    def _origin(self, key: str, arguments: Sequence[str]) -> tuple[str | None, str | None]:
        """The argument that set a key, if one did, and the place to name."""
        parts = key.split(".")
        best: Written | None = None
        for written in self.reader.values:
            other = written.name.split(".")
            shared = min(len(parts), len(other))
            if parts[:shared] == other[:shared] and (
                len(other) <= len(parts) or find(self.schema, parts) is not None
            ):
                best = written
        if best is not None:
            return best.text, self.reader.where(best.text)
        chosen = next((w for w in self.reader.choices if w.name == parts[0]), None)
        where = self.composition.where(key, arguments)
        if where is None and chosen is not None:
            return chosen.text, self.reader.where(chosen.text)
        return None, where

    def _more_keys(self, data: dict[str, Any]) -> tuple[Key, ...]:
        """Keys the schema leaves open: settings of the chosen strategy, definitions of the chosen tasks."""
        strategy, tasks = data.get("strategy"), data.get("tasks")
        settings = strategy_keys(str(strategy.get("name"))) if isinstance(strategy, dict) else ()
        if isinstance(tasks, str) and (reference := lines.reference(tasks)):
            tasks = get(data, reference)
        task = find(self.schema, ["task", "NAME"])
        if (
            task is None
            or not isinstance(tasks, list)
            or (inner := as_dataclass(task.type)) is None
        ):
            return settings
        return (*settings, *(key for name in tasks for key in keys(inner, f"task.{name}.")))

    def _add(self, text: str | None, error: UserError) -> None:
        position = self.texts.index(text) if text in self.texts else len(self.texts)
        self.reader.errors.append((position, error))


def replace_problem(error: UserError, problem: str) -> UserError:
    """The same error in other words."""
    return UserError(problem, where=error.where, hints=error.hints)


def _jobs(written: Sequence[Written]) -> Iterator[list[str]]:
    """The jobs that between them try every value of every sweep; one job where nothing is swept."""
    values = [one.arguments() for one in written]
    first = [options[0] for options in values]
    yield first
    for position, options in enumerate(values):
        for other in options[1:]:
            yield [*first[:position], other, *first[position + 1 :]]


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
