"""What training refuses before it begins."""

import pytest

from mtl.config.errors import UserError
from mtl.config.schema import TrainerConfig
from mtl.config.strategies import load_strategy_class
from mtl.learning.training import check_sharding


def test_a_strategy_that_moves_whole_parameters_is_not_sharded():
    towers, heads = (load_strategy_class(name)() for name in ("soft_sharing", "hard_sharing"))
    sharded = TrainerConfig(name="fsdp", strategy="fsdp")
    check_sharding(sharded, heads)
    check_sharding(TrainerConfig(name="ddp", strategy="ddp"), towers)
    with pytest.raises(UserError, match="moves whole parameters after each step") as caught:
        check_sharding(sharded, towers)
    assert caught.value.where == "trainer=fsdp"
    assert caught.value.hints == ("trainer=ddp",)
