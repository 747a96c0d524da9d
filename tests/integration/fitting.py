"""Small fits for the tests of training: in this process, or in processes of their own that a test may kill.

Processes come from the fork server of :mod:`elsewhere`, so that each costs a run and no start.
"""

import contextlib
import faulthandler
import json
import os
import random
import signal
import socket
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere

TASKS = "tasks=[microworld_sentiment,microworld_translation,microworld_similarity]"
SMALL = [
    TASKS,
    "decoder=micro",
    "decoder.context=128",
    "trainer=cpu",
    "budget.tokens=null",
    "batch.tokens=512",
    "evaluation.times=2",
    "evaluation.rows=12",
    "evaluation.selection_rows=8",
    "evaluation.resamples=20",
    "record.mlflow=false",
]
"""What all of these runs share; the budget is the caller's."""
LONG = [*SMALL, "budget.steps=20", "record.every=2", "record.checkpoint_every=3"]
"""Checkpoints after 3, 6, ..., 18 and 20 steps; scored after 10 and 20."""


def fit_elsewhere(arguments, folder, *, hook=None):
    """``python -m mtl.fit`` in another process.

    :param folder: Where the process stands.
    :param hook: (function of this module, arguments): called in the process before the command.
    :return: Exit status (negative: the signal that killed it), standard output, standard error.
    """
    first = None if hook is None else (globals()[hook[0]], *hook[1:])
    done = elsewhere.python("-m", "mtl.fit", *arguments, cwd=folder, first=first)
    return done.returncode, done.stdout, done.stderr


def strike(number):
    """Send this process a signal; it is there before the next line runs."""
    os.kill(os.getpid(), number)
    if number == signal.SIGKILL:
        signal.pause()


def in_step(step, number=signal.SIGKILL, piece=0):
    """A signal inside the forward pass after ``step`` finished steps."""
    from mtl.learning.module import MultiTaskModule

    training_step, seen = MultiTaskModule.training_step, []

    def struck(self, batch, batch_index):
        if self.global_step == step:
            seen.append(batch_index)
            if len(seen) == piece + 1:
                strike(number)
        return training_step(self, batch, batch_index)

    MultiTaskModule.training_step = struck


def in_training(number, step, signal_number=signal.SIGKILL):
    """A signal inside the forward pass after ``step`` finished steps of the training with that number, of those that
    have a step left."""
    from mtl.learning.module import MultiTaskModule

    training_step, seen = MultiTaskModule.training_step, []

    def struck(self, batch, batch_index):
        if id(self) not in seen:
            seen.append(id(self))
        if seen.index(id(self)) == number and self.global_step == step:
            strike(signal_number)
        return training_step(self, batch, batch_index)

    MultiTaskModule.training_step = struck


def around_scoring(step, *, after):
    """Killed before the selection rows are scored, or when best.ckpt is written and last.ckpt is not yet."""
    from mtl.learning.supervisor import Supervisor

    select = Supervisor._select

    def struck(self, trainer, finished, tokens):
        if finished == step and not after:
            strike(signal.SIGKILL)
        select(self, trainer, finished, tokens)
        if finished == step:
            strike(signal.SIGKILL)

    Supervisor._select = struck


def before_scoring(step):
    around_scoring(step, after=False)


def after_best(step):
    around_scoring(step, after=True)


