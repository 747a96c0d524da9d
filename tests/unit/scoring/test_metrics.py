"""The list of metrics: known answers, degenerate answers, and what a task may declare."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from mtl.config.errors import UserError
from mtl.config.schema import SourceConfig, TaskConfig
from mtl.scoring.metrics import METRICS, admissible, check_metrics, metric
from mtl.tasks.task import Answer, Example


def config(kind: str, metrics: list[str], labels: int = 2) -> TaskConfig:
    return TaskConfig(
        name="made",
        kind=kind,
        source=SourceConfig(),
        segments=[],
        prompt=[],
        target="",
        labels=[f"label{i}" for i in range(labels)] if "classification" in kind else [],
        metrics=metrics,
    )


def value(name: str, answered: list, wanted: list) -> float:
    is_open = METRICS[name].kinds[0] in ("generation", "language_modelling")
    examples = [
        Example(
            row=f"test:{i}",
            segments=(),
            prompt=(),
            target=None if is_open else target,
            references=(target,) if isinstance(target, str) else (),
        )
        for i, target in enumerate(wanted)
    ]
    return METRICS[name].value([Answer(value=one, tokens=(4,)) for one in answered], examples)


@pytest.mark.parametrize(
    ("name", "answered", "wanted", "known"),
    [
        ("accuracy", [0, 1, 2, 2], [0, 1, 2, 0], 3 / 4),
        # tp 2, fp 1, fn 1, tn 1
        ("f1", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 2 / 3),
        ("macro_f1", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], (2 / 3 + 1 / 2) / 2),
        # A class neither answered nor wanted is left out; one only answered counts as 0.
        ("macro_f1", [0, 3, 2], [0, 0, 2], (2 / 3 + 0 + 1) / 3),
        ("matthews", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2)),
        ("matthews", [1, 0, 1], [0, 1, 0], -1.0),
        ("pearson", [1.0, 2.0, 4.0], [10.0, 20.0, 40.0], 1.0),
        ("pearson", [1.0, 2.0, 3.0], [2.0, 1.0, 2.0], 0.0),
        ("spearman", [1.0, 2.0, 300.0], [1.0, 2.0, 3.0], 1.0),
        # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
        ("spearman", [1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], 4.5 / math.sqrt(4.5 * 5)),
        ("exact_match", ["The cat.", "dog"], ["cat", "dogs"], 1 / 2),
        ("token_f1", ["the cat sat", ""], ["cat", "..."], (2 / 3 + 1) / 2),
        # Matches 3, 2, 1 of 4, 3, 2 n-grams, no 4-gram of 1 (smoothed to 1/2).
        ("bleu", ["w x y z"], ["w x y v"], (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)),
        ("bleu", ["w x y z"], ["w x y z q r s t"], math.exp(1 - 8 / 4)),
        ("bleu", [""], ["w x y z"], 0.0),
        ("rouge_1", ["cats ran far"], ["the cat ran"], 2 / 3),
        ("rouge_2", ["the cat ran far"], ["the cats ran"], 2 * (2 / 3 * 1) / (2 / 3 + 1)),
        ("rouge_l", ["x y z w"], ["z x w"], 2 * (2 / 4 * 2 / 3) / (2 / 4 + 2 / 3)),
        # 16 nats over 2 + 3 bytes: the e acute takes two.
        ("bits_per_byte", [6.0, 10.0], ["ab", "c\u00e9"], 16 / math.log(2) / 5),
        # Words between white space, 2 and 3 of them; tokens as they were counted, 4 and 4.
        ("perplexity_per_word", [6.0, 9.0], ["a b\n", " \t c  d\ne"], math.exp(15 / 5)),
        ("perplexity_per_token", [6.0, 10.0], ["a b", "c"], math.exp(16 / 8)),
        ("perplexity_per_word", [1e6], ["a"], math.exp(700)),
    ],
)
def test_known_answers(name, answered, wanted, known):
    assert value(name, answered, wanted) == pytest.approx(known, abs=1e-12)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
@pytest.mark.parametrize(
    ("answered", "wanted"),
    [([1, 1, 1], [0, 1, 0]), ([0, 1, 0], [1, 1, 1]), ([1, 1], [1, 1]), ([1], [1])],
)
def test_a_correlation_with_a_constant_side_is_zero(name, answered, wanted):
    assert value(name, answered, wanted) == 0.0


def test_scores_that_differ_by_rounding_alone_are_constant():
    assert value("pearson", [0.1 + 0.2, 0.3, 0.3], [1.0, 2.0, 3.0]) == 0.0


def test_small_but_real_differences_are_not_constant():
    assert value("pearson", [5 + 1e-9, 5 + 2e-9, 5 + 3e-9], [1.0, 2.0, 3.0]) == pytest.approx(1.0)


def test_f1_without_positives_is_zero():
    assert value("f1", [0, 0], [0, 0]) == 0.0


def test_scores_of_language_models_are_better_when_lower():
    falling = [name for name, known in METRICS.items() if not known.higher_is_better]
    assert falling == [
        "perplexity_per_answer",
        "bits_per_byte",
        "perplexity_per_word",
        "perplexity_per_token",
    ]
    assert METRICS["bits_per_byte"].perfect == 0.0
    assert {METRICS[name].perfect for name in METRICS if name != "bits_per_byte"} == {1.0}


@pytest.mark.parametrize("name", ["bits_per_byte", "perplexity_per_word"])
def test_units_are_those_of_the_source(name):
    undone = Example("test:0", (), (), None, references=("it's",))
    tokenised = Example("test:0", (), (), None, references=("it 's",))
    original = Example("test:0", (), (), None, references=("it's",), original="it 's")
    plain, same, other = (
        METRICS[name].value([Answer(value=3.0)], [example])
        for example in (tokenised, original, undone)
    )
    assert plain == same != other


def test_only_what_depends_on_windows_is_reported_with_their_name():
    assert METRICS["bits_per_byte"].reported_name("strided") == "bits_per_byte_strided"
    assert METRICS["perplexity_per_word"].reported_name("disjoint") == (
        "perplexity_per_word_disjoint"
    )
    assert METRICS["accuracy"].reported_name("strided") == "accuracy"


def test_tokens_that_nobody_counted():
    example = Example("test:7", (), (), None, references=("it",))
    with pytest.raises(
        ValueError, match=r"^row test:7: nobody counted the tokens of the document$"
    ):
        METRICS["perplexity_per_token"].value([Answer(value=3.0)], [example])


@pytest.mark.parametrize(
    ("name", "answered", "wanted", "message"),
    [
        ("accuracy", [0], [0, 1], "1 answers to 2 examples"),
        ("accuracy", [], [], "accuracy of no rows"),
        ("accuracy", [0, 0.5], [0, 1], "row test:1: 0.5 is not an index"),
        ("macro_f1", [-1], [0], "row test:0: -1 is not an index"),
        ("pearson", [1.0, math.nan], [0.0, 1.0], "row test:1: the score nan is not finite"),
        ("bits_per_byte", [math.inf], ["a"], "row test:0: the score inf is not finite"),
        ("bits_per_byte", [1.0, 0.0], ["a", ""], "row test:1: the document is empty"),
        ("exact_match", [3], ["three"], "row test:0: the answer 3 is not a text"),
    ],
)
def test_answers_outside_their_space_are_refused_with_their_row(name, answered, wanted, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        value(name, answered, wanted)


@pytest.mark.parametrize(
    ("kind", "labels", "names"),
    [
        ("classification", 2, ["accuracy", "matthews", "f1", "macro_f1"]),
        ("pair_classification", 3, ["accuracy", "matthews", "macro_f1"]),
        ("multiple_choice", 0, ["accuracy"]),
        ("regression", 0, ["pearson", "spearman"]),
        (
            "generation",
            0,
            ["exact_match", "token_f1", "bleu", "rouge_1", "rouge_2", "rouge_l"],
        ),
        (
            "language_modelling",
            0,
            ["bits_per_byte", "perplexity_per_word", "perplexity_per_token"],
        ),
    ],
)
def test_what_each_kind_of_task_may_declare(kind, labels, names):
    assert admissible(config(kind, [], labels)) == names
    check_metrics(config(kind, names, labels))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            config("classification", ["acuracy"]),
            "unknown metric 'acuracy' (task 'made': metrics)\n"
            "  did you mean: accuracy\n"
            "  available: accuracy, f1, macro_f1, matthews",
        ),
        (
            config("regression", ["accuracy"]),
            "metric 'accuracy' is not defined for a task of kind regression (task 'made': metrics)\n"
            "  available for regression: pearson, spearman",
        ),
        (
            config("classification", ["f1"], labels=3),
            "metric 'f1' needs two labels, found 3 (task 'made': metrics)\n"
            "  available for classification: accuracy, matthews, macro_f1",
        ),
        (
            config("language_modelling", []),
            "a task needs at least one metric (task 'made': metrics)\n"
            "  available for language_modelling: bits_per_byte, perplexity_per_word, perplexity_per_token",
        ),
        (
            config("language_modelling", ["perplexity_per_word", "bits_per_byte"]),
            "metric 'perplexity_per_word' cannot be the primary one: guessing has no value on its scale, which the "
            "average needs (task 'made': metrics)\n"
            "  the first metric is the primary one; put first: bits_per_byte",
        ),
        (
            config("multiple_choice", ["accuracy", "accuracy", "bleu"]),
            "metric 'accuracy' stands there twice (task 'made': metrics)\n"
            "metric 'bleu' is not defined for a task of kind multiple_choice (task 'made': metrics)\n"
            "  available for multiple_choice: accuracy",
        ),
    ],
)
def test_refused_metrics_are_named_with_what_is_admissible(task, message):
    with pytest.raises(UserError) as caught:
        check_metrics(task)
    assert str(caught.value) == message


def test_an_unknown_metric_has_a_nearest_name():
    with pytest.raises(UserError, match="did you mean: spearman"):
        metric("speerman")


def test_checking_a_config_imports_no_library_of_scores():
    code = (
        "import sys, mtl.scoring.score, mtl.scoring.bag_of_words\n"
        "print(*sorted({'sklearn', 'scipy', 'torch', 'sacrebleu', 'rouge_score'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
