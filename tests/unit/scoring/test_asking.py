"""A language model is asked by each task's protocol; every likelihood against one that is computed alone, slowly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mtl.config.errors import UserError
from mtl.config.schema import (
    DecoderConfig,
    DecodingConfig,
    ProtocolConfig,
    SourceConfig,
    TaskConfig,
)
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.scoring.asking import Asking, ask, stop_word_tokens
from mtl.scoring.ranked import best_candidate, ranked_metrics
from mtl.tasks.splits import make_split
from mtl.tasks.task import Answer, Example, Split, Task

CONTEXT = 64
TEXT = (
    "the old man saw a small boat near the harbour and the dog barked at night",
    "a fine film with a dull end, said the reviewer, who had seen it twice",
    "it rained and the road was wet; she gave him the book because he asked for it",
)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.train(list(TEXT) * 4, 320)


@pytest.fixture(scope="module")
def decoder(vocabulary: Vocabulary) -> Decoder:
    """Weights ten times as large as new ones, so that the likelihoods differ clearly."""
    shape = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)
    decoder = Decoder(shape, vocabulary.size, seed=1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return decoder.eval()


def task(kind: str = "multiple_choice", train: list[Example] | None = None, **more) -> Task:
    protocol = more.pop("protocol", ProtocolConfig())
    config = TaskConfig(
        name="asked",
        kind=kind,
        source=SourceConfig(microworld="none", train=None if train is None else "train"),
        target="",
        protocol=protocol,
        metrics=more.pop("metrics", ["accuracy"]),
        **more,
    )
    empty = Task.without_rows(config)
    return empty if train is None else replace(empty, train=make_split("train", train))


def split(*examples: Example) -> Split:
    return make_split("test", examples)


def row(name: str, prompt: str, answers: tuple[str, ...] = (), **more) -> Example:
    target = None if "references" in more else 0
    return Example(name, (prompt,), (prompt,), target, answers, answers, **more)


def slow_nats(decoder: Decoder, context: list[int], continuation: list[int]) -> float:
    """One request, fed alone; the last token is only predicted."""
    tokens = torch.tensor([[*context, *continuation[:-1]]])
    with torch.inference_mode():
        logits = decoder.logits(decoder(tokens))[0].double().log_softmax(-1)
    begin = len(context)
    return -sum(float(logits[begin + i - 1, t]) for i, t in enumerate(continuation))


CHOICES = row("test:0", TEXT[0], (" a boat", " the wet road", " night"))


def test_a_score_is_the_log_probability_of_the_candidate_alone(decoder, vocabulary) -> None:
    asked = ask(decoder, vocabulary, task(), split(CHOICES), Asking())
    (answer,) = asked.answers
    prompt = [vocabulary.end, *vocabulary.encode(TEXT[0])]
    expected = [-slow_nats(decoder, prompt, vocabulary.encode(a)) for a in CHOICES.answers]
    assert answer.scores == pytest.approx(expected, abs=1e-4)
    assert answer.tokens == tuple(len(vocabulary.encode(a)) for a in CHOICES.answers)
    assert answer.value == max(range(3), key=expected.__getitem__)
    assert asked.notes == []


def test_without_the_start_token_the_prompt_stands_alone(decoder, vocabulary) -> None:
    (answer,) = ask(decoder, vocabulary, task(), split(CHOICES), Asking(start_token=False)).answers
    prompt = vocabulary.encode(TEXT[0])
    expected = [-slow_nats(decoder, prompt, vocabulary.encode(a)) for a in CHOICES.answers]
    assert answer.scores == pytest.approx(expected, abs=1e-4)


def test_what_is_given_is_read_and_not_scored(decoder, vocabulary) -> None:
    """Partial scoring: the same rest of the sentence behind either referent."""
    example = row(
        "test:0", "she saw", (" was wet", " was wet"), given=(" the road", " the old dog")
    )
    (answer,) = ask(decoder, vocabulary, task(), split(example), Asking()).answers
    expected = [
        -slow_nats(
            decoder,
            [vocabulary.end, *vocabulary.encode(f"she saw{given}")],
            vocabulary.encode(" was wet"),
        )
        for given in example.given
    ]
    assert answer.scores == pytest.approx(expected, abs=1e-4)
    assert answer.scores[0] != pytest.approx(answer.scores[1], abs=1e-3)


def test_the_form_of_likelihood_decides_and_the_others_stand_beside() -> None:
    example = row("test:0", "so", (" yes", " a longer one", " no"))
    answer = Answer(
        value=0, scores=(-2.0, -4.5, -2.5), tokens=(1, 5, 1), unconditional=(-1.0, -4.0, -4.0)
    )
    best = {
        form: best_candidate(answer, example, form)
        for form in ("sum", "token", "character", "byte")
    }
    assert best == {"sum": 0, "token": 1, "character": 1, "byte": 1}
    assert best_candidate(answer, example, "mutual_information") == 2
    names = [metric.name for metric in ranked_metrics(task(), [answer])]
    assert names == ["accuracy_by_token", "accuracy_by_character", "accuracy_by_mutual_information"]
    values = {
        m.name: m.value([answer], [replace(example, target=2)])
        for m in ranked_metrics(task(), [answer])
    }
    assert values["accuracy_by_mutual_information"] == 1.0
    assert values["accuracy_by_token"] == 0.0


def test_bytes_and_characters_differ_and_the_leading_blank_counts_for_neither() -> None:
    example = row("test:0", "so", (" ab", " \u00e9\u00e9\u00e9"))
    answer = Answer(value=0, scores=(-2.0, -3.3), tokens=(1, 1))
    assert best_candidate(answer, example, "character") == 0  # 2.0 / 2 against 3.3 / 3
    assert best_candidate(answer, example, "byte") == 1  # 2.0 / 2 against 3.3 / 6


def test_the_unconditional_likelihood_follows_the_protocols_own_prompt(decoder, vocabulary) -> None:
    asked = task(protocol=ProtocolConfig(rank_by="mutual_information", unconditional="said the"))
    (answer,) = ask(decoder, vocabulary, asked, split(CHOICES), Asking()).answers
    prompt = [vocabulary.end, *vocabulary.encode("said the")]
    alone = [-slow_nats(decoder, prompt, vocabulary.encode(a)) for a in CHOICES.answers]
    assert answer.unconditional == pytest.approx(alone, abs=1e-4)
    differences = [a - b for a, b in zip(answer.scores, answer.unconditional, strict=True)]
    assert answer.value == max(range(3), key=differences.__getitem__)


def test_an_empty_unconditional_prompt_is_the_beginning_of_a_document(decoder, vocabulary) -> None:
    asked = task(protocol=ProtocolConfig(unconditional=""))
    (answer,) = ask(decoder, vocabulary, asked, split(CHOICES), Asking()).answers
    alone = [-slow_nats(decoder, [vocabulary.end], vocabulary.encode(a)) for a in CHOICES.answers]
    assert answer.unconditional == pytest.approx(alone, abs=1e-4)


def test_context_examples_are_training_rows_with_their_answers(decoder, vocabulary) -> None:
    train = [
        row(f"train:{i}", text, (" yes", " no"))
        for i, text in enumerate(("it rained.", "a film.", "a dog."))
    ]
    asked = task(train=train, protocol=ProtocolConfig(separator="\n"))
    example = row("test:0", "the boat.", (" yes", " no"))
    found = ask(decoder, vocabulary, asked, split(example), Asking(shots=2, seed=3))
    texts = [f"{a.prompt[0]} yes\n{b.prompt[0]} yes\n" for a in train for b in train if a is not b]
    slow = [
        [
            -slow_nats(
                decoder,
                [vocabulary.end, *vocabulary.encode(text + "the boat.")],
                vocabulary.encode(a),
            )
            for a in example.answers
        ]
        for text in texts
    ]
    assert any(found.answers[0].scores == pytest.approx(scores, abs=1e-4) for scores in slow)
    assert found.notes == ["few-shot: 2 context examples of the train split before each row"]
    again = ask(decoder, vocabulary, asked, split(example), Asking(shots=2, seed=3))
    assert again.answers == found.answers


def test_context_examples_without_room_are_left_out_and_counted(decoder, vocabulary) -> None:
    train = [row(f"train:{i}", TEXT[i % 3], (" yes", " no")) for i in range(6)]
    asked = ask(decoder, vocabulary, task(train=train), split(CHOICES), Asking(shots=6))
    assert any(
        "rows had room for" in note and "of 6 context examples" in note for note in asked.notes
    )
    assert asked.cut == [0]


def test_more_context_examples_than_training_rows_are_refused(decoder, vocabulary) -> None:
    with pytest.raises(
        UserError, match="task 'asked' has 0 training rows, and 3 context examples"
    ) as caught:
        ask(decoder, vocabulary, task(), split(CHOICES), Asking(shots=3))
    assert caught.value.where == "shots=3"


@pytest.mark.parametrize(
    ("side", "words"),
    [("left", "the first ones"), ("longest", "the last ones of their longest piece")],
)
def test_a_prompt_beyond_the_context_is_cut_as_the_protocol_says_and_that_is_said(
    decoder, vocabulary, side, words
) -> None:
    long = " ".join(TEXT * 4)
    example = Example("test:0", (long,), (long, " Answer:"), 0, (" yes", " no"), ("yes", "no"))
    asked = ask(
        decoder, vocabulary, task(protocol=ProtocolConfig(truncate=side)), split(example), Asking()
    )
    pieces = [vocabulary.encode(piece) for piece in example.prompt]
    longest = max(len(vocabulary.encode(a)) for a in example.answers)
    room = CONTEXT + 1 - longest - 1
    lost = sum(map(len, pieces)) - room
    assert asked.cut == [lost]
    assert asked.notes == [
        f"1 of 1 rows lost {lost} tokens beyond the context of {CONTEXT}, {words}"
    ]
    whole = [token for piece in pieces for token in piece]
    kept = whole[-room:] if side == "left" else [*pieces[0][: room - len(pieces[1])], *pieces[1]]
    expected = [
        -slow_nats(decoder, [vocabulary.end, *kept], vocabulary.encode(a)) for a in example.answers
    ]
    assert asked.answers[0].scores == pytest.approx(expected, abs=1e-4)


def test_an_answer_as_long_as_the_context_leaves_no_room(decoder, vocabulary) -> None:
    example = row("test:7", "so", (" " + " ".join(TEXT * 4), " no"))
    with pytest.raises(UserError, match="leaves no room for a prompt beside its answer") as caught:
        ask(decoder, vocabulary, task(), split(example), Asking())
    assert caught.value.where == "task 'asked', row test:7"


def test_a_threshold_is_the_median_of_the_training_rows(decoder, vocabulary) -> None:
    train = [
        row(f"train:{i}", text) for i, text in enumerate((*TEXT, "zq zq", "night night night"))
    ]
    asked = task(
        "classification",
        train=train,
        labels=["bad", "good"],
        answers=[" bad", " good"],
        protocol=ProtocolConfig(threshold="median"),
    )
    rows = [row("test:0", "the old dog saw the road"), row("test:1", "xx qq zz kk")]
    found = ask(decoder, vocabulary, asked, split(*rows), Asking())

    def mean(text: str) -> float:
        tokens = vocabulary.encode(text)
        return -slow_nats(decoder, [vocabulary.end], tokens) / len(tokens)

    median = sorted(mean(example.prompt[0]) for example in train)[2]
    for example, answer in zip(rows, found.answers, strict=True):
        assert answer.scores == pytest.approx((median, mean(example.prompt[0])), abs=1e-4)
        assert answer.value == int(mean(example.prompt[0]) > median)
    assert "labels unread" in found.notes[0]


def test_a_document_is_predicted_once_and_its_end_too(decoder, vocabulary) -> None:
    documents = [
        replace(row("test:0", "", references=(TEXT[0],))),
        row("test:1", "", references=(" ".join(TEXT * 5),)),
    ]
    asked = ask(
        decoder,
        vocabulary,
        task("language_modelling", metrics=["bits_per_byte"]),
        split(*documents),
        Asking(),
    )
    tokens = [*vocabulary.encode(TEXT[0]), vocabulary.end]
    assert asked.answers[0].value == pytest.approx(
        slow_nats(decoder, [vocabulary.end], tokens), abs=1e-4
    )
    assert [answer.tokens for answer in asked.answers] == [
        (len(vocabulary.encode(d.references[0])) + 1,) for d in documents
    ]
    strided = ask(
        decoder,
        vocabulary,
        task("language_modelling", metrics=["bits_per_byte"]),
        split(*documents),
        Asking(window="strided"),
    )
    assert strided.answers[0].value == pytest.approx(asked.answers[0].value, abs=1e-4)
    assert strided.answers[1].value != pytest.approx(asked.answers[1].value, abs=1e-3)
    assert strided.notes != asked.notes


LAMBADA = {"kind": "generation", "metrics": ["greedy_accuracy", "perplexity_per_answer"]}


def test_the_likelihood_of_a_wanted_answer_whole_and_of_its_last_token(decoder, vocabulary) -> None:
    example = row("test:0", TEXT[0], references=("harbour reviewer",))
    whole = ask(decoder, vocabulary, task(**LAMBADA), split(example), Asking()).answers[0]
    last = ask(
        decoder,
        vocabulary,
        task(**LAMBADA, protocol=ProtocolConfig(target_tokens="last")),
        split(example),
        Asking(),
    ).answers[0]
    prompt = [vocabulary.end, *vocabulary.encode(TEXT[0])]
    target = vocabulary.encode(" harbour reviewer")
    assert whole.target_nats == pytest.approx(slow_nats(decoder, prompt, target), abs=1e-4)
    assert last.target_nats == pytest.approx(
        slow_nats(decoder, [*prompt, *target[:-1]], target[-1:]), abs=1e-4
    )


def test_greedy_is_what_the_decoder_would_write(decoder, vocabulary) -> None:
    """Prompts behind which the likeliest token is a word of its own, found by trying."""
    found = []
    for text in (f"{a} {b}" for a in TEXT for b in " ".join(TEXT).split()):
        prompt = [vocabulary.end, *vocabulary.encode(text)]
        with torch.inference_mode():
            best = int(decoder.logits(decoder(torch.tensor([prompt])))[0, -1].argmax())
        word = vocabulary.decode([best])
        if word[:1] == " " and word[1:].isalpha() and vocabulary.encode(word) == [best]:
            found.append((text, word[1:]))
    assert found
    right = [row(f"test:{i}", text, references=(word,)) for i, (text, word) in enumerate(found)]
    wrong = [replace(r, row=f"{r.row}-", references=(f"{r.references[0]} dog",)) for r in right]
    answers = ask(decoder, vocabulary, task(**LAMBADA), split(*right, *wrong), Asking()).answers
    assert all(answer.target_greedy for answer in answers[: len(right)])
    expected = []
    for text, word in found:
        tokens = [vocabulary.end, *vocabulary.encode(text)]
        for token in vocabulary.encode(f" {word} dog"):
            with torch.inference_mode():
                greedy = int(decoder.logits(decoder(torch.tensor([tokens])))[0, -1].argmax())
            if greedy != token:
                expected.append(False)
                break
            tokens.append(token)
        else:
            expected.append(True)
    assert [answer.target_greedy for answer in answers[len(right) :]] == expected


def test_stop_words_are_tokens_that_are_one_by_themselves(vocabulary) -> None:
    texts = {vocabulary.decode([token]) for token in stop_word_tokens(vocabulary)}
    assert {" the", " and", "the"} <= texts
    assert not texts & {" dog", "b", " boat"}


def test_a_written_answer_ends_at_a_line_break_and_after_its_sentences(decoder, vocabulary) -> None:
    example = row("test:0", TEXT[2], references=("x",))
    open_task = {"kind": "generation", "metrics": ["exact_match"], "max_answer_tokens": 20}
    every = ProtocolConfig(decoding=DecodingConfig(stop=[]))
    text = (
        ask(decoder, vocabulary, task(**open_task, protocol=every), split(example), Asking())
        .answers[0]
        .value
    )
    assert isinstance(text, str)
    middle = text[len(text) // 2]
    stopping = ProtocolConfig(decoding=DecodingConfig(stop=[middle]))
    cut = (
        ask(decoder, vocabulary, task(**open_task, protocol=stopping), split(example), Asking())
        .answers[0]
        .value
    )
    assert cut == text.split(middle)[0].strip()


def test_a_drawn_answer_does_not_depend_on_the_other_rows(decoder, vocabulary) -> None:
    drawing = ProtocolConfig(decoding=DecodingConfig(temperature=1.0, top_k=5, stop=[]))
    asked = task("generation", metrics=["exact_match"], max_answer_tokens=12, protocol=drawing)
    rows = [row(f"test:{i}", TEXT[i % 3][: 20 + 5 * i], references=("x",)) for i in range(5)]
    together = ask(decoder, vocabulary, asked, split(*rows), Asking()).answers
    small = ask(decoder, vocabulary, asked, split(*rows[::-1]), Asking(batch_tokens=40)).answers
    assert [answer.value for answer in together] == [answer.value for answer in small[::-1]]
    other = ask(decoder, vocabulary, asked, split(*rows), Asking(seed=1)).answers
    assert [answer.value for answer in together] != [answer.value for answer in other]


def test_closed_answers_are_written_freely_beside(decoder, vocabulary) -> None:
    (answer,) = ask(decoder, vocabulary, task(), split(CHOICES), Asking(), decode=True).answers
    prompt = [vocabulary.end, *vocabulary.encode(TEXT[0])]
    banned = vocabulary.unwritten(decoder.vocabulary_size)
    (written,) = generate(
        decoder, [prompt], max_new_tokens=max(answer.tokens), stop={vocabulary.end}, banned=banned
    )
    assert answer.decoded == vocabulary.decode(written).split("\n")[0].strip()


def test_scores_do_not_depend_on_order_or_size_of_batches(decoder, vocabulary) -> None:
    rows = [
        row(
            f"test:{i}",
            f"{TEXT[i % 3]} {TEXT[(i + 1) % 3][: 3 * i]}",
            (" a boat", " the dog barked", " it"),
        )
        for i in range(7)
    ]
    expected = ask(decoder, vocabulary, task(), split(*rows), Asking()).answers
    for batch_tokens in (1, 100, 100_000):
        found = ask(
            decoder, vocabulary, task(), split(*rows[::-1]), Asking(batch_tokens=batch_tokens)
        ).answers
        for one, other in zip(expected, found[::-1], strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-5)
            assert one.value == other.value
    assert all(math.isfinite(score) for answer in expected for score in answer.scores)
