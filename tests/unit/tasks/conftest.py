"""Task files and small data folders for the tests of tasks."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from mtl.config.compose import compose
from mtl.config.schema import (
    CorpusConfig,
    DataConfig,
    HubConfig,
    SourceConfig,
    SuiteConfig,
    TaskConfig,
)
from mtl.config.verb_schema import EvaluateConfig

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def _source(written: dict[str, Any]) -> SourceConfig:
    hub = written.pop("hub", None)
    return SourceConfig(**written, hub=HubConfig(**hub) if hub else None)


def read_task_file(name: str) -> TaskConfig:
    """The file as a command composes it: one may build on another."""
    return copy.deepcopy(_composed()[name])


@functools.cache
def _composed() -> dict[str, TaskConfig]:
    """All of them at once: most of the work is the same for each."""
    chosen = ["hf=none", f"tasks=[{','.join(names('task'))}]"]
    return compose("evaluate", EvaluateConfig, chosen).task


def read_corpus_file(name: str) -> CorpusConfig:
    written = yaml.safe_load((CONFIGS / "corpus" / f"{name}.yaml").read_text(encoding="utf-8"))
    if "source" in written:
        written["source"] = _source(written["source"])
    return CorpusConfig(**written)


def read_suite_file(name: str) -> SuiteConfig:
    return SuiteConfig(**yaml.safe_load((CONFIGS / "suite" / f"{name}.yaml").read_text()))


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def reviews(**changes: Any) -> TaskConfig:
    """A small task of two classes."""
    written: dict[str, Any] = {
        "name": "reviews",
        "kind": "classification",
        "source": SourceConfig(folder="reviews"),
        "segments": ["{{ text }}"],
        "prompt": ["{{ text }}", "\nIt is"],
        "target": "{{ label }}",
        "labels": ["bad", "good"],
        "answers": [" bad", " good"],
        "metrics": ["accuracy"],
    }
    return TaskConfig(**{**written, **changes})


Write = Callable[..., DataConfig]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes splits of the dataset ``reviews`` as JSON lines, and returns the data settings that find them."""

    def write_splits(folder: str = "reviews", /, **splits: list[dict[str, Any]]) -> DataConfig:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for split, rows in splits.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (place / f"{split}.jsonl").write_text(text, encoding="utf-8")
        return DataConfig(root=str(tmp_path))

    return write_splits


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def numbered(count: int) -> list[dict[str, Any]]:
    """Rows whose texts all differ."""
    return [{"text": f"film number {index}", "label": index % 2} for index in range(count)]
