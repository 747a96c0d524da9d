"""What benchmarks share: clocks, the machine they ran on, and where results are written."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Clocks:
    """One moment, or the time between two: wall and processor seconds."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Clocks:
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Clocks) -> Clocks:
        return Clocks(self.wall - start.wall, self.processor - start.processor)


def machine(threads: int, *packages: str) -> dict[str, Any]:
    """What the figures depend on beside the code: processors, load, versions."""
    return {
        "processors": os.cpu_count(),
        "threads": threads,
        "architecture": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def write(result: Mapping[str, Any], name: str, out: str) -> None:
    """Write down the result as JSON: ``out``, or a dated file beside the others where that is empty."""
    path = Path(out or ROOT / f"benchmarks/results/{datetime.now():%Y-%m-%d}-{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")
