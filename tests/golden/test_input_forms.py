"""GPT-1's four input forms (figure 1) as text, in input_forms.txt: the sequences of one row of a shipped task each.

After a change that means to change them: ``MTL_GOLDEN=write pytest tests/golden/test_input_forms.py``, then read the
difference.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from mtl.config.compose import compose
from mtl.config.schema import FitConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.vocabulary import SPECIAL
from mtl.tasks.task import Example, Task
from mtl.testing.strategies import base_vocabulary

GOLDEN = Path(__file__).with_name("input_forms.txt")
ROWS = {
    "sst2": Example("train:0", ("a fine film with a dull end",), (), 1),
    "rte": Example(
        "train:0", ("The man saw a small boat near the harbour.", "He saw a boat."), (), 0
    ),
    "stsb": Example("train:0", ("The man saw a boat.", "A boat was seen."), (), 3.8),
    "copa": Example(
        "train:0",
        ("The road was wet.", "What was the cause?"),
        (),
        1,
        choices=("The dog barked.", "It rained."),
    ),
}
FORMS = {
    "sst2": "classification",
    "rte": "entailment",
    "stsb": "similarity",
    "copa": "multiple choice",
}


def written(vocabulary, tokens):
    """Token ids as text; special tokens by name, with blanks around them."""
    names = {vocabulary.special(name): name for name in SPECIAL}
    parts, run = [], []
    for token in [*tokens, None]:
        if token is not None and token not in names:
            run.append(token)
            continue
        if run:
            text = vocabulary.decode(run)
            assert vocabulary.encode(text) == run
            parts.append(text)
            run = []
        if token is not None:
            parts.append(names[token])
    return " ".join(parts)


def forms(purpose):
    """Each form, then its sequences, one a line."""
    vocabulary, lines = base_vocabulary(), []
    strategy = load_strategy_class("pretrain_finetune")()
    tasks = compose("fit", FitConfig, [f"tasks=[{','.join(ROWS)}]"]).task
    for name, example in ROWS.items():
        (one,) = strategy.encode(example, Task.without_rows(tasks[name]), vocabulary, 128, purpose)
        assert (one.target, one.cut) == (pytest.approx(example.target), 0)
        tails = np.split(one.tokens[one.prefix :], np.cumsum(one.branches)[:-1].astype(int))
        lines.append(f"{FORMS[name]} ({name})")
        lines += [f"  {written(vocabulary, [*one.tokens[: one.prefix], *tail])}" for tail in tails]
    return lines


@pytest.mark.parametrize("purpose", ["train", "answer"])
def test_input_forms(purpose):
    if os.environ.get("MTL_GOLDEN") == "write":
        GOLDEN.write_text("\n".join(forms(purpose)) + "\n")
    assert forms(purpose) == GOLDEN.read_text().splitlines()
