"""Run folders as a fit leaves them, with weights drawn at random in place of trained ones: made in a moment, and no
answer is sure of itself."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import moods

from mtl.accounting import parameters
from mtl.assembly import load_data, make_strategy, save_model
from mtl.config.compose import compose, to_yaml
from mtl.config.schema import FitConfig
from mtl.parts import trainings
from mtl.record.folder import RunFolder
from mtl.record.summary import write_summary
from mtl.starting import starting_point

TASKS = {
    "score": """kind: regression
source: {folder: pairs}
segments: ["{{ first }} {{ number }}", "{{ second }}"]
symmetric: true
target: "{{ number % 6 }}"
range: [0, 5]
""",
    "alike": """kind: pair_classification
source: {folder: pairs}
segments: ["{{ first }}", "{{ second }} {{ number }}"]
symmetric: true
target: "{{ label }}"
labels: [different, same]
""",
    "choose": """kind: multiple_choice
source: {folder: pairs}
segments: ["{{ label }} {{ number }}"]
choices: ["{{ first }}", "{{ second }} {{ number }}"]
target: "{{ number % 2 }}"
""",
}
EVERY = "tasks=[moods,pairs,echo,score,alike,choose]"
"""A task of each kind, two of them without an order of their segments."""


def world(folder):
    """The data and the tasks of a person, in an empty folder."""
    moods.build(folder)
    for name, text in TASKS.items():
        moods.write(Path(folder) / "mine" / "task" / f"{name}.yaml", text)
    return Path(folder)


def run(name, *overrides, like=None):
    """A run folder in the working directory, which :func:`world` has filled.

    :param like: Called with the model, to change its weights.
    """
    chosen = [*moods.SMALL, "tokenizer.vocabulary=280", "budget.steps=1", *overrides]
    config = compose("fit", FitConfig, chosen, config_dir="mine")
    strategy = make_strategy(config)
    loaded = load_data(config, strategy)
    model = trainings(config, loaded, starting_point(config, loaded)).model
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            centre = 1.0 if parameter.dim() < 2 and parameter.mean() == 1 else 0.0
            parameter.copy_(centre + 0.3 * torch.randn(parameter.shape, generator=generator))
    if like is not None:
        like(model)
    folder, _ = RunFolder.claim(Path(name), to_yaml(config), lambda _: [])
    model.vocabulary.save(folder.path / "tokenizer")
    folder.last_checkpoint.parent.mkdir()
    save_model(model, folder.last_checkpoint, steps=1)
    write_summary(folder, summary(config, model, loaded))
    return model.eval()


def summary(config, model, loaded):
    """What a finished run says of itself; the scores are made up."""
    value = {"value": 0.5, "low": 0.25, "high": 0.75}
    tasks = {
        task.name: {
            "split": task.report.name,
            "rows": len(task.report.examples),
            "primary": task.config.metrics[0],
            "chance": 0.25,
            "majority": 0.3,
            "metrics": dict.fromkeys(task.config.metrics, value),
        }
        for task in loaded.tasks
    }
    trained = [task.name for task in loaded.trained]
    return {
        "strategy": config.strategy["name"],
        "balance": "sum",
        "seed": 0,
        "status": "finished",
        "panel": "zero-shot" if model.reads == "corpus" else "supervised",
        "tasks": tasks,
        "average": {"value": 0.3, "of": "made up"},
        "ledger": {
            "tokens": 1000,
            "tokens_by_task": dict.fromkeys(trained, 1000 // len(trained)),
            "steps": 1,
            "flops": 1e6,
            "backward_passes": 1,
            "seconds": 1.0,
            "peak_memory_bytes": 1,
            "parameters": parameters(model, model.tasks),
            "pretraining_tokens": 0,
        },
        "data": {name: {"fingerprint": "0123", "rows": {"train": 108}} for name in trained},
        "versions": {"mtl": "0"},
        "git": {"commit": "c0ffee", "dirty": True},
    }
