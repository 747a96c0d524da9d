"""One training step as each side takes it: ours, and the peers as they come.

A step is forward, backward, AdamW and ``loss.item()``; no clipping, no dropout. All sides start from the weights of one
GPT-2 folder and read the same tokens; their losses are the mean over all tokens but the first of each row.

Legend: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from _turns import Load, Work
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import AdamW

from mtl.config.schema import OptimizerConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch, collate
from mtl.data.encoding import Encoded
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.huggingface import load_pretrained, pretrained_config
from mtl.learning.reduction import token_mean
from mtl.learning.schedule import adamw

OPTIMIZER = OptimizerConfig(learning_rate=1e-3)
BATCHES = 4
"""Different batches; after the last the first comes again."""
PEAK_SIZE = 2048
"""Rows and columns of the matrices whose product shows what the machine can do."""


@dataclass(frozen=True)
class Setting:
    """What all sides of a comparison have in common."""

    folder: str
    """GPT-2 folder with the initial weights."""
    rows: int
    """B."""
    tokens: int
    """T."""
    bf16: bool
    """Whether matrix products are computed in bf16 (autocast)."""
    device: str = "cpu"
    """Where it happens, as torch calls it."""


@dataclass
class Training:
    """A side, built."""

    model: nn.Module
    step: Work
    """One step on the next batch; returns its loss in nats per token."""


def token_rows(setting: Setting, vocabulary: int) -> list[Tensor]:
    """The batches, (B, T) each, of tokens at random."""
    generator = torch.Generator().manual_seed(0)
    shape = (setting.rows, setting.tokens)
    return [torch.randint(vocabulary, shape, generator=generator) for _ in range(BATCHES)]


def labelled_tokens(setting: Setting, share: float) -> np.ndarray:
    """(B, T) bool: which tokens are predicted; never the first of a row, before which nothing stands."""
    labelled = np.zeros((setting.rows, setting.tokens), dtype=np.bool_)
    if share == 1:
        labelled[:, 1:] = True
    else:
        places = setting.rows * (setting.tokens - 1)
        drawn = np.random.default_rng(0).permutation(places)[: round(share * places)]
        labelled[:, 1:].flat[drawn] = True
    return labelled


def ours(setting: Setting, *, share: float = 1.0) -> Training:
    """The zero-shot strategy's losses on packed batches, as ``mtl.fit`` trains it.

    :param share: Of the tokens that could be predicted, how many are.
    """
    decoder, size = load_pretrained(pretrained_config(setting.folder))
    strategy = load_strategy_class("zero_shot")()
    strategy.build(decoder, [], Vocabulary.train(["no text"], 300))
    strategy.to(setting.device).train()
    labelled = labelled_tokens(setting, share)
    batches = [_batch(rows, labelled).to(setting.device) for rows in token_rows(setting, size)]

    def loss(batch: Batch) -> Tensor:
        return (strategy.losses(batch).float() * batch.weight).sum()

    return _training(strategy, adamw(strategy, OPTIMIZER), loss, batches, setting)


def _batch(rows: Tensor, labelled: np.ndarray) -> Batch:
    encoded = [
        Encoded(tokens=tokens.astype(np.int32), labelled=marks)
        for tokens, marks in zip(rows.numpy(), labelled, strict=True)
    ]
    terms = np.array([one.terms for one in encoded])
    tasks = np.zeros(len(encoded), dtype=np.int64)
    return collate(encoded, tasks=tasks, rows=tasks, weights=token_mean(terms, tasks))


def load_ours() -> Callable[[Setting], Work]:
    """As ``mtl.fit`` trains."""
    from mtl.decoder.allocator import keep_freed_memory

    def build(setting: Setting) -> Work:
        keep_freed_memory()
        return ours(setting).step

    return build


def load_returning() -> Callable[[Setting], Work]:
    """Ours, where freed memory goes back to the system."""
    return lambda setting: ours(setting).step


def load_quarter() -> Callable[[Setting], Work]:
    """Ours, with labels at a quarter of the positions."""
    from mtl.decoder.allocator import keep_freed_memory

    def build(setting: Setting) -> Work:
        keep_freed_memory()
        return ours(setting, share=0.25).step

    return build


def plain(setting: Setting, *, gelu: str = "none") -> Training:
    """The plain PyTorch GPT-2 of :mod:`_plain_gpt`.

    :param gelu: ``tanh`` makes it compute what the others do.
    """
    from _plain_gpt import PlainGPT, Shape

    shape = pretrained_config(setting.folder)
    weights = load_file(f"{setting.folder}/model.safetensors")
    size = len(weights["transformer.wte.weight"])
    model = PlainGPT(Shape(shape.layers, shape.width, shape.heads, shape.context, size, gelu))
    model.take(weights)
    model.to(setting.device)
    rows_of_batches = [rows.to(setting.device) for rows in token_rows(setting, size)]
    batches = [(rows, _following(rows)) for rows in rows_of_batches]
    optimizer = AdamW(_groups(model.named_parameters()), **_ADAMW)
    return _training(model, optimizer, lambda pair: model(*pair), batches, setting)


def load_plain() -> Callable[[Setting], Work]:
    """Plain PyTorch."""
    return lambda setting: plain(setting).step


def hugging_face(setting: Setting, **changes: Any) -> Training:
    """transformers' GPT-2 with ``labels=`` and the fused AdamW, as its Trainer has it.

    :param changes: Of its configuration.
    """
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = GPT2LMHeadModel.from_pretrained(setting.folder, **changes)
    model.to(setting.device).train()
    batches = [rows.to(setting.device) for rows in token_rows(setting, model.config.vocab_size)]

    def loss(rows: Tensor) -> Tensor:
        found: Tensor = model(input_ids=rows, labels=rows).loss
        return found

    optimizer = AdamW(_groups(model.named_parameters()), **_ADAMW, fused=True)
    return _training(model, optimizer, loss, batches, setting)


def load_hugging_face() -> Callable[[Setting], Work]:
    """transformers as it comes."""
    importlib.import_module("transformers.models.gpt2.modeling_gpt2")
    return lambda setting: hugging_face(setting).step


def load_hugging_face_one_kernel() -> Callable[[Setting], Work]:
    """transformers, told to compute GELU in one kernel."""
    importlib.import_module("transformers.models.gpt2.modeling_gpt2")
    return lambda setting: hugging_face(setting, activation_function="gelu_pytorch_tanh").step


def litgpt(setting: Setting) -> Training:
    """litgpt's GPT of the same size: it has no GPT-2 form, so its positions are rotary and its head is not tied."""
    from litgpt import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    shape = pretrained_config(setting.folder)
    size = len(load_file(f"{setting.folder}/model.safetensors")["transformer.wte.weight"])
    config = Config(
        block_size=shape.context,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
        vocab_size=size,
        padded_vocab_size=size,
        parallel_residual=False,
        gelu_approximate="tanh",
    )
    model = GPT(config)
    batches = [(rows, _following(rows)) for rows in token_rows(setting, size)]

    def loss(pair: tuple[Tensor, Tensor]) -> Tensor:
        rows, targets = pair
        found: Tensor = chunked_cross_entropy(model(rows), targets, chunk_size=0, ignore_index=-1)
        return found

    optimizer = AdamW(model.parameters(), **_ADAMW)
    return _training(model, optimizer, loss, batches, setting)


