"""One training: a built strategy, its encoded rows, a budget; Lightning does the steps."""

from __future__ import annotations

import gc
import logging
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies import Strategy as Devices
from torch import nn

from mtl.config.errors import UserError
from mtl.config.schema import BalanceConfig, FitConfig, TrainerConfig
from mtl.data.grid import Grid
from mtl.data.loader import Arrangement, TrainLoader
from mtl.data.plan import Plan
from mtl.data.replay import Replay
from mtl.data.store import EncodedSplit
from mtl.learning.balance.methods import (
    make_balance,
    parameters_to_train,
    separate_gradients,
    within_tasks,
)
from mtl.learning.balance.one_pass import can_pass_once
from mtl.learning.compilation import before_pass, compiled, decide, eager
from mtl.learning.interruption import interruptions
from mtl.learning.module import MultiTaskModule
from mtl.learning.reduction import reduction
from mtl.learning.sharding import ShardedDevices, can_shard, copy_of, whole_weights
from mtl.learning.strategy import Strategy
from mtl.learning.supervisor import LAST, Scored, StepDone, Supervisor

ROW_TOKENS = 96
"""Least width of a packed row where several tasks have batches of their own: a task of short texts alone has many
narrow rows, which attention kernels are slow at."""


@dataclass(frozen=True)
class Listener:
    """Who is told what during training; called on the first device alone, but for ``score`` and ``diagnose``."""

    score: Callable[[], Scored]
    """Scores the selection split, on every device."""
    log: Callable[[int, int, Mapping[str, float]], None]
    """(finished steps, tokens, values by name)."""
    step_done: StepDone
    """After every step."""
    scored: Callable[[int, int, float], None] | None = None
    """(finished steps, tokens, what selects), after each scoring of the selection split. What it raises ends the
    training."""
    say: Callable[[str], None] | None = None
    """A line on how this training is done, before it begins."""
    diagnose: Callable[[int], Mapping[str, float]] | None = None
    """Measures something every ``diagnostics.every`` steps, from the number of finished steps; on every device."""


@dataclass(frozen=True)
class Trained:
    """What a training left behind, beside its checkpoints."""

    steps: int
    seconds: float
    """Time of training, interrupted stretches summed."""
    best_step: int | None
    best_by_task: Mapping[str, int]
    """Step of the best scoring of each task alone; empty where that was not wanted."""
    devices: int
    passed_once: bool
    """Gradients of tasks, where they were kept by themselves, came from one backward pass."""
    diagnosing_seconds: float
    """Time of ``Listener.diagnose``, which is no time of training."""


class TrainingData(pl.LightningDataModule):
    """The rows of the plan from the step the trainer stands at; a resumed trainer stands where it stopped."""

    def __init__(
        self,
        stores: list[EncodedSplit],
        plan: Plan | Replay,
        steps: int,
        strategy: Strategy,
        balance: BalanceConfig | None,
        *,
        one_pass: bool,
        grid: Grid | None,
    ):
        super().__init__()
        self._stores, self._plan, self._steps = stores, plan, steps
        weigh = reduction(strategy.reduction)
        self._weigh = weigh if balance is None else within_tasks(weigh)
        self._apart, self._balance = strategy.apart, balance
        self._one_pass, self._grid = one_pass, grid
        # Chunks of documents are long, rows of them few, and the last one would be half empty.
        self._tight = strategy.reads == "corpus"

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        pieces = self.trainer.world_size * self.trainer.accumulate_grad_batches
        separate = separate_gradients(self._balance, pieces)
        arrangement: Arrangement = "apart" if self._apart or separate else "together"
        if separate and self._one_pass:
            arrangement = "rows_apart"
        several = separate and len(self._stores) > 1
        return TrainLoader(
            self._stores,
            self._plan,
            steps=self._steps,
            start=self.trainer.global_step,
            weigh=self._weigh,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            accumulate=self.trainer.accumulate_grad_batches,
            tight=self._tight,
            arrangement=arrangement,
            row_tokens=ROW_TOKENS if several and arrangement == "apart" else 0,
            pin=self.trainer.strategy.root_device.type == "cuda",
            grid=self._grid,
        )


