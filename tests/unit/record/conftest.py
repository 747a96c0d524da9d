"""A hand-made record with everything in it that the pages and tables show."""

from __future__ import annotations

from typing import Any

import pytest

from mtl.record.summary import Summary


def _scores(
    primary: str, chance: float, values: dict[str, tuple[float, float, float]], **more: Any
) -> Any:
    metrics = {
        name: {"value": v, "low": low, "high": high} for name, (v, low, high) in values.items()
    }
    return {
        "split": "validation",
        "rows": 872,
        "primary": primary,
        "chance": chance,
        "metrics": metrics,
        **more,
    }


@pytest.fixture
def summary() -> Summary:
    return {
        "strategy": "task_signal",
        "balance": "equal",
        "seed": 3,
        "status": "finished",
        "tasks": {
            "sst2": _scores("accuracy", 0.5, {"accuracy": (0.812, 0.783, 0.84)}, majority=0.509),
            "mrpc": _scores(
                "f1",
                0.576,
                {"accuracy": (0.7, 0.66, 0.74), "f1": (0.79, 0.75, 0.83)},
                majority=0.812,
                notes=["17 of 408 rows were cut to the context of 128 tokens"],
            ),
            "ptb": _scores(
                "bits_per_byte_disjoint",
                8.0,
                {
                    "bits_per_byte_disjoint": (2.31, 2.25, 2.36),
                    "perplexity_per_word_disjoint": (5120.0, 4300.0, 6000.0),
                },
                lower_is_better=["bits_per_byte_disjoint", "perplexity_per_word_disjoint"],
            ),
        },
        "average": {
            "value": 0.5123,
            "of": "primary metrics rescaled so that chance = 0 and perfect = 1",
        },
        "ledger": {
            "tokens": 2_000_123,
            "tokens_by_task": {"sst2": 1_500_000, "mrpc": 400_123, "ptb": 100_000},
            "steps": 489,
            "flops": 1.5e13,
            "backward_passes": 489,
            "seconds": 108.7,
            "peak_memory_bytes": 512_000_000,
            "parameters": {
                "shared": 1_234_567,
                "per_task": {"sst2": 258, "mrpc": 258, "ptb": 0},
                "total": 1_235_083,
            },
            "pretraining_tokens": 0,
        },
        "data": {
            "sst2": {"fingerprint": "0123456789abcdef", "rows": {"train": 66849, "report": 872}}
        },
        "versions": {"mtl": "0.1.0"},
        "git": {"commit": None, "dirty": None},
        "overlap": [
            {
                "evaluation_task": "sst2",
                "purpose": "report",
                "split": "validation",
                "train_task": "mrpc",
                "rows": [3, 8, 11],
                "train_rows": [40],
                "total": 872,
            }
        ],
    }
