"""The gradient of every task from one forward and one backward pass over rows of all of them.

In packed rows a token sees tokens of its own example alone, so the gradient of each state is of one task: that of its
token. Only the gradient of a weight adds up tokens of all tasks: of a linear layer it is G' X, (outputs, N) times (N,
inputs) over N tokens. Here each task's tokens are multiplied by themselves, G_k' X_k, straight into the task's row.
That is as many operations as for the sum, where a backward pass for each task calls every operator K times, and
differentiating one graph K times costs up to K times as much.

Legend: K tasks, N states, R rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from mtl.data.batch import Batch
from mtl.decoder.gathering import rows_at
from mtl.decoder.gpt import Decoder
from mtl.learning.balance.rows import Rows, shared_parameters
from mtl.learning.readout import token_examples
from mtl.learning.strategy import Strategy


def can_pass_once(strategy: Strategy) -> bool:
    """Whether the gradients of a strategy's tasks may come from one pass: all that they share is in one transformer.

    :param strategy: Built, its blocks not compiled.
    """
    if strategy.apart or type(strategy.decoder) is not Decoder:
        return False
    known = {id(parameter) for parameter in strategy.decoder.parameters()}
    return all(id(parameter) in known for parameter in shared_parameters(strategy))


def shares_rows(batch: Batch) -> bool:
    """Whether examples of a batch, which may be of several tasks, read the same tokens."""
    return len(batch.branch_ends.unique()) < len(batch.branch_ends)


class OnePass:
    """Inside, what a decoder computes of a batch notes the gradients of its weights task by task when it is
    differentiated, and leaves none to autograd.

    Followed are the states inside the decoder, and those it returns into its logits. If a shared weight is used for
    others, ``missed`` is True, and nothing of the pass may be differentiated.

    :param rows: Take the gradients.
    :param batch: No row of it is shared by tasks (:func:`shares_rows`).
    :param watch: Find uses of shared weights outside the decoder too, which make ``outside`` True. Every operator then
        goes through Python, which is a twentieth of a small step.
    """

    def __init__(self, rows: Rows, decoder: Decoder, batch: Batch, *, watch: bool):
        self.missed = self.outside = False
        self._rows = rows
        self._decoder = decoder
        self._tokens = batch.tokens
        self._places = {id(parameter): index for index, parameter in enumerate(rows.shared)}
        self._all = _Tasks(batch.task[token_examples(batch)])
        self._watch = watch
        self._mode = _Operators(self)
        self._inside = self._reads_out = False
        self._chosen: _Tasks | None = None
        self._states: Tensor | None = None

    def __enter__(self) -> OnePass:
        self._hooks = [
            self._decoder.register_forward_pre_hook(self._begin, with_kwargs=True),
            self._decoder.register_forward_hook(self._end, always_call=True),
        ]
        self._decoder.logits = self._logits  # type: ignore[method-assign]
        if self._watch:
            self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        if self._watch:
            self._mode.__exit__(*error)  # type: ignore[no-untyped-call]
        del self._decoder.logits
        for hook in self._hooks:
            hook.remove()

    def call(self, operator: Callable[..., Any], args: Any, named: dict[str, Any]) -> Any:
        """What an operator returns, its weight's gradients noted if it has one."""
        noted = _NOTED.get(operator)
        if noted is not None and (found := noted(self, *args, **named)) is not None:
            return found
        found = operator(*args, **named)
        if any(id(one) in self._places for one in (*args, *named.values())):
            results = found if isinstance(found, tuple) else (found,)
            if any(isinstance(one, Tensor) and one.requires_grad for one in results):
                self.missed = True
                self.outside |= not (self._inside or self._reads_out)
        return found

    def _begin(self, decoder: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._inside = bool(args) and args[0] is self._tokens
        only = named.get("only")
        known = self._inside and only is not None
        self._chosen = _Tasks(self._all.tasks[only]) if known else None
        if not self._watch:
            self._mode.__enter__()  # type: ignore[no-untyped-call]

    def _end(self, decoder: Any, args: tuple[Any, ...], output: Tensor | None) -> None:
        if not self._watch:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        self._states = output if self._inside else None
        self._inside = False

    def _logits(self, hidden: Tensor) -> Tensor:
        self._reads_out = True
        found: Tensor = self.call(F.linear, (hidden, self._decoder.token_embedding.weight), {})
        self._reads_out = False
        return found

    def _tasks_of(self, x: Tensor) -> _Tasks | None:
        """The tasks of (R, T, D) or, of the tokens chosen, (P, D); None where they are not known."""
        if not self._inside and x is not self._states:
            return None
        return self._all if x.dim() == 3 else self._chosen

    def _note(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> _Note | None:
        """None where it is no shared weight, or not known whose states it reads."""
        place, tasks = self._places.get(id(weight)), self._tasks_of(x)
        of_bias = None if bias is None else self._places.get(id(bias))
        if place is None or tasks is None or (bias is not None and of_bias is None):
            return None
        return _Note(self._rows, tasks, place, of_bias)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        note, kind = self._note(x, weight, bias), x.device.type
        if note is None:
            return None
        lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        found: Tensor = _Linear.apply(x, weight, bias, lower, note)  # type: ignore[no-untyped-call]
        return found

    def _layer_norm(
        self, x: Tensor, shape: Any, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor | None:
        note = self._note(x, weight, bias)
        if note is None or x.dtype != weight.dtype:
            return None
        found: Tensor = _LayerNorm.apply(x, weight, bias, eps, note)  # type: ignore[no-untyped-call]
        return found

    def _embedding(self, tokens: Tensor, weight: Tensor, **settings: Any) -> Tensor | None:
        place = self._places.get(id(weight))
        if place is None or not self._inside or tokens.shape != self._tokens.shape:
            return None
        note = _Note(self._rows, self._all, place, None)
        found: Tensor = _Embedding.apply(tokens, weight, note)  # type: ignore[no-untyped-call]
        return found


class _Operators(TorchFunctionMode):
    """Brings every operator that is called inside to :meth:`OnePass.call`."""

    def __init__(self, one_pass: OnePass):
        super().__init__()
        self._one_pass = one_pass

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self._one_pass.call(func, args, kwargs or {})


_NOTED: dict[Any, Callable[..., Tensor | None]] = {
    F.linear: OnePass._linear,
    F.layer_norm: OnePass._layer_norm,
    F.embedding: OnePass._embedding,
}


class _Tasks:
    """The task of each of N states, and the states of each task.

    :param tasks: (N,) int64.
    """

    def __init__(self, tasks: Tensor):
        self.tasks = tasks
        counts: list[int] = tasks.bincount().tolist()
        order = tasks.argsort(stable=True).split(counts)
        self._places = [(task, places) for task, places in enumerate(order) if counts[task]]

    def split(self, *states: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
        """Each task with its states of each of these tensors (N, ...)."""
        for task, places in self._places:
            yield task, [rows_at(one, places) for one in states]


@dataclass(frozen=True)
class _Note:
    """Where the gradients of a weight and its bias go."""

    rows: Rows
    tasks: _Tasks
    weight: int
    """Its place among the shared parameters."""
    bias: int | None
    """None where there is none."""


class _Linear(torch.autograd.Function):
    """:func:`torch.nn.functional.linear`, in ``lower`` precision where autocast would have it so."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lower: torch.dtype | None,
        note: _Note,
    ) -> Tensor:
        ctx.note, ctx.dtype = note, x.dtype
        if lower is not None:
            x, weight = x.to(lower), weight.to(lower)
            bias = None if bias is None else bias.to(lower)
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        x, weight = ctx.saved_tensors
        note: _Note = ctx.note
        gradient = gradient.reshape(-1, gradient.shape[-1])
        for task, (own, read) in note.tasks.split(gradient, x.reshape(-1, x.shape[-1])):
            note.rows.add_product(task, note.weight, own.T, read)
            if note.bias is not None:
                note.rows.add_to(task, note.bias, own.sum(0))
        below = None
        if ctx.needs_input_grad[0]:
            below = (gradient @ weight).view(x.shape).to(ctx.dtype)
        return below, None, None, None, None


class _LayerNorm(torch.autograd.Function):
    """:func:`torch.nn.functional.layer_norm` over the last dimension."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, note: _Note
    ) -> Tensor:
        ctx.note = note
        found, mean, scale = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, mean, scale, weight, bias)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, mean, scale, weight, bias = ctx.saved_tensors
        note: _Note = ctx.note
        backward = torch.ops.aten.native_layer_norm_backward
        shape = weight.shape
        below, _, _ = backward(gradient, x, shape, mean, scale, weight, bias, [True, False, False])
        flat = (one.reshape(-1, one.shape[-1]) for one in (gradient, x, mean, scale))
        for task, parts in note.tasks.split(*flat):
            own, read, own_mean, own_scale = parts
            _, of_weight, of_bias = backward(
                own, read, shape, own_mean, own_scale, weight, bias, [False, True, True]
            )
            note.rows.add_to(task, note.weight, of_weight)
            if note.bias is not None:
                note.rows.add_to(task, note.bias, of_bias)
        return below, None, None, None, None


class _Embedding(torch.autograd.Function):
    """:func:`torch.nn.functional.embedding`."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, note: _Note) -> Tensor:
        ctx.note = note
        ctx.save_for_backward(tokens)
        return F.embedding(tokens, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        (tokens,) = ctx.saved_tensors
        note: _Note = ctx.note
        flat = (tokens.reshape(-1), gradient.reshape(-1, gradient.shape[-1]))
        for task, (own, vectors) in note.tasks.split(*flat):
            note.rows.add_vectors(task, note.weight, own, vectors)
        return None, None, None