def train(
    strategy: Strategy,
    stores: list[EncodedSplit],
    plan: Plan | Replay,
    tokens_after: np.ndarray,
    config: FitConfig,
    checkpoints: Path,
    listener: Listener,
    *,
    resume: bool,
    shares: np.ndarray | None = None,
    balance: BalanceConfig | None = None,
    more_follow: bool = False,
) -> Trained:
    """Train for the steps of ``tokens_after``; go on from ``last.ckpt`` where ``resume`` says so.

    :param strategy: Built; its weights are trained in place.
    :param stores: Encoded training rows of each of ``strategy.tasks``.
    :param tokens_after: (steps,) tokens consumed when each step is over.
    :param checkpoints: Folder of ``last.ckpt`` and ``best.ckpt``.
    :param shares: (steps,) share of the schedule that is over after each step; null follows the tokens.
    :param balance: How the losses of the tasks become one update; null adds them.
    :param more_follow: These very processes go on to another training, and keep their process group for it.
    """
    steps = len(tokens_after)
    tasks = strategy.tasks

    def describe_row(task: int, row: int) -> str:
        split = tasks[task].train
        assert split is not None
        return f"{tasks[task].name} {split.examples[int(stores[task].examples[row])].row}"

    if balance is not None and balance.name == "sum":
        balance = None
    names, rows = [task.name for task in tasks], [len(store) for store in stores]
    # Splitting changes modules for good; what is scored, and what remains, is the strategy as it came.
    trained = copy_of(strategy) if config.trainer.strategy == "fsdp" else strategy
    one_pass = can_pass_once(strategy)
    decision = decide(
        config.trainer,
        strategy,
        steps=steps,
        tokens=int(tokens_after[-1]),
        pieces=config.batch.accumulate,
        balanced=balance is not None,
        one_pass=one_pass and separate_gradients(balance, config.batch.accumulate),
    )
    if listener.say is not None:
        listener.say(str(decision))
    module = MultiTaskModule(
        trained,
        optimizer=config.optimizer,
        shares=tokens_after / tokens_after[-1] if shares is None else shares,
        seed=config.seed,
        describe_row=describe_row,
        balance=make_balance(balance, names, rows, strategy.composition),
        separate=partial(separate_gradients, balance),
        one_pass=one_pass and not decision.compiled,
        tasks_from=lambda start: (np.unique(step.tasks) for step in plan.steps(start)),
        before_pass=partial(before_pass, decision),
    )

    def score() -> Scored:
        with whole_weights(trained, strategy), eager(decision):
            return listener.score()

    def diagnose(step: int) -> Mapping[str, float]:
        assert listener.diagnose is not None
        with eager(decision):
            return listener.diagnose(step)

    times = config.evaluation.times
    supervisor = Supervisor(
        checkpoints,
        tokens_after=tokens_after,
        score=score,
        score_at={max(1, round(steps * part / times)) for part in range(1, times + 1)},
        log=listener.log,
        log_every=config.record.every,
        save_every=config.record.checkpoint_every,
        step_done=listener.step_done,
        scored=listener.scored,
        diagnose=None if listener.diagnose is None else diagnose,
        diagnose_every=config.diagnostics.every,
        per_task=config.evaluation.per_task and strategy.reads == "tasks" and len(tasks) > 1,
    )
    group = nullcontext() if more_follow else process_group_ended()
    with (
        _quiet_lightning(),
        interruptions(supervisor.signalled),
        group,
        compiled(trained, decision),
    ):
        trainer = make_trainer(
            config, steps, supervisor, _devices(config.trainer, trained, module.balance)
        )
        grid = Grid.of(stores) if decision.fixed else None
        data = TrainingData(
            stores, plan, steps, strategy, balance, one_pass=module.one_pass, grid=grid
        )
        trainer.fit(module, datamodule=data, ckpt_path=checkpoints / LAST if resume else None)
        with whole_weights(trained, strategy):
            strategy.to("cpu")
    return Trained(
        steps=trainer.global_step,
        seconds=supervisor.seconds,
        best_step=supervisor.best_step,
        best_by_task={task: step for task, (_, step) in supervisor.best_by_task.items()},
        devices=trainer.world_size,
        passed_once=module.passed_once,
        diagnosing_seconds=supervisor.diagnosing_seconds,
    )


