"""Every strategy that is found passes the conformance suite; a new file is tested without being named here."""

from __future__ import annotations

import pytest

from mtl.config.strategies import find_strategies, load_strategy_class
from mtl.learning.strategy import Strategy
from mtl.testing.strategies import StrategyConformance


@pytest.mark.parametrize("name", sorted(find_strategies()))
class TestEveryStrategy(StrategyConformance):
    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name

    def strategy(self) -> Strategy:
        return load_strategy_class(self.name)()
