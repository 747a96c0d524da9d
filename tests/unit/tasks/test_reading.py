"""Templates, and how a row of each kind becomes an example."""

from __future__ import annotations

import pytest

from mtl.config.errors import UserError
from mtl.config.schema import SourceConfig
from mtl.tasks.checks import check_task
from mtl.tasks.loading import load_task
from mtl.tasks.reading import score_texts
from mtl.tasks.task import Example
from mtl.tasks.templates import BadValueError, Expression, Template, mid_sentence

from .conftest import numbered, reviews

SOURCE = SourceConfig(folder="reviews", train=None, report="test")


def only_example(write, config, row) -> Example:
    return load_task(config, write(test=[row]), seed=0).report.examples[0]


def error_of(write, config, rows) -> str:
    with pytest.raises(UserError) as caught:
        load_task(config, write(test=rows), seed=0)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ text }}", "a film"),
        ("Review: {{text}}\n{{ number }}!", "Review: a film\n3!"),
        ("no column", "no column"),
        ("{{ text }}{# a comment #}", "a film"),
        ("{%- if number > 2 %} many{% endif %}", " many"),
        ("{{ text | upper ~ '.' }} ", "A FILM. "),
        ("{{ words | join(' ') }}", "x y"),
        ("{{ none_there is defined }}", "False"),
    ],
)
def test_templates(source, expected):
    row = {"text": " a film\n", "number": 3, "words": ["x", "y"]}
    assert Template(source, field="t")(row) == expected


@pytest.mark.parametrize("source", ["{{ text }}", "{{ text }}{{ number }}", "<{{ text|lower }}>"])
def test_null_and_missing_values_are_refused(source):
    template = Template(source, field="t")
    with pytest.raises(BadValueError):
        template({"text": None, "number": None})
    with pytest.raises(BadValueError, match="text"):
        template({"number": 1})


def test_a_document_keeps_its_white_space():
    assert Template("{{ text }}", field="t", verbatim=True)({"text": " a \n\n"}) == " a \n\n"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ text.__class__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ words.append('z') }}",
    ],
)
def test_templates_are_sandboxed(source):
    row = {"text": "a", "words": ["x"]}
    with pytest.raises(BadValueError):
        Template(source, field="t")(row)
    assert row["words"] == ["x"]


def test_template_that_does_not_parse():
    with pytest.raises(UserError) as caught:
        Template("fine\n{{ text", field="task.x.prompt[0]")
    assert str(caught.value) == (
        "this template does not parse: unexpected end of template, expected 'end of print statement'."
        " (task.x.prompt[0], line 2)\n  fine\n{{ text"
    )


def test_expression_keeps_lists():
    row = {"answers": {"text": ["a", "b"]}}
    assert Expression("answers.text", field="e")(row) == ["a", "b"]
    with pytest.raises(BadValueError):
        Expression("answers.tekst", field="e")(row)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The sun rose.", "the sun rose."),
        ("I rose.", "I rose."),
        ("Ann rose.", "Ann rose."),
        ("His", "his"),
        ("", ""),
    ],
)
def test_mid_sentence(text, expected):
    assert mid_sentence(text) == expected


def test_scores_as_text():
    assert score_texts(1, 5)[:3] == (" 1.0", " 1.2", " 1.4")  # T5's steps
    assert score_texts(0, 5)[:3] == (" 0.00", " 0.25", " 0.50")
    assert score_texts(0, 20)[-1] == " 20"
    assert score_texts(-1, 1)[:2] == (" -1.0", " -0.9")
    for low, high in ((0, 5), (1, 5), (0, 1 / 3), (-2, 7)):
        texts = score_texts(low, high)
        assert len(set(texts)) == 21
        assert [float(t) for t in texts] == pytest.approx(
            [low + (high - low) * k / 20 for k in range(21)], abs=1e-6
        )


@pytest.mark.parametrize("label", [1, "1", "good", True, 1.0])
def test_a_label_is_a_name_or_an_index(write, label):
    example = only_example(write, reviews(source=SOURCE), {"text": " fine \n", "label": label})
    assert example == Example("test:0", ("fine",), ("fine", "\nIt is"), 1, (" bad", " good"))


def test_names_win_over_indices(write):
    config = reviews(source=SOURCE, labels=["1", "0"])
    assert only_example(write, config, {"text": "x", "label": "1"}).target == 0


def test_a_prompt_never_ends_with_a_blank(write):
    config = reviews(source=SOURCE, prompt=["{{ text }}", "\n{{ end }}"])
    assert only_example(write, config, {"text": "x", "end": "", "label": 0}).prompt == ("x", "")


def test_regression(write):
    config = reviews(kind="regression", source=SOURCE, range=[0, 5], labels=[], answers=[])
    example = only_example(write, config, {"text": "x", "label": "3.8"})
    assert example.target == 3.8
    assert example.answers == score_texts(0, 5)
    assert error_of(
        write, config, [{"text": "x", "label": value} for value in (5.1, "nan", "high", 5)]
    ).endswith(
        "  row 1: score: found '5.1', expected a number from 0 to 5\n"
        "  row 2: score: found 'nan', expected a number from 0 to 5\n"
        "  row 3: score: found 'high', expected a number from 0 to 5"
    )


