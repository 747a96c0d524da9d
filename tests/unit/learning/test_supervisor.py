import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mtl.config.errors import Interrupted
from mtl.config.schema import OptimizerConfig
from mtl.learning.interruption import interrupt, interruptions
from mtl.learning.module import MultiTaskModule
from mtl.learning.supervisor import Scored, Supervisor

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Strategy(nn.Module):
    tasks = (SimpleNamespace(name="a"), SimpleNamespace(name="b"))


class Trainer:
    """What the supervisor asks of Lightning's trainer, on one device."""

    world_size = 1
    global_rank = 0
    is_global_zero = True
    strategy = SimpleNamespace(barrier=lambda: None)

    def __init__(self):
        self.global_step = 0
        self.fails = False

    def save_checkpoint(self, path, weights_only=False):
        path.write_text("half of")
        if self.fails:
            raise OSError("no space left on device")
        path.write_text(f"step {self.global_step}")


class Bench:
    """Steps under a supervisor, and everything it did."""

    def __init__(
        self, folder, scores=(), score_at=(), steps=6, log_every=2, save_every=3, **diagnosis
    ):
        self.folder, self.events, self.trainer = folder, [], Trainer()
        self.scores = iter(scores)
        self.supervisor = Supervisor(
            folder,
            tokens_after=np.arange(1, steps + 1) * 10,
            score=self.score,
            score_at=score_at,
            log=lambda step, tokens, values: self.events.append((step, tokens, dict(values))),
            log_every=log_every,
            save_every=save_every,
            step_done=lambda step, losses, rate: None,
            **diagnosis,
        )
        self.module = MultiTaskModule(
            Strategy(),
            optimizer=OptimizerConfig(),
            shares=np.ones(steps),
            seed=0,
            describe_row=lambda task, row: "",
        )
        self.module._trainer = self.trainer
        save = self.trainer.save_checkpoint

        def saved(path, weights_only=False):
            self.events.append(("save", path.name, weights_only))
            save(path, weights_only)

        self.trainer.save_checkpoint = saved

    def score(self):
        self.events.append("score")
        value = next(self.scores)
        return Scored(value, {"selection_average": value})

    def step(self, *, rate=0.5, piece=False):
        """One step; a piece of it does not count yet."""
        self.module.loss_sums += torch.tensor([[3.0, 0.0], [1.0, 0.0]])
        if not piece:
            optimizer = SimpleNamespace(param_groups=[{"lr": rate}])
            self.supervisor.on_before_optimizer_step(self.trainer, self.module, optimizer)
            optimizer.param_groups[0]["lr"] = -1  # the schedule has moved on
            self.trainer.global_step += 1
        self.supervisor.on_train_batch_end(self.trainer, self.module, None, None, 0)

    def start(self):
        self.supervisor.on_train_start(self.trainer, self.module)


@pytest.fixture(autouse=True)
def handlers():
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def test_order_of_what_happens_after_a_step(tmp_path):
    bench = Bench(tmp_path, scores=[0.2, 0.1], score_at=[4, 6])
    bench.start()
    for _ in range(6):
        bench.step()
    losses = {"a/loss": 3.0, "learning_rate": 0.5}  # the rate of the step, not of the next
    assert bench.events == [
        (2, 20, losses),
        ("save", ".last.ckpt.partial", False),
        (4, 40, losses),
        "score",
        (4, 40, {"selection_average": 0.2}),
        ("save", ".best.ckpt.partial", True),
        (6, 60, losses),
        "score",
        (6, 60, {"selection_average": 0.1}),
        ("save", ".last.ckpt.partial", False),
    ]
    assert (tmp_path / "best.ckpt").read_text() == "step 4"
    assert (tmp_path / "last.ckpt").read_text() == "step 6"
    assert (bench.supervisor.best_value, bench.supervisor.best_step) == (0.2, 4)


def test_measurements_come_after_the_losses_and_before_the_scores_also_at_the_end(tmp_path):
    bench = Bench(
        tmp_path,
        scores=[0.2],
        score_at=[4],
        save_every=9,
        diagnose=lambda step: {"conflict/mean_cosine": step / 10},
        diagnose_every=4,
    )
    bench.start()
    for _ in range(6):
        bench.step(rate=0.5)
    losses = {"a/loss": 3.0, "learning_rate": 0.5}
    assert bench.events == [
        (2, 20, losses),
        (4, 40, losses),
        (4, 40, {"conflict/mean_cosine": 0.4}),
        "score",
        (4, 40, {"selection_average": 0.2}),
        ("save", ".best.ckpt.partial", True),
        (6, 60, losses),
        (6, 60, {"conflict/mean_cosine": 0.6}),
        ("save", ".last.ckpt.partial", False),
    ]


