"""The front of every command: Hydra's own command line, with our messages before it.

Nothing is created on disk, and no heavy library is imported, before the whole configuration is known to be right.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mtl.config import packages
from mtl.config.errors import Interrupted, UserError

Schema = TypeVar("Schema")

QUIET = {
    "hydra.run.dir": ".",
    "hydra.output_subdir": "null",
    "hydra.job.chdir": "false",
    "hydra/job_logging": "none",
    "hydra/hydra_logging": "none",
}
"""Hydra leaves no folders, files or log handlers of its own behind."""


@dataclass(frozen=True)
class _Arguments:
    """What Hydra's parser made of the command line."""

    flags: argparse.Namespace
    overrides: list[str]

    @property
    def multirun(self) -> bool:
        return bool(self.flags.multirun) or "hydra.mode=MULTIRUN" in self.overrides


def command(
    config_name: str,
    schema: type[Schema],
    function: Callable[[Schema], int | None],
    *,
    describe: str,
    name: str | None = None,
) -> NoReturn:
    """Run a verb: check the command line, compose, call ``function``, and exit with its status.

    Exit status: what ``function`` returns (None is 0); 2 for a :class:`UserError`; 128 + signal for
    :class:`Interrupted`; 1 for anything else.

    :param config_name: Name of the primary config; ``python -m mtl.<config_name>`` is the command.
    :param schema: The dataclass that ``function`` is called with.
    :param describe: One sentence for ``--help``.
    :param name: What stands behind ``python -m mtl.`` where that is not the name of the config: ``prepare overlap``.
    """
    outcome: list[int] = []
    arguments = sys.argv[1:]
    scratch: list[str] = []
    try:
        prepared = _prepare(
            config_name, schema, arguments, scratch, name=name or config_name, describe=describe
        )
        if prepared is None:
            sys.exit(0)
        sys.argv[1:] = prepared
        warnings.filterwarnings("ignore", message=r"(?s).*is validated against ConfigStore schema")
        _hydra_main(config_name, schema, function, outcome)
    except BaseException as error:
        sys.exit(report(error))
    finally:
        sys.argv[1:] = arguments
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(max(outcome, default=0))


