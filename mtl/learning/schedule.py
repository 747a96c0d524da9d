"""The optimizer and its learning rate over the token budget."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW

from mtl.config.schema import OptimizerConfig


def adamw(module: nn.Module, config: OptimizerConfig, *, fused: bool = True) -> AdamW:
    """AdamW with decay on matrices only: gains, biases and other vectors are not pulled to zero (GPT-1 code)."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    first, second = config.betas
    return AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(first, second),
        eps=config.epsilon,
        fused=fused,
    )


def multiplier(done: float, config: OptimizerConfig) -> float:
    """Learning rate as a share of the highest: linear warm-up, then a cosine or a line to ``config.final``.

    :param done: Share of the budget that is spent when the step is over, 0 < done <= 1. Counted at the end of the
        step, the first step of a warm-up is already above 0.
    """
    if done < config.warmup:
        return done / config.warmup
    if config.warmup >= 1:
        return 1.0
    fallen = min(1.0, (done - config.warmup) / (1 - config.warmup))
    left = 0.5 * (1 + math.cos(math.pi * fallen)) if config.decay == "cosine" else 1 - fallen
    return config.final + (1 - config.final) * left
