"""A training with compiled blocks is the same training."""

import shutil
import signal
import sys
from dataclasses import replace
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


@pytest.fixture
def fixed(monkeypatch):
    """What is compiled is compiled for few shapes, as on a GPU."""
    decide = training.decide

    def decided(*arguments, **named):
        decision = decide(*arguments, **named)
        return replace(decision, fixed=decision.compiled)

    monkeypatch.setattr(training, "decide", decided)


def trained_alike(tmp_path, counting, common):
    """Losses, scores, weights and their names are those of the uncompiled training."""
    plain, made = tmp_path / "plain", tmp_path / "made"
    fit.run([*common, f"run_dir={plain}"])
    fit.run([*common, ALWAYS, f"run_dir={made}"])
    fitting.assert_close(plain, made)
    assert counting.frame_count >= 1
    assert not counters["graph_break"]
    log = (plain / "log.txt").read_text()
    assert "blocks not compiled: on a CPU it saves less than it costs" in log
    return (made / "log.txt").read_text()


def test_blocks_compiled_for_any_shape_train_alike(tmp_path, counting, shapes):
    """Dropout included: it is drawn for the same tokens."""
    common = [*COMMON, "decoder.dropout=0.1"]
    log = trained_alike(tmp_path, counting, common)
    assert f"blocks compiled: {ALWAYS}" in log
    # With a mask and without one, of several rows and of one.
    assert len(shapes) > 4 >= counting.frame_count


@pytest.mark.usefixtures("fixed")
@pytest.mark.parametrize("strategy", ["hard_sharing", "task_signal", "soft_sharing"])
def test_blocks_compiled_for_few_shapes_train_alike(tmp_path, counting, shapes, strategy):
    log = trained_alike(tmp_path, counting, [*COMMON, f"strategy={strategy}"])
    assert f"blocks compiled for few shapes: {ALWAYS}" in log
    on_grid = {shape for shape in shapes if shape[0][1] == 128}
    # Two blocks: states are chosen behind the last one alone.
    assert counting.frame_count == len({shape[:2] for shape in on_grid}) + len(on_grid)
    assert 0 < len(on_grid) < (len(shapes) - len(on_grid)) / 2


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("few", [False, True])
def test_a_compiled_training_goes_on_as_if_never_stopped(tmp_path, request, few):
    if few:
        request.getfixturevalue("fixed")
    common = [*COMMON, "decoder.dropout=0.1", ALWAYS]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit.run([*common, f"run_dir={whole}"])
    fitting.in_step(4, signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit.run([*common, f"run_dir={stopped}"])
    fit.run([*common, f"run_dir={stopped}"])
    fitting.assert_same_run(whole, stopped)
    assert (stopped / "log.txt").read_text().count("blocks compiled") == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_trains_alike(tmp_path, monkeypatch):
    """In the mode that records on a GPU, and compiles alone on a CPU."""
    torch._dynamo.reset()
    plain = fit.run([*COMMON, f"run_dir={tmp_path / 'plain'}"]).path
    decision, steps = compilation.Decision(True, "a test", True, True), []
    monkeypatch.setattr(training, "decide", lambda *_, **__: decision)
    monkeypatch.setattr(
        torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(len(steps))
    )
    made = fit.run([*COMMON, f"run_dir={tmp_path / 'made'}"]).path
    fitting.assert_close(plain, made)
    assert len(steps) == 8
    assert (
        "blocks compiled for few shapes with CUDA graphs: a test" in (made / "log.txt").read_text()
    )


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_recorded_blocks_train_alike(tmp_path):
    """On a GPU in float32; so small a step is recorded."""
    common = ["trainer=gpu" if word == "trainer=cpu" else word for word in COMMON]
    common.append("trainer.precision=32")
    plain = fit.run([*common, "trainer.compile=never", f"run_dir={tmp_path / 'plain'}"]).path
    made = fit.run([*common, ALWAYS, f"run_dir={tmp_path / 'made'}"]).path
    fitting.assert_close(plain, made)
    assert "blocks compiled for few shapes with CUDA graphs" in (made / "log.txt").read_text()
