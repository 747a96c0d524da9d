"""The task files and the demonstrations in running text word a row alike."""

from __future__ import annotations

from functools import cache

import pytest

from mtl.config.compose import compose
from mtl.config.schema import DataConfig, TaskConfig
from mtl.config.verb_schema import EvaluateConfig
from mtl.tasks.loading import load_task
from mtl.tasks.microworld import TASKS, rows


@cache
def config(name: str) -> TaskConfig:
    task = f"microworld_{name}"
    return compose("evaluate", EvaluateConfig, ["hf=none", f"tasks=[{task}]"]).task[task]


@pytest.mark.parametrize("name", TASKS)
def test_prompt_and_answer_read_like_a_demonstration(name: str) -> None:
    task = load_task(config(name), DataConfig(), seed=0)
    assert task.train is not None
    assert task.selection is not None
    for split, examples in (("train", task.train.examples), ("test", task.report.examples)):
        for row, example in zip(rows(name, split), examples, strict=True):
            prompt, answer = TASKS[name].demonstrate(row)
            assert "".join(example.prompt) == prompt
            if task.is_open:
                assert example.references == (answer[1:],)
            elif task.kind == "regression":
                assert answer in example.answers
                assert float(answer) == example.target
            else:
                assert example.answers[example.target] == answer


@pytest.mark.parametrize("name", TASKS)
def test_label_words_do_not_occur_in_the_rows(name: str) -> None:
    answers = {answer.strip() for answer in config(name).answers}
    for row in rows(name, "test"):
        text = " ".join(str(value) for value in row.values())
        assert not answers & set(text.lower().replace(".", "").split())
