"""Running text: what it is made of, and that no label is read for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtl.config.errors import UserError
from mtl.config.schema import CorpusConfig, DataConfig, SourceConfig
from mtl.tasks.corpus import load_corpus
from mtl.tasks.loading import load_task

from .conftest import names, numbered, read_corpus_file, reviews

TASKS = CorpusConfig(name="tasks", kind="tasks")


def texts(split) -> list[str]:
    return [example.references[0] for example in split.examples]


def test_inputs_of_the_tasks_are_the_documents(write):
    data = write(train=numbered(30), validation=numbered(5))
    config = reviews(segments=["{{ text }}", "second"])
    task = load_task(config, data, seed=0)
    corpus = load_corpus(TASKS, [task], data, seed=0)
    for made, of in (
        (corpus.train, task.train),
        (corpus.selection, task.selection),
        (corpus.report, task.report),
    ):
        assert texts(made) == [f"{example.segments[0]}\nsecond" for example in of.examples]
    assert corpus.kind == "language_modelling"
    assert corpus.train.examples[0].row == f"reviews/{task.train.examples[0].row}"


def test_permuting_labels_and_candidates_changes_nothing(write):
    def corpus(change):
        rows = [{**row, "options": ["it", f"he {index}"]} for index, row in enumerate(numbered(40))]
        data = write(
            train=[change(row) for row in rows],
            validation=numbered(4) and [change(row) for row in rows[:4]],
        )
        choice = reviews(
            name="choice", kind="multiple_choice", choices="options", labels=[], answers=[]
        )
        tasks = [load_task(config, data, seed=0) for config in (reviews(), choice)]
        return load_corpus(TASKS, tasks, data, seed=0)

    plain = corpus(lambda row: row)
    flipped = corpus(
        lambda row: {**row, "label": 1 - row["label"], "options": row["options"][::-1]}
    )
    for purpose in ("train", "selection", "report"):
        assert getattr(plain, purpose).fingerprint == getattr(flipped, purpose).fingerprint


def test_a_fraction_of_the_rows_is_that_fraction_of_the_inputs(write):
    data = write(train=numbered(200), validation=numbered(5))
    whole, part = (
        load_corpus(TASKS, [load_task(reviews(), data, seed=0, fraction=fraction)], data, seed=0)
        for fraction in (1.0, 0.1)
    )
    assert len(part.train.examples) == 18
    assert set(part.train.examples) < set(whole.train.examples)
    assert (part.selection, part.report) == (whole.selection, whole.report)


def test_a_limit_draws_from_every_task(write):
    data = write(train=numbered(200), validation=numbered(5))
    tasks = [load_task(reviews(name=name), data, seed=0) for name in ("one", "two")]
    whole = load_corpus(TASKS, tasks, data, seed=0)
    part = load_corpus(replace(TASKS, documents=60), tasks, data, seed=0)
    smaller = load_corpus(replace(TASKS, documents=20), tasks, data, seed=0)
    assert len(part.train.examples) == 60
    assert {example.row.split("/")[0] for example in part.train.examples} == {"one", "two"}
    assert set(smaller.train.examples) < set(part.train.examples) < set(whole.train.examples)
    assert part.train.note.endswith("60 of 360 documents, seed 0")
    assert part.report == whole.report


def test_tasks_without_training_rows_give_no_corpus(write):
    data = write(test=numbered(5))
    config = reviews(source=SourceConfig(folder="reviews", train=None, report="test"))
    with pytest.raises(UserError) as caught:
        load_corpus(TASKS, [load_task(config, data, seed=0)], data, seed=0)
    assert str(caught.value) == (
        "no chosen task has training rows, so there are no inputs to read (corpus=tasks)\n"
        "  chosen tasks: reviews\n  name another corpus"
    )


def test_source_documents_are_kept_as_they_are(write):
    rows = [{"body": f" page {index} \n"} for index in range(20)]
    data = write("books", train=rows, test=rows[:2])
    source = SourceConfig(folder="books", report="test")
    corpus = load_corpus(
        CorpusConfig(name="books", kind="source", source=source, text="{{ body }}"),
        [],
        data,
        seed=0,
    )
    assert texts(corpus.report) == [" page 0 \n", " page 1 \n"]
    assert len(corpus.train.examples) == 18
    assert len(corpus.selection.examples) == 2


def test_microworld_text_is_held_out_by_split():
    config = replace(read_corpus_file("microworld"), documents=50)
    corpus = load_corpus(config, [], DataConfig(), seed=0)
    assert len(corpus.train.examples) == 50
    held_out = set(texts(corpus.selection)) | set(texts(corpus.report))
    assert not set(texts(corpus.train)) & held_out


@pytest.mark.parametrize(
    "name", [name for name in names("corpus") if name not in ("microworld", "tasks", "files")]
)
def test_corpus_files_load(name, data_root):
    data = DataConfig(root=str(data_root))
    if name == "wikitext2":  # only its validation file is there
        with pytest.raises(UserError, match="has no split"):
            load_corpus(read_corpus_file(name), [], data, seed=0)
        return
    corpus = load_corpus(read_corpus_file(name), [], data, seed=0)
    assert not set(texts(corpus.train)) & set(texts(corpus.report))
    assert all(text.strip() for text in texts(corpus.train))
