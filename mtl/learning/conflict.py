"""How much the gradients of tasks on the shared parameters agree, beside two batches of one and the same task.

Two tasks conflict where their gradients point apart: cosine below 0 (Yu et al., "Gradient Surgery for Multi-Task
Learning", NeurIPS 2020, definition 1). But two batches of one task do not agree either, for every batch is a sample:
angles as wide appear where a single task is trained (Elich et al., "Challenging Common Paradigms in Multi-Task
Learning", 2023). So each task is measured on two disjoint batches, and the cosine between them is the null that a pair
of tasks is compared with.

Legend: K tasks, N batches (two of each task).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mtl.config.errors import UserError
from mtl.config.schema import FitConfig
from mtl.data.batch import Batch, collate
from mtl.data.cutting import cut
from mtl.data.store import EncodedSplit
from mtl.learning.reduction import reduction
from mtl.learning.strategy import Strategy

COLUMNS = 1 << 20
"""Entries of the gradients whose products are summed at once, in float64."""


@dataclass(frozen=True)
class Comparison:
    """Gradients of K tasks on some parameters, compared pair by pair.

    Nan stands where nothing is defined: the cosine with a gradient that is zero, the magnitude similarity of two
    gradients that are, the null of a task that has no second batch.
    """

    cosine: np.ndarray
    """(K, K) in -1 to 1: between tasks the mean over their four pairs of batches; on the diagonal the null, the
    cosine between the two batches of one task."""
    magnitude_similarity: np.ndarray
    """(K, K) in 0 to 1: ``2 |a| |b| / (|a|**2 + |b|**2)`` (PCGrad, definition 2), taken as the cosine is."""
    norm: np.ndarray
    """(K,) mean of the Euclidean norms of the two batches' gradients."""

    @classmethod
    def of(cls, products: np.ndarray, alone: Sequence[int] = ()) -> Comparison:
        """Compare gradients by their inner products.

        :param products: (2K, 2K) inner products; rows 2k and 2k + 1 are the two batches of task k.
        :param alone: Tasks whose second batch is the first one again.
        """
        squares = np.diag(products)
        lengths = np.sqrt(np.outer(squares, squares))
        sums = squares[:, None] + squares[None, :]
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = _by_task(np.clip(products / lengths, -1.0, 1.0), alone)
            similarity = _by_task(2 * lengths / sums, alone)
        return cls(cosine, similarity, np.sqrt(squares).reshape(-1, 2).mean(1))

    def means(self) -> dict[str, float]:
        """Means over the pairs of tasks and over the nulls, those that are not defined left out."""
        pairs = np.triu_indices(len(self.norm), 1)
        cosines, nulls = self.cosine[pairs], np.diag(self.cosine)
        cosine, null = _mean(cosines), _mean(nulls)
        return {
            "mean_cosine": cosine,
            "mean_same_task_cosine": null,
            "mean_cosine_minus_null": cosine - null,
            "mean_magnitude_similarity": _mean(self.magnitude_similarity[pairs]),
            "mean_same_task_magnitude_similarity": _mean(np.diag(self.magnitude_similarity)),
            "negative_share": _mean(np.where(np.isnan(cosines), np.nan, cosines < 0)),
        }


