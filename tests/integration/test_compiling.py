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
from mtl.decoder.gpt import Decoder
from mtl.learning import compilation, training

# Without a correlation of predictions that hardly differ yet: it is off by hundreds of times what they are off by.
TASKS = "tasks=[microworld_sentiment,microworld_translation,microworld_entailment]"
COMMON = [
    *[TASKS if word == fitting.TASKS else word for word in fitting.SMALL],
    "strategy=hard_sharing",
    "budget.steps=8",
    "record.every=1",
    "record.checkpoint_every=3",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "optimizer.epsilon=1e-4",
]
ALWAYS = "trainer.compile=always"
# Of torch's compiler, on tensors of its own.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture
def counting(monkeypatch):
    """A backend that counts the graphs it compiles, with the kernels of uncompiled blocks."""
    torch._dynamo.reset()
    counters.clear()
    backend = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compilation, "BACKEND", backend)
    return backend


@pytest.fixture
def shapes(monkeypatch):
    """Shapes of what decoders were trained on: of the tokens, whether with a mask, and how many states were read."""
    seen, forward = set(), Decoder.forward

    def noted(self, tokens, positions=None, mask=None, cache=None, offsets=None, only=None):
        if self.training:
            seen.add((tokens.shape, mask is None, None if only is None else len(only)))
        return forward(self, tokens, positions, mask, cache, offsets, only)

    monkeypatch.setattr(Decoder, "forward", noted)
    return seen


@pytest.mark.parametrize("strategy", ["hard_sharing", "task_signal", "soft_sharing"])
def test_compiled_blocks_train_alike(tmp_path, counting, shapes, strategy):
    """Losses, scores, weights and their names; a graph for each shape, and few shapes."""
    common = [*COMMON, f"strategy={strategy}"]
    plain, made = tmp_path / "plain", tmp_path / "made"
    fit.run([*common, f"run_dir={plain}"])
    unpadded = len(shapes)
    shapes.clear()
    fit.run([*common, ALWAYS, f"run_dir={made}"])

    fitting.assert_close(plain, made)
    # Two blocks: states are chosen behind the last one alone.
    assert counting.frame_count == len({shape[:2] for shape in shapes}) + len(shapes)
    assert len(shapes) < unpadded / 2
    assert not counters["graph_break"]
    assert f"blocks compiled: {ALWAYS}" in (made / "log.txt").read_text()
    log = (plain / "log.txt").read_text()
    assert "blocks not compiled: on a CPU it saves less than it costs" in log


@pytest.mark.usefixtures("counting")
def test_a_compiled_training_goes_on_as_if_never_stopped(tmp_path):
    common = [*COMMON, "decoder.dropout=0.1", ALWAYS]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit.run([*common, f"run_dir={whole}"])
    fitting.in_step(4, signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit.run([*common, f"run_dir={stopped}"])
    fit.run([*common, f"run_dir={stopped}"])
    fitting.assert_same_run(whole, stopped)
    assert (stopped / "log.txt").read_text().count(f"blocks compiled: {ALWAYS}") == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_trains_alike(tmp_path, monkeypatch):
    """In the mode that records on a GPU, and compiles alone on a CPU."""
    torch._dynamo.reset()
    plain = fit.run([*COMMON, f"run_dir={tmp_path / 'plain'}"]).path
    decision, steps = compilation.Decision(True, "a test", True), []
    monkeypatch.setattr(training, "decide", lambda *_, **__: decision)
    monkeypatch.setattr(
        torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(len(steps))
    )
    made = fit.run([*COMMON, f"run_dir={tmp_path / 'made'}"]).path
    fitting.assert_close(plain, made)
    assert len(steps) == 8
    assert "blocks compiled with CUDA graphs: a test" in (made / "log.txt").read_text()