def make_trainer(
    config: FitConfig, steps: int, supervisor: Supervisor, devices: str | Devices
) -> pl.Trainer:
    """Lightning's trainer, without what the supervisor does itself."""
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.nodes,
        strategy=devices,
        precision="bf16-mixed" if config.trainer.precision == "bf16" else "32-true",
        max_steps=steps,
        max_epochs=-1,
        gradient_clip_val=config.optimizer.clip,
        accumulate_grad_batches=config.batch.accumulate,
        callbacks=[supervisor],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def check_devices(config: TrainerConfig) -> None:
    """Whether this machine has the devices a trainer asks for, and the others are there.

    :raises UserError: it has not, or they are not.
    """
    if config.nodes > 1 and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"on {config.nodes} machines a launcher starts the processes, and this one was started alone",
            where=f"trainer.nodes={config.nodes}",
            hints=[
                f"on each machine: torchrun --nnodes={config.nodes} --nproc-per-node={config.devices}"
                " --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT -m mtl.fit ... run_dir=DIR"
            ],
        )
    where = f"trainer={config.name}"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = torch.backends.mps.is_available()
    if (
        not gpus
        and config.accelerator != "cpu"
        and (config.strategy == "fsdp" or (config.accelerator == "gpu" and not apple))
    ):
        raise UserError(
            "there is no GPU here",
            where=where,
            hints=["trainer=cpu", "for two processes: trainer=ddp trainer.accelerator=cpu"],
        )
    if config.accelerator != "cpu" and gpus and config.devices != "auto" and config.devices > gpus:
        raise UserError(
            f"there are not {config.devices} GPUs here but {gpus}",
            where=f"{where} trainer.devices={config.devices}",
            hints=[f"trainer.devices={gpus}", "on the CPU: trainer.accelerator=cpu"],
        )


def check_sharding(config: TrainerConfig, strategy: Strategy) -> None:
    """Whether a strategy can train on parameters that are split over devices.

    :raises UserError: it moves whole parameters itself after each step, torch is too old to split them, or they are to
        be compiled too.
    """
    if config.strategy == "fsdp" and not can_shard():
        raise UserError(
            f"this torch ({torch.__version__}) cannot split parameters that only some devices use",
            where=f"trainer={config.name}",
            hints=["pip install 'torch>=2.13'", "trainer=ddp"],
        )
    if config.strategy == "fsdp" and config.compile == "always":
        raise UserError(
            "blocks whose parameters are split over devices are not compiled",
            where=f"trainer={config.name} trainer.compile=always",
            hints=["trainer.compile=auto", "trainer=ddp"],
        )
    if config.strategy == "fsdp" and type(strategy).after_step is not Strategy.after_step:
        raise UserError(
            "this strategy moves whole parameters after each step, and fsdp splits them over devices",
            where=f"trainer={config.name}",
            hints=["trainer=ddp"],
        )


def _devices(config: TrainerConfig, strategy: Strategy, balance: nn.Module | None) -> str | Devices:
    if config.strategy == "fsdp":
        return ShardedDevices()
    if config.strategy != "ddp":
        return config.strategy
    gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return DDPStrategy(
        find_unused_parameters=may_leave_unused(strategy, balance),
        process_group_backend="nccl" if gpu else "gloo",
    )


def may_leave_unused(strategy: Strategy, balance: nn.Module | None) -> bool:
    """Whether the rows of one device may reach only some of the trained parameters.

    Every row passes through the whole decoder, and every row of the only task through what is that task's own; a head
    waits for rows of its task, and a weight of a balance for its losses. To find out which were reached, DDP walks
    the graph of every step.
    """
    reached = {id(parameter) for parameter in strategy.decoder.parameters()}
    if len(strategy.tasks) == 1:
        reached |= {id(parameter) for parameter in strategy.own_parameters(strategy.tasks[0])}
    trained = [p for p in strategy.parameters() if p.requires_grad] + parameters_to_train(balance)
    return any(id(parameter) not in reached for parameter in trained)


@contextmanager
def process_group_ended() -> Iterator[None]:
    """Leaves no process group behind: what follows is done by one process, or by another training."""
    before = torch.distributed.is_initialized()
    try:
        yield
    except BaseException as error:
        if torch.distributed.is_initialized():
            traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if torch.distributed.is_initialized() and not before:
            # DistributedDataParallel goes first: were it the last to hold the group, its end would wait, with the
            # interpreter's lock, for threads of the group that wait for the lock.
            gc.collect()
            torch.distributed.destroy_process_group()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keeps Lightning's advice off the terminal; what matters is said by the run itself."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