class Conflict:
    """Measures the conflict of a strategy's tasks, without leaving a trace in training.

    A gradient is that of a task's mean loss, as the strategy's reduction weighs its rows, with dropout off and in
    float32 whatever the trainer's precision. A parameter that a task does not reach has gradient zero. Two gradients
    of the shared parameters per task are held at a time.

    Each task is read in two disjoint batches, drawn by (seed, step, task). A task with fewer tokens than two batches
    ask for is halved; a task with a single row has no null.

    :param strategy: Built; it has shared parameters and at least two tasks, see :func:`check_conflict`.
    :param stores: Encoded training rows of each of its tasks.
    :param batch_tokens: Tokens of each batch at most, but for a single longer row.
    :param piece_tokens: Tokens that pass through the decoder at once.
    """

    def __init__(
        self,
        strategy: Strategy,
        stores: Sequence[EncodedSplit],
        *,
        batch_tokens: int,
        piece_tokens: int,
        seed: int,
    ):
        self._strategy = strategy
        self._stores = stores
        self._batch_tokens = batch_tokens
        self._piece_tokens = piece_tokens
        self._seed = seed
        self._weigh = reduction(strategy.reduction)
        self._alone = [k for k, store in enumerate(stores) if len(store) < 2]
        shared = shared_parameters(strategy)
        self.layers = tuple(dict.fromkeys(layer for layer, _ in shared))
        """Layers with shared parameters, from the input to the output."""
        self._layer_of = [self.layers.index(layer) for layer, _ in shared]
        self._parameters = [parameter for _, parameter in shared]

    @property
    def notes(self) -> list[str]:
        """What a reader of the measurements must know of the batches: one line for each task whose are small."""
        found = []
        for task, store in zip(self._strategy.tasks, self._stores, strict=True):
            if len(store) < 2:
                found.append(f"conflict: {task.name} has one row, so no same-task null")
            elif store.tokens_total < 2 * self._batch_tokens:
                found.append(
                    f"conflict: {task.name} has {store.tokens_total} tokens, so its two batches are halves of them"
                    f" rather than {self._batch_tokens} tokens each"
                )
        return found

    def measure(self, step: int) -> dict[str, float]:
        """Compare the tasks with the weights as they are; the same on every device.

        ``conflict/<a>/<b>/cosine``, ``.../magnitude_similarity``: a pair of tasks, all shared parameters.
        ``conflict/<a>/same_task_cosine``, ``.../same_task_magnitude_similarity``, ``.../gradient_norm``: a task.
        ``conflict/<mean>``: see :meth:`Comparison.means`.
        ``conflict/<layer>/<mean>``, ``conflict/<a>/<b>/<layer>/...``, ``conflict/<a>/<layer>/...``: of one layer.

        :param step: Number of finished steps; draws the batches.
        """
        products = self._products(
            [pair for k in range(len(self._stores)) for pair in self._draw(k, step)]
        )
        found = self._named(Comparison.of(products.sum(0), self._alone), "")
        for layer, of_layer in zip(self.layers, products, strict=True):
            found |= self._named(Comparison.of(of_layer, self._alone), f"{layer}/")
        return found

    def _named(self, compared: Comparison, layer: str) -> dict[str, float]:
        names = [task.name for task in self._strategy.tasks]
        found = {f"conflict/{layer}{name}": value for name, value in compared.means().items()}
        for k, task in enumerate(names):
            start = f"conflict/{task}/{layer}"
            found[f"{start}same_task_cosine"] = float(compared.cosine[k, k])
            found[f"{start}same_task_magnitude_similarity"] = float(
                compared.magnitude_similarity[k, k]
            )
            found[f"{start}gradient_norm"] = float(compared.norm[k])
        for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
            start = f"conflict/{one}/{other}/{layer}"
            found[f"{start}cosine"] = float(compared.cosine[i, j])
            found[f"{start}magnitude_similarity"] = float(compared.magnitude_similarity[i, j])
        return found

    def _draw(self, task: int, step: int) -> tuple[list[Batch], list[Batch]]:
        """Two disjoint batches of a task, each in pieces."""
        store, name = self._stores[task], self._strategy.tasks[task].name
        text = f"{self._seed}/conflict/{step}/{name}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        order = np.random.default_rng(seed).permutation(len(store))
        if len(order) < 2:
            return self._pieces(task, order), self._pieces(task, order)
        limit = min(self._batch_tokens, store.tokens_total // 2)
        ends = np.cumsum(store.lengths[order])
        first = min(max(1, int(np.searchsorted(ends, limit, "right"))), len(order) - 1)
        rest = int(np.searchsorted(ends - ends[first - 1], limit, "right"))
        return (
            self._pieces(task, order[:first]),
            self._pieces(task, order[first : max(first + 1, rest)]),
        )

    def _pieces(self, task: int, rows: np.ndarray) -> list[Batch]:
        """One batch, cut into what passes at once; the weights are those of the whole."""
        store = self._stores[task]
        tasks = np.full(len(rows), task)
        weights = self._weigh(store.terms[rows], tasks)
        bounds = cut(store.lengths[rows], self._piece_tokens)
        return [
            collate(
                [store[i] for i in rows[a:b].tolist()],
                tasks=tasks[a:b],
                rows=rows[a:b],
                weights=weights[a:b],
            )
            for a, b in itertools.pairwise(bounds.tolist())
        ]

    def _products(self, batches: Sequence[Sequence[Batch]]) -> np.ndarray:
        """(layers, N, N) inner products of the gradients of N batches."""
        with _undisturbed(self._strategy):
            gradients = [self._gradient(pieces) for pieces in batches]
        count = len(gradients)
        found = np.zeros((len(self.layers), count, count))
        for index, layer in enumerate(self._layer_of):
            flat = [gradient[index].flatten() for gradient in gradients]
            for begin in range(0, len(flat[0]), COLUMNS):
                part = torch.stack([values[begin : begin + COLUMNS] for values in flat])
                # Apple's GPUs have no float64.
                exact = (part.cpu() if part.device.type == "mps" else part).double()
                found[layer] += (exact @ exact.T).cpu().numpy()
        return found

    def _gradient(self, pieces: Sequence[Batch]) -> list[Tensor]:
        """Gradient of the batch's loss for each shared parameter."""
        total: list[Tensor] = []
        device = self._parameters[0].device
        for piece in pieces:
            batch = piece.to(device)
            loss = (self._strategy.losses(batch).float() * batch.weight).sum()
            found = torch.autograd.grad(
                loss, self._parameters, allow_unused=True, materialize_grads=True
            )
            if total:
                torch._foreach_add_(total, list(found))
            else:
                total = list(found)
        return total


def shared_parameters(strategy: Strategy) -> list[tuple[str, nn.Parameter]]:
    """Trained parameters that belong to no task alone, each with its layer: ``embeddings``, ``block_<i>``,
    ``final_norm``, or the name of the module that a strategy added."""
    own = {id(p) for task in strategy.tasks for p in strategy.own_parameters(task)}
    return [
        (_layer(name), parameter)
        for name, parameter in strategy.named_parameters()
        if parameter.requires_grad and id(parameter) not in own
    ]


def comparable(strategy: Strategy) -> bool:
    """Whether there are several tasks with parameters in common."""
    return len(strategy.tasks) > 1 and bool(shared_parameters(strategy))


def check_conflict(config: FitConfig, models: Sequence[Strategy]) -> None:
    """Whether ``diagnostics.conflict`` has something to measure in a run.

    :param models: What each training of the run trains, built.
    :raises UserError: it has not.
    """
    if not config.diagnostics.conflict:
        return
    name, off = config.strategy["name"], "diagnostics.conflict=false"
    if all(len(model.tasks) < 2 for model in models):
        raise UserError(
            f"strategy '{name}' trains no two tasks together here, and conflict is between the gradients of two",
            where=f"diagnostics.conflict=true tasks=[{', '.join(config.tasks)}]",
            hints=["give two tasks or more to a strategy that trains them together", off],
        )
    if not any(comparable(model) for model in models):
        raise UserError(
            f"strategy '{name}' shares no parameter between tasks, so no gradients can conflict",
            where="diagnostics.conflict=true",
            hints=["take a strategy with a shared decoder", off],
        )
    if config.trainer.strategy == "fsdp":
        raise UserError(
            "conflict is measured on whole parameters, and FSDP splits them over devices",
            where=f"diagnostics.conflict=true trainer={config.trainer.name}",
            hints=["trainer=ddp", off],
        )


def make_conflict(
    config: FitConfig, strategy: Strategy, stores: Sequence[EncodedSplit]
) -> Conflict | None:
    """What measures one training of a run; None where it is not asked for, or there is nothing to compare."""
    if not config.diagnostics.conflict or not comparable(strategy):
        return None
    return Conflict(
        strategy,
        stores,
        batch_tokens=config.diagnostics.batch_tokens,
        piece_tokens=config.batch.tokens,
        seed=config.seed,
    )


def _layer(name: str) -> str:
    parts = name.split(".")
    for part, following in itertools.pairwise(parts):
        if part == "blocks":
            return f"block_{following}"
        if part.endswith("_embedding"):
            return "embeddings"
        if part == "final_norm":
            return part
    return parts[1] if parts[0] == "decoder" else parts[0]


def _by_task(values: np.ndarray, alone: Sequence[int]) -> np.ndarray:
    """(2K, 2K) values of batches to (K, K) of tasks."""
    count = len(values) // 2
    batches = values.reshape(count, 2, count, 2)
    found = batches.mean((1, 3))
    tasks = np.arange(count)
    found[tasks, tasks] = batches[tasks, 0, tasks, 1]
    found[alone, alone] = np.nan
    return found


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients; each module's own mode and the random state come back."""
    modes: Mapping[nn.Module, bool] = {part: part.training for part in module.modules()}
    device = next(module.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        module.eval()
        try:
            yield
        finally:
            for part, training in modes.items():
                part.training = training
