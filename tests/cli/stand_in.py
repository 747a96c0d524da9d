"""A verb that prints its configuration as JSON, run against the small world whose folder is the first argument."""

import dataclasses
import json
import sys
from pathlib import Path

from mtl.config import packages, strategies
from mtl.config.command_line import command
from mtl.config.errors import Interrupted, UserError
from mtl.config.schema import FitConfig
from mtl.config.verb_schema import EvaluateConfig, PredictConfig

SCHEMAS = {"fit": FitConfig, "evaluate": EvaluateConfig, "predict": PredictConfig}


def use_world(world: Path) -> None:
    packages.ROOT = world
    strategies.FOLDER = world / "strategies"


def work(config: object) -> int | None:
    print(json.dumps(dataclasses.asdict(config)))
    ending = getattr(config, "seed", 0)
    if ending == 901:
        raise UserError("no such folder", where="data.root=DIR")
    if ending == 902:
        raise ValueError("broken inside")
    if ending == 903:
        raise Interrupted(15)
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported")
    return 7 if ending == 904 else None


if __name__ == "__main__":
    use_world(Path(sys.argv.pop(1)))
    verb = sys.argv.pop(1)
    command(verb, SCHEMAS[verb], work, describe="Does one thing.")
