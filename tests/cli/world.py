"""A frozen little world of configs and strategies, so that messages do not change when a task is added."""

import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

FILES = {
    "configs/suite/microworld.yaml": "name: microworld\ntasks: [colours, shapes]\n",
    "configs/suite/broken.yaml": "name: broken\ntasks:\n  - colours\n  - shapess\n",
    "configs/mixture/temperature.yaml": "name: temperature\ntemperature: 2.0\n",
    "configs/mixture/explicit.yaml": "name: explicit\n",
    "configs/decoder/tiny.yaml": "# For tests.\nname: tiny\nlayers: 2\nwidth: 64\nheads: 2\ncontext: 64\n",
    "configs/decoder/small.yaml": "name: small\nlayers: 4\nwidth: 128\nheads: 4\ncontext: 64\n",
    "configs/tokenizer/byte_bpe.yaml": "name: byte_bpe\nkind: byte_bpe\n",
    "configs/corpus/microworld.yaml": "name: microworld\nkind: microworld\n",
    "strategies/task_signal.py": '''
"""Not imported: the import would fail."""
import no_such_module
from mtl.learning.strategy import Strategy

class TaskSignal(Strategy):
    """Task signal: a token says the task.

    :param share: Share of rows that carry the token.
    :param shuffle: Whether rows are shuffled.
    """

    def __init__(self, *, share: float = 0.5, reading: "Literal['rank', 'decode']" = "rank", depth: int | None = None):
        pass
''',
    "strategies/mt_dnn.py": '''
class MTDNN(Strategy):
    """One task a batch."""
''',
}
TASK = """name: {name}
kind: classification
source: {{microworld: {name}}}
segments: ["{{{{ text }}}}"]
prompt: ["{{{{ text }}}} for ", "\\\\${{5}}"]
target: "{{{{ label }}}}"
labels: ["no", "yes"]
answers: ["bad", "good"]
metrics: [accuracy]
description: Tell {name} apart.
"""


def build(folder: Path) -> Path:
    """Write the world into an empty folder: our own primary configs and small groups, stand-ins for the rest."""
    for group in ("", "balance", "optimizer", "trainer"):
        source, target = PROJECT / "configs" / group, folder / "configs" / group
        target.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.yaml"):
            shutil.copy(file, target / file.name)
    for name, text in FILES.items():
        write(folder / name, text)
    for task in ("colours", "shapes", "sizes"):
        write(folder / "configs" / "task" / f"{task}.yaml", TASK.format(name=task))
    for package in ("configs", "strategies", "studies"):
        write(folder / package / "__init__.py", "")
    return folder


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
