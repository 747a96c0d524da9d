"""What a task file may say of its protocol, and what a row gives of it."""

from __future__ import annotations

import pytest

from mtl.config.errors import UserError
from mtl.config.schema import DecodingConfig, PromptConfig, ProtocolConfig, SourceConfig
from mtl.tasks.checks import check_task
from mtl.tasks.loading import load_task
from mtl.tasks.templates import BadValueError, split_at

from .conftest import reviews

SOURCE = SourceConfig(folder="reviews", train=None, report="test")
SCHEMA = {
    "kind": "multiple_choice",
    "source": SOURCE,
    "labels": [],
    "answers": [],
    "segments": ["{{ before }}"],
    "prompt": ["{{ before }}"],
    "target": "{{ right }}",
    "choices": ["{{ after }}", "{{ after }}"],
    "protocol": ProtocolConfig(given="names"),
}
ROW = {"before": "It rained and", "after": "was wet.", "right": 1, "names": ["the man", "the road"]}


def example(write, row, **changes):
    task = load_task(reviews(**{**SCHEMA, **changes}), write(test=[row]), seed=0)
    return task.report.examples[0]


def test_a_text_is_given_before_each_candidate(write) -> None:
    for given in ("names", ["{{ names[0] }}", "{{ names[1] }}"]):
        found = example(write, ROW, protocol=ProtocolConfig(given=given))
        assert found.given == (" the man", " the road")
        assert found.answers == (" was wet.", " was wet.")
        assert found.target == 1


@pytest.mark.parametrize("after", [", he said", "'s dog", "."])
def test_what_goes_on_behind_a_given_word_may_begin_with_a_sign(write, after) -> None:
    assert example(write, {**ROW, "after": after}).answers == (after, after)


def test_without_a_given_text_a_candidate_always_begins_with_a_blank(write) -> None:
    found = example(write, {**ROW, "after": ", he said"}, protocol=ProtocolConfig())
    assert (found.given, found.answers) == ((), (" , he said", " , he said"))


@pytest.mark.parametrize("names", [["the man"], ["the man", " "], ["a", "b", "c"]])
def test_a_given_text_for_each_candidate_is_needed(write, names) -> None:
    with pytest.raises(UserError, match="expected a text for each of 2 choices") as caught:
        example(write, {**ROW, "names": names})
    assert "row 1" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word", "parts"),
    [
        ("He ran because he could.", "he", ["", " ran because he could."]),
        ("The heater broke when it fell.", "it", ["The heater broke when ", " fell."]),
        ("Sam's dog, it barked", "it", ["Sam's dog, ", " barked"]),
        ("(them)", "them", ["(", ")"]),
    ],
)
def test_a_pronoun_is_replaced_where_it_first_stands_as_a_word(text, word, parts) -> None:
    assert split_at(text, word) == parts


def test_a_word_that_is_not_there_is_said() -> None:
    with pytest.raises(BadValueError, match="'it' is no word of 'bitter'"):
        split_at("bitter", "it")


@pytest.mark.parametrize(
    ("changes", "problem", "field"),
    [
        (
            {"protocol": ProtocolConfig(given=["x", "y"])},
            "only for multiple_choice, not for classification",
            "protocol.given",
        ),
        (
            {"protocol": ProtocolConfig(decoding=DecodingConfig(top_k=2))},
            "only for generation, not for classification",
            "protocol.decoding",
        ),
        (
            {"protocol": ProtocolConfig(rank_by="mutual_information")},
            "needed to rank by mutual_information",
            "protocol.unconditional",
        ),
        (
            {
                "protocol": ProtocolConfig(threshold="median"),
                "labels": ["a", "b", "c"],
                "answers": [" a", " b", " c"],
            },
            "tells 2 labels apart, found 3",
            "protocol.threshold",
        ),
        (
            {"protocol": ProtocolConfig(context_examples=2), "source": SOURCE},
            "context examples are training rows, and source.train is null",
            "protocol.context_examples",
        ),
        (
            {"prompts": {"other": PromptConfig(prompt=["It is "])}},
            "it ends with a blank; the answer begins with one, so leave it out",
            "prompts.other",
        ),
        (
            {
                "kind": "generation",
                "labels": [],
                "answers": [],
                "protocol": ProtocolConfig(decoding=DecodingConfig(stop=[""])),
            },
            "an empty text ends every answer at once",
            "protocol.decoding.stop",
        ),
    ],
)
def test_a_protocol_that_means_nothing_is_refused(changes, problem, field) -> None:
    with pytest.raises(UserError) as caught:
        check_task(reviews(**changes))
    assert str(caught.value) == f"{problem} (task.reviews.{field})"
