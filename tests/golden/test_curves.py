"""The first losses of every strategy, in curves.txt: a change of code that means to keep the numbers keeps these.

The first lines of the file say what it was computed with. Where torch and the processor are the same, the losses must
be equal to the last digit; elsewhere to 1e-4, for sums are taken in another order there.

After a change that means to change them: ``MTL_GOLDEN=write pytest tests/golden/test_curves.py``, then read the
difference.
"""

import hashlib
import json
import os
import platform
from pathlib import Path

import pytest
import torch

from mtl import fit

GOLDEN = Path(__file__).with_name("curves.txt")
STRATEGIES = [
    "single_task",
    "soft_sharing",
    "hard_sharing",
    "mt_dnn",
    "mixed_batch",
    "task_signal",
    "pretrain_finetune",
    "zero_shot",
]
SETTINGS = [
    "tasks=[microworld_sentiment,microworld_translation,microworld_similarity]",
    "decoder=micro",
    "decoder.context=128",
    "decoder.dropout=0.1",
    "trainer=cpu",
    "budget.tokens=null",
    "budget.steps=8",
    "pretrain.tokens=0",
    "batch.tokens=512",
    # Written out, so that a better default changes no curve.
    "mixture=proportional",
    "optimizer.learning_rate=1e-3",
    "optimizer.weight_decay=0.1",
    "optimizer.betas=[0.9,0.95]",
    "optimizer.warmup=0.05",
    "optimizer.clip=1.0",
    "evaluation.times=1",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "evaluation.resamples=2",
    "record.mlflow=false",
    "record.every=1",
]


def processor():
    """Which processor this is: matrix products of two that name the same capability may differ in the last digit."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n")[0] if info.is_file() else ""
    fields = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    names = ("vendor_id", "cpu family", "model", "stepping", "cache size")
    flags = hashlib.sha256(known.get("flags", "").encode()).hexdigest()[:8]
    return " ".join([*(known.get(name, "?").replace(" ", "") for name in names), flags])


def platform_lines():
    return [
        f"# torch {torch.__version__}",
        f"# processor {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {processor()}",
    ]


def curve(name):
    """One line per step: the strategy, finished steps, tokens, and the loss of each task that was drawn."""
    run = fit.run([f"strategy={name}", *SETTINGS, "run_dir=run"])
    lines = []
    for entry in map(json.loads, run.folder.metrics.read_text().splitlines()):
        losses = {key.removesuffix("/loss"): v for key, v in entry.items() if key.endswith("/loss")}
        if losses:
            shown = " ".join(f"{task}={loss!r}" for task, loss in sorted(losses.items()))
            lines.append(f"{name} {entry['step']} {entry['tokens']} {shown}")
    return lines


@pytest.mark.parametrize("name", STRATEGIES)
def test_first_losses(name):
    found = curve(name)
    assert len(found) in (8, 9)  # thrice 8/3, rounded, where each task is trained alone
    written = GOLDEN.read_text().splitlines() if GOLDEN.exists() else []
    if os.environ.get("MTL_GOLDEN") == "write":
        curves = {line.split()[0]: [] for line in written if not line.startswith("#")}
        for line in written:
            if not line.startswith("#"):
                curves[line.split()[0]].append(line)
        curves[name] = found
        lines = [line for one in STRATEGIES for line in curves.get(one, [])]
        GOLDEN.write_text("\n".join([*platform_lines(), *lines]) + "\n")
        return
    expected = [line for line in written if line.startswith(f"{name} ")]
    if written[:2] == platform_lines():
        assert found == expected
    assert [values(line) for line in found] == [
        pytest.approx(values(line), abs=1e-4) for line in expected
    ]


def values(line):
    _, step, tokens, *losses = line.split()
    parts = [loss.split("=") for loss in losses]
    return {"step": int(step), "tokens": int(tokens), **{task: float(loss) for task, loss in parts}}