def report(error: BaseException) -> int:
    """Say what ended a command on standard error, and give its exit status."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted(2)
    if os.environ.get("MTL_TRACEBACK") == "1":
        traceback.print_exception(error)
    if isinstance(error, Interrupted):
        return 128 + error.signal
    if isinstance(error, UserError):
        for one in getattr(error, "errors", (error,)):
            first, *rest = str(one).splitlines()
            print("\n".join([f"{_red('error:')} {first}", *rest]), file=sys.stderr)
        return 2
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()) or "no message"
    print(
        f"{_red('fault:')} this is a fault of mtl, not of yours: {type(error).__name__}: {text} "
        f"({Path(frame.filename).name}, line {frame.lineno})\n"
        "  the full traceback: set MTL_TRACEBACK=1",
        file=sys.stderr,
    )
    return 1


def _prepare(
    config_name: str,
    schema: type,
    arguments: Sequence[str],
    scratch: list[str],
    *,
    name: str,
    describe: str,
) -> list[str] | None:
    """Check the command line and write it out for Hydra; None where help was asked for and given."""
    given = _parse(arguments)
    flags = given.flags
    packages.pin_packages("configs", "strategies", "studies")
    from mtl.config.check import check_config
    from mtl.config.compose import resumed_run, to_yaml
    from mtl.config.composition import Composition

    if flags.help:
        from mtl.config.help import help_text

        composition = Composition(flags.config_name or config_name, config_dir=flags.config_dir)
        print(help_text(composition, schema, command=f"python -m mtl.{name}", describe=describe))
        return None
    if flags.hydra_help or flags.shell_completion:
        from mtl.config.strategies import store_strategies

        store_strategies()
        return list(arguments)
    kept = _kept_flags(flags)
    primary, folder = flags.config_name or config_name, flags.config_dir
    extra = [
        f"--{o.replace('_', '-')}"
        for o in ("config_dir", "config_name", "multirun")
        if getattr(flags, o)
    ]
    if (run := resumed_run(given.overrides, extra=extra)) is not None:
        kept += ["--config-dir", run, "--config-name", "config"]
        primary, folder = "config", run
    search_path = [text for text in given.overrides if text.startswith("hydra.searchpath=")]
    composition = Composition(primary, config_dir=folder, search_path=search_path)
    checked = check_config(
        composition, schema, given.overrides, multirun=given.multirun, place="command line"
    )
    if flags.cfg == "job" and flags.resolve and flags.package is None:
        print(to_yaml(checked.instance), end="")
        return None
    quiet = dict(QUIET)
    if given.multirun:
        scratch.append(tempfile.mkdtemp(prefix="mtl-multirun-"))
        quiet |= {"hydra.sweep.dir": f"'{scratch[-1]}'", "hydra.sweep.subdir": "."}
    said = {text.lstrip("+").partition("=")[0] for text in given.overrides}
    silence = [f"{key}={value}" for key, value in quiet.items() if key not in said]
    return [*kept, *checked.arguments, *silence]


def _parse(arguments: Sequence[str]) -> _Arguments:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    options = [option for action in parser._actions for option in action.option_strings]

    def fail(message: str) -> NoReturn:
        from mtl.config.errors import nearest

        wrong = [a for a in arguments if a.startswith("-") and a.partition("=")[0] not in options]
        guess = nearest(wrong[0].partition("=")[0], options) if wrong else None
        hints = [f"did you mean: {guess}"] if guess else []
        raise UserError(
            message, hints=[*hints, "settings are written KEY=VALUE, flags are listed by --help"]
        )

    parser.error = fail  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(arguments))
    for flag, hint in (
        ("config_path", "a folder of your own is added by --config-dir DIR"),
        (
            "experimental_rerun",
            "it would load a pickle; feed config.yaml back: --config-dir RUN_DIR --config-name config",
        ),
    ):
        if getattr(flags, flag) is not None:
            raise UserError(f"--{flag.replace('_', '-')} is not supported", hints=[hint])
    modes = [m for m in ("run", "multirun", "cfg", "info") if getattr(flags, m)]
    if len(modes) > 1:
        raise UserError(f"only one of {', '.join('--' + mode for mode in modes)} can be given")
    if flags.resolve and not flags.cfg:
        raise UserError("--resolve belongs to --cfg job")
    return _Arguments(flags, list(flags.overrides))


def _kept_flags(flags: argparse.Namespace) -> list[str]:
    kept: list[str] = []
    for name in ("cfg", "package", "config_name", "config_dir", "info"):
        if getattr(flags, name) is not None:
            kept += [f"--{name.replace('_', '-')}", getattr(flags, name)]
    return kept + [f"--{name}" for name in ("resolve", "run", "multirun") if getattr(flags, name)]


def _hydra_main(
    config_name: str,
    schema: type[Schema],
    function: Callable[[Schema], int | None],
    outcome: list[int],
) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    flags = _location(sys.argv[1:])

    def job(config: Any) -> None:
        from mtl.config.complete import complete
        from mtl.config.composition import plain

        before = sys.argv
        # A trainer that starts this command once more for another device must start this one job.
        sys.argv = [before[0], *flags, *HydraConfig.get().overrides.task]
        try:
            instance, problems = complete(schema, plain(config))
            if instance is None:
                raise UserError("; ".join(f"{p.key}: {p.kind} {p.expected}" for p in problems))
            outcome.append(function(instance) or 0)
        except BaseException as error:
            # Hydra would print a traceback of its own.
            raise SystemExit(report(error)) from None
        finally:
            sys.argv = before

    hydra.main(version_base="1.3", config_path="pkg://configs", config_name=config_name)(job)()


def _location(arguments: Sequence[str]) -> list[str]:
    """The flags that say which config a job is composed from."""
    kept: list[str] = []
    for position, text in enumerate(arguments):
        if text in ("--config-dir", "--config-name"):
            kept += [text, arguments[position + 1]]
    return kept


def _red(text: str) -> str:
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        return f"\033[1;31m{text}\033[0m"
    return text
