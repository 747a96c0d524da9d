"""A training with compiled blocks is the same training."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fitting
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from mtl import fit
from mtl.config.errors import Interrupted
from mtl.learning import compilation
from mtl.learning.module import MultiTaskModule

COMMON = [
    *fitting.SMALL,
    "strategy=hard_sharing",
    "decoder.dropout=0.1",
    "budget.steps=8",
    "record.every=1",
    "record.checkpoint_every=3",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "optimizer.epsilon=1e-4",
]
# Of torch's compiler, on tensors of its own.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
MOST_GRAPHS = 4
"""With a mask and without one, of several rows and of one."""


def test_compiled_blocks_train_alike(tmp_path, monkeypatch):
    """Losses, scores, weights and their names; few graphs for batches of every shape; stopped and resumed."""
    torch._dynamo.reset()
    counters.clear()
    # Dropout is drawn by the same kernels as uncompiled, which inductor does not.
    counting = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compilation, "BACKEND", counting)
    shapes, training_step = set(), MultiTaskModule.training_step

    def noted(self, batches, batch_index):
        shapes.update(batch.tokens.shape for batch in batches)
        return training_step(self, batches, batch_index)

    monkeypatch.setattr(MultiTaskModule, "training_step", noted)
    plain, made = tmp_path / "plain", tmp_path / "made"
    fit.run([*COMMON, f"run_dir={plain}"])
    command = [*COMMON, "trainer.compile=always", f"run_dir={made}"]
    fitting.in_step(4, signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit.run(command)
    fit.run(command)

    fitting.assert_close(plain, made)
    assert len(shapes) > MOST_GRAPHS >= counting.frame_count >= 1
    assert not counters["graph_break"]
    log = (made / "log.txt").read_text()
    assert log.count("blocks compiled: trainer.compile=always") == 2
    log = (plain / "log.txt").read_text()
    assert "blocks not compiled: on a CPU it saves less than it costs" in log


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_trains_alike(tmp_path):
    torch._dynamo.reset()
    common = [*COMMON, "decoder.dropout=0"]
    plain = fit.run([*common, f"run_dir={tmp_path / 'plain'}"]).path
    made = fit.run([*common, "trainer.compile=always", f"run_dir={tmp_path / 'made'}"]).path
    fitting.assert_close(plain, made)