def load_litgpt() -> Callable[[Setting], Work]:
    """litgpt."""
    importlib.import_module("litgpt")
    return lambda setting: litgpt(setting).step


def load_peak() -> Callable[[Setting], Work]:
    """The product of two big matrices: what comes of it is the floating-point operations."""

    def build(setting: Setting) -> Work:
        dtype = torch.bfloat16 if setting.bf16 else torch.float32
        first, second = (torch.randn(PEAK_SIZE, PEAK_SIZE).to(dtype) for _ in range(2))

        def multiply() -> float:
            torch.mm(first, second)
            return 2.0 * PEAK_SIZE**3

        return multiply

    return build


SIDES: dict[str, Load] = {
    "mtl": load_ours,
    "mtl_returning_memory": load_returning,
    "mtl_quarter_labels": load_quarter,
    "plain": load_plain,
    "transformers": load_hugging_face,
    "transformers_one_kernel_gelu": load_hugging_face_one_kernel,
    "litgpt": load_litgpt,
}

_ADAMW: dict[str, Any] = {
    "lr": OPTIMIZER.learning_rate,
    "betas": tuple(OPTIMIZER.betas),
    "eps": OPTIMIZER.epsilon,
}


def _groups(parameters: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    """Decay on matrices alone, as all three have it."""
    every = [parameter for _, parameter in parameters]
    return [
        {"params": [p for p in every if p.dim() >= 2], "weight_decay": OPTIMIZER.weight_decay},
        {"params": [p for p in every if p.dim() < 2], "weight_decay": 0.0},
    ]


def _following(rows: Tensor) -> Tensor:
    """(B, T) the token after each; -1 after the last."""
    return torch.cat([rows[:, 1:], torch.full_like(rows[:, :1], -1)], 1)


def _training(
    model: nn.Module,
    optimizer: AdamW,
    loss_of: Callable[[Any], Tensor],
    batches: Sequence[Any],
    setting: Setting,
) -> Training:
    following = cycle(batches)

    def precision() -> AbstractContextManager[Any]:
        return (
            torch.autocast(setting.device, dtype=torch.bfloat16) if setting.bf16 else nullcontext()
        )

    def step() -> float:
        with precision():
            loss = loss_of(next(following))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    return Training(model, step)