@pytest.mark.parametrize("target", [1, "1", "the cat"])
def test_choices_by_index_or_text(write, target):
    row = {
        "text": "x",
        "label": target,
        "options": ["a dog ", "the cat"],
        "a": "a dog",
        "b": "the cat",
    }
    for choices in ("options", ["{{ a }}", "{{ b }}"]):
        config = reviews(
            kind="multiple_choice", source=SOURCE, choices=choices, labels=[], answers=[]
        )
        example = only_example(write, config, row)
        assert example.choices == ("a dog", "the cat")
        assert example.answers == (" a dog", " the cat")
        assert example.target == 1


def test_choice_that_is_not_there(write):
    config = reviews(
        kind="multiple_choice", source=SOURCE, choices="options", labels=[], answers=[]
    )
    rows = [
        {"text": "x", "label": "fish", "options": ["a", "b"]},
        {"text": "x", "label": 0, "options": "ab"},
    ]
    assert error_of(write, config, rows).endswith(
        "  row 1: target: found 'fish', expected one of the choices, or an index from 0 to 1\n"
        "  row 2: task.reviews.choices: found 'ab', expected a list of texts"
    )


def test_the_first_reference_is_trained_on(write):
    config = reviews(
        kind="generation",
        source=SOURCE,
        target="{{ all[1] }}",
        references="all",
        labels=[],
        answers=[],
    )
    example = only_example(write, config, {"text": "x", "all": ["a", " b ", "c", "a"]})
    assert example.references == ("b", "a", "c")
    assert example.target is None
    assert "expected an answer" in error_of(write, config, [{"text": "x", "all": ["a", " "]}])


def test_rows_without_a_gold_label_are_counted(write):
    config = reviews(source=SOURCE, unlabelled="-1")
    rows = [{"text": f"{label}", "label": label} for label in (0, -1, 1, -1)]
    report = load_task(config, write(test=rows), seed=0).report
    assert [example.row for example in report.examples] == ["test:0", "test:2"]
    assert report.note == "2 of 4 rows of test have no gold label"
    assert "has no labelled row" in error_of(write, config, [{"text": "x", "label": -1}])


def test_bad_labels_name_file_and_row(write, tmp_path):
    rows = numbered(3) + [
        {"text": "x", "label": label} for label in ("god", 2, -1, "Good", "", "?", "!")
    ]
    assert error_of(write, reviews(source=SOURCE), rows) == (
        f"7 bad rows of 10 (task 'reviews', {tmp_path}/reviews/test.jsonl)\n"
        "  row 4: label: found 'god', expected one of bad, good, or an index from 0 to 1\n"
        "  row 5: label: found '2', expected one of bad, good, or an index from 0 to 1\n"
        "  row 6: label: found '-1', expected one of bad, good, or an index from 0 to 1\n"
        "  row 7: label: found 'Good', expected one of bad, good, or an index from 0 to 1\n"
        "  row 8: label: found '', expected one of bad, good, or an index from 0 to 1\n"
        "  and 2 more"
    )


def test_missing_column(write, tmp_path):
    config = reviews(source=SOURCE, segments=["{{ txet }}"])
    assert error_of(write, config, numbered(3)) == (
        f"no column 'txet' in {tmp_path}/reviews/test.jsonl (task.reviews.segments[0])\n"
        "  did you mean: text\n"
        "  columns there: text, label"
    )


def test_a_row_without_its_column_or_value(write):
    rows = [*numbered(2), {"label": 1}, {"text": None, "label": 1}]
    assert error_of(write, reviews(source=SOURCE), rows).endswith(
        "  row 3: task.reviews.segments[0]: column 'text' is missing\n"
        "  row 4: task.reviews.segments[0]: found null, expected a value"
    )


def test_all_contradictions_of_a_task_file_in_one_message():
    config = reviews(
        source=SourceConfig(train="train", validation="test", report="test"),
        prompt=["It is "],
        answers=["bad", " bad", " bad"],
        range=[0, 1],
        identifying=[1],
    )
    with pytest.raises(UserError) as caught:
        check_task(config)
    assert str(caught.value) == (
        "one of folder, hub or microworld is needed (task.reviews.source)\n"
        "the same split as report; no split has two purposes: what selects or trains is never reported"
        " (task.reviews.source.validation)\n"
        "it ends with a blank; the answer begins with one, so leave it out (task.reviews.prompt)\n"
        "there is no segment 1; the first one is 0 (task.reviews.identifying)\n"
        "one label word per class is needed: 2 labels, 3 answers (task.reviews.answers)\n"
        "stands twice: ' bad' (task.reviews.answers)\n"
        "a label word begins with a space, found 'bad' (task.reviews.answers)\n"
        "only for regression, not for classification (task.reviews.range)"
    )