def test_other_devices_measure_too_and_log_nothing(tmp_path):
    seen = []
    bench = Bench(tmp_path, diagnose=lambda step: seen.append(step) or {}, diagnose_every=2)
    bench.trainer.is_global_zero = False
    bench.start()
    for _ in range(2):
        bench.step()
    assert (seen, bench.events) == ([2], [])


def test_of_equal_scores_the_first_is_kept(tmp_path):
    bench = Bench(tmp_path, scores=[0.2, 0.2, 0.3], score_at=[1, 2, 3])
    bench.start()
    bench.step()
    bench.step()
    assert bench.supervisor.best_step == 1
    bench.step()
    assert bench.supervisor.best_step == 3


def test_pieces_of_a_step_are_no_steps(tmp_path):
    bench = Bench(tmp_path, log_every=1, save_every=1)
    bench.start()
    bench.step(piece=True)
    bench.step(piece=True)
    assert bench.events == []
    bench.step()
    assert bench.events[0] == (1, 10, {"a/loss": 3.0, "learning_rate": 0.5})


def test_a_write_that_fails_leaves_the_former_checkpoint(tmp_path):
    bench = Bench(tmp_path, save_every=1)
    bench.start()
    bench.step()
    bench.trainer.fails = True
    with pytest.raises(OSError, match="no space"):
        bench.step()
    assert (tmp_path / "last.ckpt").read_text() == "step 1"
    assert (tmp_path / ".last.ckpt.partial").read_text() == "half of"

    Bench(tmp_path).start()  # the next attempt clears away what the failed one left
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", [2, 6])
def test_a_signal_waits_for_the_end_of_its_step(tmp_path, number, step):
    """The last step too: the final scores are not computed after it."""
    bench = Bench(tmp_path)
    bench.start()
    for _ in range(step - 1):
        bench.step()
    signal.raise_signal(number)
    with pytest.raises(Interrupted) as caught:
        bench.step()
    assert caught.value.signal == number
    assert (tmp_path / "last.ckpt").read_text() == f"step {step}"


def test_signals_outside_the_steps_end_at_once(tmp_path):
    bench = Bench(tmp_path)
    with interruptions(bench.supervisor.signalled):
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        bench.start()
        signal.raise_signal(signal.SIGTERM)  # after the last step, before training has ended
        with pytest.raises(Interrupted):
            bench.supervisor.on_train_end(bench.trainer, bench.module)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_state_goes_through_a_checkpoint(tmp_path):
    first = Bench(tmp_path, scores=[0.4], score_at=[3], log_every=4)
    first.start()
    for _ in range(3):
        first.step()
    state = first.supervisor.state_dict()
    assert state["loss_sums"].tolist() == [[[9.0, 0.0], [3.0, 0.0]]]

    second = Bench(tmp_path)
    second.supervisor.load_state_dict(state)
    second.start()
    assert second.module.loss_sums.tolist() == [[9.0, 0.0], [3.0, 0.0]]
    assert (second.supervisor.best_value, second.supervisor.best_step) == (0.4, 3)
    assert second.supervisor.seconds >= state["seconds"]


def test_losses_of_more_devices_are_taken_over_by_one(tmp_path):
    bench = Bench(tmp_path)
    sums = torch.arange(8.0).view(2, 2, 2)
    bench.supervisor.load_state_dict({**bench.supervisor.state_dict(), "loss_sums": sums})
    bench.start()
    assert bench.module.loss_sums.equal(sums[0] + sums[1])


def test_scoring_is_no_time_of_training(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("mtl.learning.supervisor.time.monotonic", lambda: now[0])
    bench = Bench(tmp_path, score_at=[1])

    def score():
        now[0] += 50.0
        return Scored(0.0, {})

    bench.supervisor._score = score
    bench.start()
    now[0] += 2.0
    bench.step()
    assert bench.supervisor.seconds == 2.0


def test_measuring_is_counted_by_itself(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("mtl.learning.supervisor.time.monotonic", lambda: now[0])

    def diagnose(step):
        now[0] += 30.0
        return {}

    bench = Bench(tmp_path, diagnose=diagnose)
    bench.start()
    for _ in range(2):
        now[0] += 2.0
        bench.step()
    assert (bench.supervisor.seconds, bench.supervisor.diagnosing_seconds) == (4.0, 60.0)
    resumed = Bench(tmp_path)
    resumed.supervisor.load_state_dict(bench.supervisor.state_dict())
    assert resumed.supervisor.diagnosing_seconds == 60.0


def test_handlers_come_back_and_what_was_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with interruptions(interrupt):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_handlers_are_left_alone():
    failed = []

    def work():
        try:
            with interruptions(interrupt):
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []
