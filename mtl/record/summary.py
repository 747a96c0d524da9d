"""summary.json: what a finished run says of itself. Other programs rely on these keys."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from mtl import __version__
from mtl.config.errors import UserError
from mtl.record.files import to_json, write_atomically
from mtl.record.folder import RunFolder

Status = Literal["running", "finished", "interrupted", "failed"]


class Value(TypedDict):
    """One metric of one task."""

    value: float | None
    """In the unit its name says; null where it is undefined (a correlation with a constant)."""
    low: float | None
    """Lower end of the bootstrap 95 % interval."""
    high: float | None
    """Upper end of the bootstrap 95 % interval."""


class OwnCheckpoint(TypedDict):
    """A task at the checkpoint that scored best for it alone, rather than for all tasks together."""

    step: int | None
    """Finished steps of its training; null where the training did not select."""
    metrics: dict[str, Value]


class TaskScores(TypedDict):
    """The scores of one task on one split."""

    split: str
    """Published split the rows come from."""
    rows: int
    """Rows that were scored."""
    primary: str
    """The metric that stands for the task in the average."""
    chance: float | None
    """Primary metric of an answer drawn without looking; null where that is undefined (open tasks)."""
    metrics: dict[str, Value]
    """All metrics of the task, the primary one among them."""
    majority: NotRequired[float | None]
    """Primary metric of always giving the answer most frequent in training."""
    bag_of_words: NotRequired[float | None]
    """Primary metric of a bag-of-words model fitted on the same training rows."""
    shots: NotRequired[int]
    """Context examples that a language model read before each row; with one or more the score is few-shot."""
    window: NotRequired[str]
    """How documents longer than the context were cut."""
    own_checkpoint: NotRequired[OwnCheckpoint]
    """``evaluation.per_task``: the task where it was best, as T5 reports it (1910.10683, section 3.5.2)."""
    prompts: NotRequired[dict[str, float]]
    """Primary metric under each wording of the prompt, the task's own first."""
    parts: NotRequired[dict[str, Any]]
    """Scores of all rows, of the clean ones and of those that stand in the corpus, in this same form."""
    lower_is_better: NotRequired[list[str]]
    """Metrics that improve as they fall; absent where none does."""
    notes: NotRequired[list[str]]
    """What a reader of the scores must know: rows cut to the context, rows limited, ..."""


class Average(TypedDict):
    """One number for all tasks."""

    value: float | None
    of: str
    """What was averaged, in words."""


class Parameters(TypedDict):
    """Trained parameters."""

    shared: int
    per_task: dict[str, int]
    """Parameters that serve this task alone."""
    total: int


class Ledger(TypedDict):
    """What the run cost."""

    tokens: int
    """Non-padding input tokens of training."""
    tokens_by_task: dict[str, int]
    examples_by_task: NotRequired[dict[str, int]]
    target_tokens_by_task: NotRequired[dict[str, int]]
    """Tokens whose prediction was trained."""
    steps: int
    """Optimizer steps."""
    flops: float
    """Floating-point operations of training."""
    backward_passes: int
    seconds: float
    """Wall time of training, scoring aside."""
    diagnosing_seconds: NotRequired[float]
    """Wall time of what was measured beside training (``diagnostics.conflict``)."""
    peak_memory_bytes: int
    precision: NotRequired[str]
    """Numbers that matrices were multiplied in during training: ``32`` or ``bf16``."""
    parameters: Parameters
    pretraining_tokens: int
    """Tokens the decoder was trained on before the tasks: in this run's language-model stage, or in the run it starts
    from."""
    budget: NotRequired[str]
    """How each training's budget was found: ``shared`` by all tasks; where every task is trained alone ``divided``
    among them, ``whole`` for each, or ``like`` and the run whose exposure is repeated."""
    pretraining: NotRequired[dict[str, Any]]
    """Corpus, tokens, steps, operations and seconds of the language-model stage."""
    stages: NotRequired[dict[str, Any]]
    """What each training cost, where there are several."""


class Data(TypedDict):
    """The rows of one task."""

    fingerprint: str
    """Content hash of the rows."""
    rows: dict[str, int]
    """Rows of each purpose: train, selection, report."""
    notes: NotRequired[list[str]]
    """How the splits were cut from the published ones."""


class Git(TypedDict):
    """State of the checkout the code ran from; nulls where it ran from none."""

    commit: str | None
    dirty: bool | None
    """Whether the code differs from the commit."""


class Exposure(TypedDict):
    """How much of one task was trained on."""

    planned: float
    """Share of the draws the mixture plans for the task."""
    share: float
    """Share of the rows that were drawn."""
    tokens: int
    rows: int
    passes: float
    """How often each training row was seen, on average."""


class Overlap(TypedDict):
    """Evaluation rows of one task that also stand in the training rows of another, or of the same one."""

    evaluation_task: str
    purpose: str
    """What the evaluation rows are for: ``selection`` or ``report``."""
    split: str
    """Published split they come from."""
    train_task: str
    rows: list[int]
    """Positions of the evaluation rows in their split."""
    train_rows: list[int]
    """Positions of the training rows that show them."""
    total: int
    """Rows of the evaluation split."""
    excluded: NotRequired[bool]
    """Whether these training rows were removed (``data.exclude_overlap``)."""


class Summary(TypedDict):
    """The whole of summary.json."""

    strategy: str
    balance: str
    seed: int
    status: Status
    panel: NotRequired[Literal["supervised", "zero-shot"]]
    """What the scores may be compared with: ``zero-shot`` was trained on running text and on no labelled row, so that
    its scores stand apart and never enter a multi-task gain."""
    tasks: dict[str, TaskScores]
    """The reported scores; the rows behind them never selected anything."""
    average: Average
    average_of_own_checkpoints: NotRequired[Average]
    """Of ``own_checkpoint`` of each task."""
    ledger: Ledger
    data: dict[str, Data]
    versions: dict[str, str]
    git: Git
    selection: NotRequired[dict[str, TaskScores]]
    """Scores on the rows that selected the checkpoint."""
    mixture: NotRequired[dict[str, Exposure]]
    overlap: NotRequired[list[Overlap]]


def write_summary(folder: RunFolder, summary: Summary) -> None:
    """Replace summary.json in one step. Numbers that are not finite are written as null."""
    write_atomically(folder.summary, to_json(summary, indent=2) + "\n")


def read_summary(folder: RunFolder) -> Summary:
    """The summary of a run.

    :raises UserError: if the run has none yet, or the file is damaged.
    """
    try:
        summary: Any = json.loads(folder.summary.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder.path} has no summary.json: the run has not come to its end",
            hints=[f"go on with it: python -m mtl.fit resume={folder.path}"],
        ) from None
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", where=str(folder.summary)) from None
    if not isinstance(summary, dict) or "tasks" not in summary:
        raise UserError("not the summary of a run: it has no 'tasks'", where=str(folder.summary))
    return summary  # type: ignore[return-value]


ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds ``mtl``."""

DISTRIBUTIONS = (
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "scipy",
    "hydra-core",
    "mlflow",
    "torchjd",
)
"""Distributions beside mtl that can change a result or the shape of the record."""


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can change a result; those not installed are left out."""
    found = {
        "mtl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


CODE = (
    "mtl",
    "strategies",
    "configs",
    "studies",
    "hydra_plugins",
    "pyproject.toml",
    "constraints.txt",
)
"""What decides a result; a change elsewhere in the checkout does not make it dirty."""


def git_state(checkout: Path | None = None) -> Git:
    """The commit the running code comes from, and whether the code differs from it.

    :param checkout: The folder that holds ``mtl``; None is :data:`ROOT`. Code that is installed into an
        environment inside somebody else's checkout is not tracked there, and gives nulls.
    """
    root = checkout or ROOT
    if _git(root, "ls-files", "--error-unmatch", "mtl/__init__.py") is None:
        return {"commit": None, "dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *CODE)
    if commit is None or changes is None:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changes)}


def _git(root: Path, *arguments: str) -> str | None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