def while_writing(step):
    """Killed when half of last.ckpt is written."""
    import pytorch_lightning as pl

    save = pl.Trainer.save_checkpoint

    def struck(self, path, weights_only=None, **more):
        save(self, path, weights_only, **more)
        if self.global_step == step and not weights_only:
            os.truncate(path, Path(path).stat().st_size // 2)
            strike(signal.SIGKILL)

    pl.Trainer.save_checkpoint = struck


def in_function(name, number):
    """A signal when :mod:`mtl.execution`, or :mod:`mtl.ending`, calls a function of that name."""
    from mtl import ending, execution

    module = execution if hasattr(execution, name) else ending
    function = getattr(module, name)

    def struck(*arguments, **more):
        strike(number)
        return function(*arguments, **more)

    setattr(module, name, struck)


def checkpoint(folder, name="last"):
    """A checkpoint, as plain values and tensors."""
    return torch.load(Path(folder, "checkpoints", f"{name}.ckpt"), weights_only=True)


def same(one, other):
    """Equal to the last bit, whatever is nested in what."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def measured(summary):
    """summary.json without what a clock, the memory of a process, the cache, or a commit made meanwhile says."""
    return {**_timeless(summary), "git": None}


def _timeless(values):
    aside = ("seconds", "diagnosing_seconds", "peak_memory_bytes", "reused")
    return {
        key: _timeless(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in aside
    }


def assert_same_run(one, other):
    """Weights, optimizer, metrics, predictions and summary of two finished run folders are equal to the last bit."""
    one, other = Path(one), Path(other)
    for name in ("last", "best"):
        first, second = checkpoint(one, name), checkpoint(other, name)
        for saved in (first, second):
            for state in saved.get("callbacks", {}).values():
                assert state.pop("seconds") > 0
        for key in first.keys() | second.keys():
            assert same(first[key], second[key]), f"{key} of {name}.ckpt differs"
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    names = sorted(path.name for path in (one / "predictions").iterdir())
    assert names == sorted(path.name for path in (other / "predictions").iterdir()) != []
    for name in names:
        first, second = (folder / "predictions" / name for folder in (one, other))
        assert first.read_bytes() == second.read_bytes(), f"{name} differs"
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (one, other))
    assert measured(first) == measured(second)


def assert_close(one, other, tolerance=1e-5):
    """The same losses, selection scores and weights."""
    first, second = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (one, other)
    )
    assert [line.keys() for line in first] == [line.keys() for line in second]
    for mine, theirs in zip(first, second, strict=True):
        assert mine == pytest.approx(theirs, abs=tolerance, rel=tolerance), (mine, theirs)
    weights = checkpoint(one)["state_dict"], checkpoint(other)["state_dict"]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=tolerance, rtol=0, msg=name)


def free_port():
    """One that no connection is given by chance: those come from 32768 on."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def fit_in_pairs(jobs, folder):
    """Several fits one after another, each by two processes that some launcher has started.

    :param jobs: (arguments, {rank: hook}) of each fit.
    :return: For each fit what its two processes ended with: None or the text of an error.
    """
    ports = [free_port() for _ in jobs]
    queue = elsewhere.queue()
    processes = [elsewhere.start(_rank, rank, ports, jobs, str(folder), queue) for rank in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    endings = {}
    while not queue.empty():
        job, rank, text = queue.get()
        endings[job, rank] = text
    return [(endings[job, 0], endings[job, 1]) for job in range(len(jobs))]


def _rank(rank, ports, jobs, folder, queue):
    os.chdir(folder)
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    from mtl.config.compose import compose
    from mtl.config.schema import FitConfig
    from mtl.execution import fit
    from mtl.learning.module import MultiTaskModule

    training_step = MultiTaskModule.training_step
    for number, (port, (arguments, hooks)) in enumerate(zip(ports, jobs, strict=True)):
        faulthandler.dump_traceback_later(150, exit=True)  # a process that waits for ever
        os.environ |= {"MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        MultiTaskModule.training_step = training_step
        if rank in hooks:
            function, *rest = hooks[rank]
            globals()[function](*rest)
        ending = None
        try:
            fit(compose("fit", FitConfig, arguments))
        except Exception as error:
            ending = f"{type(error).__name__}: {error}"
        queue.put((number, rank, ending))


def not_finite(step, row=-1):
    """After ``step`` finished steps, the loss of one row of the batch is infinite."""
    from mtl.learning.module import MultiTaskModule

    training_step = MultiTaskModule.training_step

    def struck(self, batch, batch_index):
        losses = self.strategy.losses

        def infinite(batch):
            found = losses(batch).clone()
            if self.global_step == step:
                found[row] = torch.inf
            return found

        self.strategy.losses = infinite
        try:
            return training_step(self, batch, batch_index)
        finally:
            del self.strategy.losses

    MultiTaskModule.training_step = struck


def hold_logits(most):
    """In training, no more than ``most`` logits are computed at a time."""
    from mtl.learning import cross_entropy
    from mtl.learning.module import MultiTaskModule

    training_step = MultiTaskModule.training_step

    def held(self, batch, batch_index):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cross_entropy, "most_logits", lambda device: most)
            return training_step(self, batch, batch_index)

    MultiTaskModule.training_step = held


def note_own_share(path):
    """Write down the share of all parameters that lies on this device in a step."""
    from mtl.learning.module import MultiTaskModule

    training_step = MultiTaskModule.training_step

    def noted(self, batch, batch_index):
        parameters = list(self.strategy.parameters())
        own = sum(parameter.to_local().numel() for parameter in parameters)
        Path(path).write_text(str(own / sum(parameter.numel() for parameter in parameters)))
        return training_step(self, batch, batch_index)

    MultiTaskModule.training_step = noted
