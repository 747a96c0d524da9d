"""Soft parameter sharing: a tower (a whole decoder) and a head for each task, held together without being one.

All towers start from the weights the run starts from, and learn from their own task's rows. What holds them together:

- ``l2``: lambda * sum over layers l of w_l * sum_{s<t} ||theta_s - theta_t||^2 (Duong et al., "Low Resource Dependency
  Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser", ACL 2015).
- ``trace_norm``: lambda * sum over layers l of w_l * ||[theta_1; ...; theta_K]||_*, the nuclear norm of each
  parameter's K copies as the rows of a matrix: towers are drawn into a common subspace (Yang and Hospedales, "Trace
  Norm Regularised Deep Multi-Task Learning", 1606.04038, last-axis flattening).
- ``cross_stitch``: after each block, tower s reads sum_t alpha_st x_t in place of its own activations x_s, with alpha
  learned; towers run in lockstep on the same tokens (Misra et al., "Cross-stitch Networks for Multi-task Learning",
  CVPR 2016, section 3). Here alpha is one number per block and pair of towers.

The penalties are no summand of the loss. Adam divides a gradient by its own size, so a large penalty inside it would
not pull towers together but drown their tasks: every step would be of the penalty alone, and still no larger than the
learning rate. As AdamW takes weight decay out of the adaptive step, each penalty's step is taken after the optimizer's,
and exactly: the proximal step argmin_x ||x - theta||^2 / (2 * learning rate) + penalty(x). For ``l2`` that is
theta_t <- mean + (theta_t - mean) / (1 + 2 * learning rate * lambda * w_l * K), for ``trace_norm`` soft-thresholding of
the singular values by learning rate * lambda * w_l.

Limits: strength 0 is a model per task, trained apart; ``l2`` with strength inf is hard sharing, one model moved by
the mean of the tasks' optimizer steps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mtl.config.errors import UserError
from mtl.data.batch import Batch
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.headed import HeadedStrategy
from mtl.learning.heads import Heads
from mtl.learning.seeding import reseed
from mtl.learning.towers import (
    Stitched,
    approach_mean,
    corresponding,
    initial_stitches,
    number_layers,
    shrink_singular_values,
)
from mtl.tasks.task import Answer, Task


class SoftSharing(HeadedStrategy):
    """Soft sharing: a decoder and a head per task, pulled or stitched together; every task in every step.

    :param sharing: ``l2``: towers are pulled to their mean. ``trace_norm``: to a common subspace. ``cross_stitch``:
        towers read each other's activations.
    :param strength: 0: towers apart. ``l2``, ``trace_norm``: lambda, 0 or more; ``l2`` takes inf, which makes the
        towers one. ``cross_stitch``: the share of the other towers in what a tower reads at first, 0 to 1.
    :param layer_weights: Factors of lambda, one per block; empty: all 1. What lies outside the blocks has 1.
    """

    composition = "every_task"
    apart = True
    reduction = "task_example_sum"

    def __init__(
        self,
        *,
        sharing: Literal["l2", "cross_stitch", "trace_norm"] = "l2",
        strength: float = 0.1,
        layer_weights: Sequence[float] = (),
    ):
        super().__init__()
        self.sharing = sharing
        self.strength = strength
        self.layer_weights = tuple(layer_weights)
        self.alpha: nn.Parameter | None = None
        self._check()

    def build(
        self, decoder: Decoder, tasks: Sequence[Task], vocabulary: Vocabulary, *, seed: int = 0
    ) -> None:
        """:raises UserError: Another number of layer weights than blocks; stitches in an LSTM."""
        self._check_decoder(decoder)
        self.tasks = tuple(tasks)
        self.vocabulary = vocabulary
        self.towers = nn.ModuleDict({task.name: copy.deepcopy(decoder) for task in tasks})
        self.heads = Heads(tasks, decoder, seed)
        if self.sharing == "cross_stitch" and self.strength > 0 and len(self.tasks) > 1:
            number_layers(self._towers())
            self.alpha = initial_stitches(decoder.config.layers, len(self.tasks), self.strength)

    @property
    def decoder(self) -> Decoder:  # type: ignore[override]  # what is asked of it is the same for all of them
        """The decoder of the first task."""
        return self.decoder_of(self.tasks[0])

    def decoder_of(self, task: Task) -> Decoder:
        """The task's tower, with the stitches to the others where there are any."""
        index = list(self.towers).index(task.name)
        if self.alpha is None:
            return self._towers()[index]
        return Stitched(self._towers(), self.alpha, index)

    def decoders(self) -> Mapping[str, Decoder]:
        return {task.name: self.decoder_of(task) for task in self.tasks}

    def losses(self, batch: Batch) -> Tensor:
        losses = torch.zeros(len(batch.task), device=batch.task.device)
        for index in batch.task.unique().tolist():
            if self.training:
                # Each tower draws its dropout from the step's start, as it would if its task were the only one.
                reseed(torch.initial_seed(), batch.task.device)
            own = self.heads.losses(self.decoder_of(self.tasks[index]), batch)
            losses = torch.where(batch.task == index, own, losses)
        return losses

    def answers(self, batch: Batch, task: Task) -> list[Answer]:
        return self.heads.answers(self.decoder_of(task), batch, task, self.vocabulary)

    def own_parameters(self, task: Task) -> Iterable[nn.Parameter]:
        """The head; and the tower, unless stitches let it serve all."""
        tower = [] if self.alpha is not None else self.towers[task.name].parameters()
        return [*tower, *self.heads.parameters_of(task)]

    def clipping_groups(self) -> list[list[nn.Parameter]] | None:
        """Towers that are apart are clipped apart; stitched ones are one model."""
        if self.alpha is not None:
            return None
        # In the optimizer's order, matrices first: a norm summed in another order differs in its last bit.
        return [
            sorted(self.own_parameters(task), key=lambda parameter: parameter.dim() < 2)
            for task in self.tasks
        ]

    def after_step(self, learning_rate: float) -> None:
        """The exact step of the penalty (see the module)."""
        if self.strength == 0 or self.sharing == "cross_stitch" or len(self.tasks) < 2:
            return
        weighted = [
            (weight, same)
            for weight, same in corresponding(self._towers(), self.layer_weights)
            if weight > 0
        ]
        if self.sharing == "trace_norm":
            thresholds = [learning_rate * self.strength * weight for weight, _ in weighted]
            shrink_singular_values([same for _, same in weighted], thresholds)
            return
        for weight, same in weighted:
            pull = 2 * self.strength * weight * len(same)
            kept = 0.0 if math.isinf(pull) else 1 / (1 + learning_rate * pull)
            approach_mean(same, kept)

    def _towers(self) -> list[Decoder]:
        return [cast("Decoder", tower) for tower in self.towers.values()]

    def _check(self) -> None:
        where = f"strategy.sharing={self.sharing} strategy.strength={self.strength:g}"
        if not self.strength >= 0:
            raise UserError("the strength of sharing is 0 or more", where=where)
        if self.sharing == "cross_stitch":
            if self.strength > 1:
                raise UserError(
                    "the strength of cross_stitch is the share of the other towers, at most 1",
                    where=where,
                    hints=["strategy.strength=0.1 begins with 0.9 of the own tower"],
                )
            if self.layer_weights:
                raise UserError(
                    "layer weights are factors of a penalty, and cross_stitch has none",
                    where=f"strategy.layer_weights={list(self.layer_weights)}",
                    hints=["leave them out, or take strategy.sharing=l2 or trace_norm"],
                )
        if self.sharing == "trace_norm" and math.isinf(self.strength):
            raise UserError(
                "the strength of trace_norm is finite: at infinity every weight is 0",
                where=where,
                hints=["towers that are one: strategy.sharing=l2 strategy.strength=inf"],
            )
        if not all(0 <= weight < math.inf for weight in self.layer_weights):
            raise UserError(
                "layer weights are finite numbers, 0 or more",
                where=f"strategy.layer_weights={list(self.layer_weights)}",
            )

    def _check_decoder(self, decoder: Decoder) -> None:
        layers = decoder.config.layers
        if self.layer_weights and len(self.layer_weights) != layers:
            raise UserError(
                f"there is one layer weight for each of {layers} blocks, found {len(self.layer_weights)}",
                where=f"strategy.layer_weights={list(self.layer_weights)}",
                hints=[f"give one for each block of decoder={decoder.config.name}, or none at all"],
            )
        if self.sharing == "cross_stitch" and decoder.config.trunk != "transformer":
            raise UserError(
                "cross_stitch joins the blocks of transformers",
                where=f"decoder.trunk={decoder.config.trunk}",
                hints=["take strategy.sharing=l2 or trace_norm, or decoder.trunk=transformer"],
            )
