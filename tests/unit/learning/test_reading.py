"""Golden token sequences of both ways of reading, written with the names of the special tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtl.config.errors import UserError
from mtl.data.encoding import Encoded
from mtl.data.vocabulary import Vocabulary
from mtl.learning.reading import Layout, as_text, document, for_heads
from mtl.tasks.closed import right_answer, score_values
from mtl.tasks.task import Example, Task
from mtl.testing.strategies import CONTEXT, DOCUMENTS, TASKS, base_vocabulary

CLASSIFIED, SCORED, CHOSEN, GENERATED = TASKS


def _shown(encoded: Encoded, vocabulary: Vocabulary) -> list[str]:
    """The prefix and each branch as text, special tokens by name; labelled tokens in square brackets."""
    names = {
        vocabulary.start: "<start>",
        vocabulary.delimiter: "<delim>",
        vocabulary.extract: "<extract>",
        vocabulary.end: "<end>",
    }
    texts, begin = [], 0
    for length in (encoded.prefix, *encoded.branches):
        text, labelled = "", False
        for token, label in zip(
            encoded.tokens[begin : begin + length],
            encoded.labelled[begin : begin + length],
            strict=True,
        ):
            text += "[" if label and not labelled else "]" if labelled and not label else ""
            labelled = bool(label)
            text += names.get(int(token)) or vocabulary.decode([int(token)])
        texts.append(text + "]" * labelled)
        begin += length
    return texts


def _read(example: Example, task: Task, purpose: str) -> list[str]:
    vocabulary = base_vocabulary()
    (encoded,) = for_heads(example, task, vocabulary, CONTEXT, purpose)  # type: ignore[arg-type]
    return _shown(encoded, vocabulary)


def _text(example: Example, task: Task, purpose: str) -> list[str]:
    vocabulary = base_vocabulary()
    layout = Layout((vocabulary.end,), None, ())
    (encoded,) = as_text(example.prompt, layout, example, task, vocabulary, CONTEXT, purpose)  # type: ignore[arg-type]
    return _shown(encoded, vocabulary)


def test_a_head_reads_start_segments_extract() -> None:
    example = Example("0", ("a fine film", "it was late"), (), 1, (" bad", " good", " so so"))
    expected = ["<start>a fine film<delim>it was late<extract>"]
    assert _read(example, CLASSIFIED, "train") == _read(example, CLASSIFIED, "answer") == expected


def test_a_choice_is_a_branch_of_its_own() -> None:
    example = Example("0", ("it rained",), (), 1, (" of rain", " it was"), ("of rain", "it was"))
    expected = ["<start>it rained<delim>", "of rain<extract>", "it was<extract>"]
    assert _read(example, CHOSEN, "train") == expected


def test_an_open_answer_follows_the_extract_token_in_training_alone() -> None:
    example = Example("0", ("the dog",), (), None, references=("god", "never this"))
    assert _read(example, GENERATED, "train") == ["<start>the dog<extract>[ god<end>]"]
    assert _read(example, GENERATED, "answer") == ["<start>the dog<extract>"]


def test_as_text_the_right_answer_is_trained_and_all_are_asked() -> None:
    example = Example("0", (), ("a fine film", " It was"), 1, (" bad", " good", " so so"))
    assert _text(example, CLASSIFIED, "train") == ["<end>a fine film It was[ good<end>]"]
    assert _text(example, CLASSIFIED, "answer") == [
        "<end>a fine film It was",
        "[ bad<end>]",
        "[ good<end>]",
        "[ so so<end>]",
    ]


def test_the_longest_piece_loses_its_last_tokens_and_the_rest_stays() -> None:
    vocabulary = base_vocabulary()
    answers = (" bad", " good", " so so")
    example = Example("0", (), ("a fine film " * 60, " It was"), 1, answers)
    layout = Layout((vocabulary.end,), None, ())
    train, asked = (
        as_text(example.prompt, layout, example, CLASSIFIED, vocabulary, CONTEXT, purpose)[0]
        for purpose in ("train", "answer")
    )
    longest = max(len(vocabulary.encode(answer)) + 1 for answer in answers)
    assert asked.prefix + longest == CONTEXT
    assert train.tokens[: asked.prefix].tolist() == asked.tokens[: asked.prefix].tolist()
    whole = len(vocabulary.encode("a fine film " * 60)) + len(vocabulary.encode(" It was")) + 1
    assert asked.cut == train.cut == whole - asked.prefix
    assert _shown(asked, vocabulary)[0].endswith(" It was")


def test_a_context_without_room_for_a_prompt_is_refused() -> None:
    task = Task.without_rows(replace(GENERATED.config, max_answer_tokens=CONTEXT - 3))
    example = Example("0", ("the dog",), (), None, references=("god",))
    with pytest.raises(UserError) as error:
        for_heads(example, task, base_vocabulary(), CONTEXT, "train")
    assert str(error.value) == (
        "task 'reverse' leaves 2 tokens of the context to its prompt, which needs 3 or more"
        " (task.reverse.max_answer_tokens=125)\n"
        "  take a decoder with a longer context, or a smaller max_answer_tokens"
    )


def test_a_score_is_its_nearest_value() -> None:
    assert score_values(SCORED, 21)[:3].tolist() == [0.0, 0.25, 0.5]
    example = Example("0", (), (), 3.3, tuple(f" {0.25 * k:.2f}" for k in range(21)))
    assert example.answers[right_answer(example, SCORED)] == " 3.25"


def test_every_token_of_a_document_is_predicted_exactly_once() -> None:
    vocabulary = base_vocabulary()
    text = "she gave him the book because he asked for it " * 12
    pieces = document(Example("0", (), (), None, references=(text,)), vocabulary, CONTEXT)
    assert len(pieces) > 1
    assert max(len(piece.tokens) for piece in pieces) <= CONTEXT
    predicted = [int(t) for piece in pieces for t in piece.tokens[piece.labelled]]
    assert predicted == [*vocabulary.encode(text), vocabulary.end]
    assert (
        for_heads(
            Example("0", (), (), None, references=(text,)), DOCUMENTS, vocabulary, CONTEXT, "train"
        )[0].tokens.tolist()
        == pieces[0].tokens.tolist()
    )
