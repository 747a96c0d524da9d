"""The mixture and tokenizer files are the dataclasses they fill."""

from pathlib import Path

import pytest
import yaml

from mtl.config.schema import MixtureConfig, TokenizerConfig
from mtl.data.mixture import rates

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.mark.parametrize("name", ["proportional", "capped", "equal", "temperature", "explicit"])
def test_mixtures(name: str) -> None:
    written = yaml.safe_load((CONFIGS / "mixture" / f"{name}.yaml").read_text())
    config = MixtureConfig(**{"rates": {"a": 1, "b": 3}, **written})
    expected = {
        "proportional": 0.9,
        "capped": 0.9,
        "equal": 0.5,
        "temperature": 0.75,
        "explicit": 0.25,
    }
    assert config.name == name
    assert rates({"a": 90, "b": 10}, config)["a"] == pytest.approx(expected[name])


def test_the_shipped_cap_is_t5s() -> None:
    config = MixtureConfig(**yaml.safe_load((CONFIGS / "mixture" / "capped.yaml").read_text()))
    assert rates({"a": 3 * 2**16, "b": 2**16}, config) == {"a": 0.5, "b": 0.5}


def test_tokenizers() -> None:
    files = sorted((CONFIGS / "tokenizer").glob("*.yaml"))
    configs = {f.stem: TokenizerConfig(**yaml.safe_load(f.read_text())) for f in files}
    assert {config.kind for config in configs.values()} == {"byte_bpe", "folder"}
    assert all(config.name == stem for stem, config in configs.items())
