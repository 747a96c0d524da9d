"""Every task file, on its real rows."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from mtl.config.schema import DataConfig
from mtl.tasks.loading import load_task
from mtl.tasks.reading import Reader
from mtl.tasks.task import Task

from .conftest import names, read_suite_file, read_task_file

METRICS = {
    *("accuracy", "matthews", "f1", "macro_f1", "pearson", "spearman", "exact_match", "token_f1"),
    *("bleu", "rouge_1", "rouge_2", "rouge_l", "bits_per_byte", "perplexity_per_word"),
    *("perplexity_per_token", "greedy_accuracy", "perplexity_per_answer"),
}
HUB_ONLY = {"cbt_common_nouns", "cbt_named_entities", "coqa", "natural_questions"}
"""No file of the data folder has their rows; tests/integration/test_protocols.py makes some up."""
TASKS = [
    name for name in names("task") if not name.startswith("microworld_") and name not in HUB_ONLY
]
EVALUATION_ONLY = {
    *("wsc273", "wsc273_partial", "wikitext2", "wikitext2_detokenised"),
    *("lambada", "lambada_last_token", "lambada_without_stop_words"),
}


@cache
def load(name: str, root: Path) -> Task:
    return load_task(read_task_file(name), DataConfig(root=str(root)), seed=0)


@pytest.mark.parametrize("name", TASKS)
def test_task_file(name, data_root):
    task = load(name, data_root)
    config = task.config
    assert config.name == name
    assert config.description
    assert config.metrics
    assert set(config.metrics) <= METRICS
    assert task.report.name == config.source.report
    splits = [split for split in (task.train, task.selection, task.report) if split is not None]
    assert len(splits) == (1 if name in EVALUATION_ONLY else 3)
    rows = [example.row for split in splits for example in split.examples]
    assert len(rows) == len(set(rows))
    if config.source.validation is None:
        assert all(
            not row.startswith(f"{config.source.report}:")
            for row in rows[: -len(task.report.examples)]
        )
    for split in splits:
        for example in split.examples:
            _check_example(task, example)
        if config.labels and split is not task.selection:
            # The 50 fine classes of TREC are not all in its 500 validation rows.
            missing = set(range(task.classes)) - {example.target for example in split.examples}
            assert not missing or (name == "trec_fine" and split is task.report)
    if config.kind == "multiple_choice":
        targets = [example.target for example in task.report.examples]
        share = max(targets.count(target) for target in set(targets)) / len(targets)
        assert len(set(targets)) > 1
        assert share < 0.7


def _check_example(task: Task, example) -> None:
    if task.kind == "language_modelling":
        assert (example.segments, example.prompt, example.answers) == ((), (), ())
        assert example.references[0].strip()
        return
    prompt = "".join(example.prompt)
    assert prompt
    assert prompt == prompt.rstrip()
    assert all(segment == segment.strip() for segment in example.segments)
    assert any(example.segments)
    if task.is_open:
        assert example.target is None
        assert example.answers == ()
        assert all(reference and reference == reference.strip() for reference in example.references)
        return
    assert all(
        answer.removeprefix(" ").strip() == answer.removeprefix(" ") for answer in example.answers
    )
    # What follows a given word may begin with a comma.
    assert all(text.startswith(" ") for text in example.given or example.answers)
    if task.kind == "regression":
        assert task.config.range[0] <= example.target <= task.config.range[1]
        assert len(example.answers) == 21
    else:
        assert 0 <= example.target < len(example.answers)
        assert isinstance(example.target, int)


def test_inputs_do_not_read_the_target():
    """The templates of a closed task's inputs name no column that its target names."""
    for name in TASKS:
        config = read_task_file(name)
        if config.kind in ("generation", "language_modelling"):
            continue
        reader = Reader(config)
        inputs = {
            column
            for template in (*reader._segments, *reader._prompt)
            for column in template.columns
        }
        assert not inputs & reader._target.columns, name


def test_labels_have_the_order_of_the_data(data_root):
    """The class index a row carries means what the data's own description says."""
    files = json.loads((data_root / "manifest.json").read_text(encoding="utf-8"))["files"]
    published = {
        (file["dataset"], column): list(labels)
        for file in files
        if isinstance(file.get("label_names"), dict)
        for column, labels in file["label_names"].items()
    }
    checked = 0
    for name in TASKS:
        config = read_task_file(name)
        column = config.target.strip("{} ")
        labels = published.get((config.source.folder, column))
        if config.labels and labels:
            assert config.labels == labels, name
            checked += 1
    assert checked >= 15


@pytest.mark.parametrize("name", names("suite"))
def test_suites_name_tasks_that_are_there(name):
    suite = read_suite_file(name)
    assert suite.name == name
    assert suite.tasks
    assert set(suite.tasks) <= set(names("task"))
    assert len(suite.tasks) == len(set(suite.tasks))
    assert not set(suite.tasks) & EVALUATION_ONLY


def test_no_suite_trains_twice_on_the_same_rows():
    for name in names("suite"):
        sources = [read_task_file(task).source for task in read_suite_file(name).tasks]
        places = [(source.folder, source.microworld) for source in sources]
        assert len(places) == len(set(places)), name


@pytest.mark.parametrize(
    ("name", "row", "prompt", "answer"),
    [
        ("copa", 4, "The hamburger meat browned because", " the cook grilled it."),
        (
            "wsc273",
            3,
            "The trophy doesn't fit into the brown suitcase because",
            " the suitcase is too small.",
        ),
        ("boolq", 3, None, " yes"),
    ],
)
def test_known_rows_as_text(name, row, prompt, answer, data_root):
    example = load(name, data_root).report.examples[row]
    if prompt is not None:
        assert "".join(example.prompt) == prompt
    assert example.answers[example.target] == answer
