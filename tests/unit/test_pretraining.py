"""When a pretrained decoder is taken from the cache: only where it would come out the same."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from types import SimpleNamespace
from typing import Any

import pytest

from mtl.config.compose import compose
from mtl.config.schema import FitConfig
from mtl.pretraining import trunk_key


@pytest.fixture(scope="module")
def config() -> FitConfig:
    return compose("fit", FitConfig, ["trainer=cpu", "trainer.threads=1"])


def changed(one: Any, path: list[str], value: Any) -> Any:
    inner = value if len(path) == 1 else changed(getattr(one, path[0]), path[1:], value)
    return replace(one, **{path[0]: inner})


def key(
    config: FitConfig, *, base: str = "base", corpus: str = "corpus", tokens: int = 1000
) -> str:
    start: Any = SimpleNamespace(
        decoder=SimpleNamespace(config=config.decoder), base=SimpleNamespace(fingerprint=base)
    )
    return trunk_key(config, start, corpus, tokens)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("decoder.layers", 3),
        ("decoder.dropout", 0.1),
        ("optimizer.learning_rate", 1e-3),
        ("optimizer.clip", None),
        ("batch.tokens", 1024),
        ("batch.accumulate", 2),
        ("trainer.precision", "bf16"),
        ("trainer.accelerator", "gpu"),
        ("trainer.devices", 2),
        ("trainer.threads", 2),
    ],
)
def test_what_decides_the_weights_decides_the_key(
    config: FitConfig, name: str, value: object
) -> None:
    assert key(changed(config, name.split("."), value)) != key(config)


def test_text_vocabulary_and_length_decide_the_key(config: FitConfig) -> None:
    others = [key(config, base="other"), key(config, corpus="other"), key(config, tokens=2000)]
    assert len({key(config), *others}) == 4


def test_what_comes_after_does_not(config: FitConfig) -> None:
    after = {"strategy": {"name": "mt_dnn"}, "budget.tokens": 5, "balance.name": "pcgrad"}
    other = reduce(
        lambda one, item: changed(one, item[0].split("."), item[1]), after.items(), config
    )
    assert key(other) == key(config)
