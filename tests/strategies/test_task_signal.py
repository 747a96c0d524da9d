"""Task signal: how a row is written under each setting, what a wrong signal does, and decoding beside ranking."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig, SourceConfig, TaskConfig
from mtl.config.strategies import load_strategy_class
from mtl.data.batch import Batch, collate
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.gpt import Decoder
from mtl.learning.evaluation import answer_split
from mtl.learning.ledger import parameters
from mtl.learning.readout import hidden_states, token_examples
from mtl.learning.strategy import Strategy
from mtl.tasks.task import Answer, Example, Task
from mtl.testing.strategies import (
    CONTEXT,
    SENTENCES,
    TASKS,
    StrategyConformance,
    base_vocabulary,
    examples,
)

SETTINGS = [
    {"signal": "vector"},
    {"signal": "text"},
    {"signal": "none"},
    {"loss": "all"},
    {"signal": "vector", "loss": "all"},
    {"signal": "text", "loss": "all"},
    {"signal": "none", "loss": "all"},
    {"words": "arbitrary_shared"},
    {"words": "arbitrary_distinct"},
    {"signal": "vector", "words": "arbitrary_distinct"},
    {"signal": "text", "loss": "all", "words": "arbitrary_shared"},
    {"signal": "none", "words": "arbitrary_distinct"},
]
"""All signals with both losses, and arbitrary words with every signal."""
SHAPE = DecoderConfig(name="micro", layers=2, width=32, heads=2, context=CONTEXT)
MOODS = (("poor", "grim", "sad", "cold"), ("fine", "bright", "happy", "warm"))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings.values()))
class TestEverySetting(StrategyConformance):
    @pytest.fixture(autouse=True)
    def _set(self, settings: dict[str, str]) -> None:
        self.settings = settings

    def strategy(self) -> Strategy:
        return load_strategy_class("task_signal")(**self.settings)


class Built(StrategyConformance):
    """A strategy of some settings around the suite's decoder."""

    def __init__(self, **settings: str):
        self.settings = settings

    def strategy(self) -> Strategy:
        return load_strategy_class("task_signal")(**self.settings)


def _shown(strategy: Strategy, task: Task, example: Example, purpose: str) -> list[str]:
    """The prefix and each branch, special tokens by name and labelled tokens in square brackets."""
    vocabulary = strategy.vocabulary
    names = {
        vocabulary.start: "<start>",
        vocabulary.delimiter: "<delim>",
        vocabulary.extract: "<extract>",
        vocabulary.end: "<end>",
        **{number: token for token, number in vocabulary.added.items()},
    }
    (encoded,) = strategy.encode(example, task, vocabulary, CONTEXT, purpose)  # type: ignore[arg-type]
    texts, begin = [], 0
    for length in (encoded.prefix, *encoded.branches):
        text, before = "", False
        here = slice(begin, begin + length)
        for token, label in zip(encoded.tokens[here], encoded.labelled[here], strict=True):
            text += "[" if label and not before else "]" if before and not label else ""
            before = bool(label)
            text += names.get(int(token)) or vocabulary.decode([int(token)])
        texts.append(text + "]" * before)
        begin += length
    return texts


REVIEW = Example("train:0", ("a dull film", "at night"), (), 1, (" bad", " good", " so so"))
REVERSED = Example("train:0", ("the dog",), (), None, references=("god eht",))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "<|task:review|>a dull film<delim>at night<extract>[ good<end>]"),
        ({"signal": "vector"}, "<start>a dull film<delim>at night<extract>[ good<end>]"),
        ({"signal": "none"}, "<start>a dull film<delim>at night<extract>[ good<end>]"),
        (
            {"signal": "text"},
            "<start>Say the review.<delim>a dull film<delim>at night<extract>[ good<end>]",
        ),
        (
            {"loss": "all"},
            "<|task:review|>[a dull film<delim>at night<extract> good<end>]",
        ),
        (
            {"words": "arbitrary_shared"},
            "<|task:review|>a dull film<delim>at night<extract>[<|label:1|><end>]",
        ),
        (
            {"words": "arbitrary_distinct"},
            "<|task:review|>a dull film<delim>at night<extract>[<|label:review:1|><end>]",
        ),
    ],
)
def test_how_a_row_is_written_in_training(settings: dict[str, str], expected: str) -> None:
    strategy = Built(**settings).built()
    assert _shown(strategy, TASKS[0], REVIEW, "train") == [expected]


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("natural", ["[ bad<end>]", "[ good<end>]", "[ so so<end>]"]),
        ("arbitrary_shared", [f"[<|label:{index}|><end>]" for index in range(3)]),
        ("arbitrary_distinct", [f"[<|label:review:{index}|><end>]" for index in range(3)]),
    ],
)
def test_all_answers_are_asked_whatever_the_loss(words: str, answers: list[str]) -> None:
    strategy = Built(words=words, loss="all").built()
    prefix, *branches = _shown(strategy, TASKS[0], REVIEW, "answer")
    assert prefix == "<|task:review|>a dull film<delim>at night<extract>"
    assert branches == answers


def test_an_open_row_is_trained_as_a_whole_too() -> None:
    strategy = Built(loss="all", words="arbitrary_shared").built()
    (trained,) = _shown(strategy, TASKS[3], REVERSED, "train")
    assert trained == "<|task:reverse|>[the dog<extract> god eht<end>]"
    (asked,) = _shown(strategy, TASKS[3], REVERSED, "answer")
    assert asked == "<|task:reverse|>the dog<extract>"


def test_scores_and_choices_keep_their_text_under_arbitrary_words() -> None:
    strategy = Built(words="arbitrary_distinct").built()
    scored, chosen = examples(TASKS[1], 1)[0], examples(TASKS[2], 1)[0]
    assert _shown(strategy, TASKS[1], scored, "answer")[2] == "[ 0.25<end>]"
    assert _shown(strategy, TASKS[2], chosen, "answer")[1] == "[ it was late<end>]"


def test_an_instruction_loses_nothing_where_a_row_is_too_long() -> None:
    strategy = Built(signal="text").built()
    told = replace(TASKS[0].config, instruction="Say whether the film is good. " * 2)
    long = replace(REVIEW, segments=(" ".join(SENTENCES) * 8,))
    (prefix, *_) = _shown(strategy, Task.without_rows(told), long, "answer")
    assert prefix.startswith(f"<start>{told.instruction}<delim>the old man")


def test_the_description_stands_in_for_an_instruction() -> None:
    config = replace(TASKS[0].config, instruction="", description="Is a film good?")
    strategy = Built(signal="text").built()
    (written,) = _shown(strategy, Task.without_rows(config), REVIEW, "train")
    assert written.startswith("<start>Is a film good?<delim>")


def test_a_task_without_any_words_of_its_own_is_refused() -> None:
    strategy = load_strategy_class("task_signal")(signal="text")
    mute = Task.without_rows(replace(TASKS[0].config, instruction=""))
    vocabulary = base_vocabulary()
    decoder = Decoder(SHAPE, vocabulary.size)
    with pytest.raises(UserError) as error:
        strategy.build(decoder, [mute], vocabulary)
    assert str(error.value) == (
        "task 'review' has neither an instruction nor a description to put before its rows"
        " (task.review.instruction)\n"
        "  give it one, or take another strategy.signal: token, vector, none"
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [32, 32, 32, 32]),
        ({"signal": "vector"}, [32, 32, 32, 32]),
        ({"signal": "text"}, [0, 0, 0, 0]),
        ({"signal": "none"}, [0, 0, 0, 0]),
        ({"signal": "none", "words": "arbitrary_shared"}, [0, 0, 0, 0]),
        ({"signal": "token", "words": "arbitrary_distinct"}, [4 * 32, 32, 32, 32]),
    ],
)
def test_what_a_task_adds(settings: dict[str, str], expected: list[int]) -> None:
    """Rows of width 32: a token or a vector for each task, a token for each of the three classes of the first."""
    strategy = Built(**settings).built()
    plain = Decoder(SHAPE, base_vocabulary().size)
    shared_words = 3 * 32 if settings.get("words") == "arbitrary_shared" else 0
    counted = parameters(strategy, TASKS)
    assert list(counted["per_task"].values()) == expected
    assert counted["shared"] == sum(p.numel() for p in plain.parameters()) + shared_words
    assert sum(p.numel() for task in TASKS for p in strategy.own_parameters(task)) == (
        4 * 32 if settings.get("signal") == "vector" else 0
    )


def test_a_tasks_vector_starts_the_same_whatever_the_other_tasks_are() -> None:
    vocabulary = base_vocabulary()
    vectors = []
    for tasks in (TASKS, TASKS[::-1], TASKS[1:2]):
        strategy = load_strategy_class("task_signal")(signal="vector")
        strategy.build(Decoder(SHAPE, vocabulary.size), tasks, vocabulary, seed=3)
        (vector,) = strategy.own_parameters(TASKS[1])
        vectors.append(vector)
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[0], vectors[2])


def _places(batch: Batch, index: int) -> torch.Tensor:
    """Where the tokens of an example lie in the rows laid flat: they end with its last branch."""
    end = int(batch.branch_ends[batch.branch_examples == index].max())
    return torch.arange(end + 1 - len(batch.encoded[index].tokens), end + 1)


def test_a_vector_is_added_to_every_token_of_its_rows_alone() -> None:
    """Packed with rows of all tasks, against each row alone through a decoder whose embeddings hold the vector."""
    suite = Built(signal="vector")
    strategy = suite.built()
    batch = suite.batch(strategy)
    found = hidden_states(strategy.decoder, batch, strategy.offsets(batch, None))
    assert batch.tokens.shape[0] < len(batch.task)  # several examples share a row
    plain = strategy.decoder.position_embedding.weight.data
    positions = plain.clone()
    for index, encoded in enumerate(batch.encoded):
        (vector,) = strategy.own_parameters(TASKS[int(batch.task[index])])
        strategy.decoder.position_embedding.weight.data = positions + vector.detach()
        alone = strategy.decoder(torch.from_numpy(encoded.tokens).long()[None])[0]
        torch.testing.assert_close(found[_places(batch, index)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("purpose", ["train", "answer"])
def test_every_token_is_known_by_its_example(purpose: str) -> None:
    suite = Built()
    strategy = suite.built()
    rows = [examples(task, 3)[row] for row in range(3) for task in TASKS]
    encoded = [
        suite.encode(strategy, TASKS[index % 4], row, purpose)[0]  # type: ignore[arg-type]
        for index, row in enumerate(rows)
    ]
    batch = collate(encoded, tasks=[0] * 12, rows=range(12), row_tokens=300)
    owners = token_examples(batch)
    for index, one in enumerate(encoded):
        mine = _places(batch, index)
        assert batch.tokens.flatten()[mine].tolist() == one.tokens.tolist()
        assert owners[mine].tolist() == [index] * len(one.tokens)


def _moods(name: str, **more: object) -> Task:
    config = TaskConfig(
        name=name,
        kind="classification",
        source=SourceConfig(),
        target="",
        labels=["bad", "good"],
        answers=[" bad", " good"],
        instruction=f"Say the {name}.",
    )
    return Task.without_rows(replace(config, **more))  # type: ignore[arg-type]


TWINS = (_moods("mood"), _moods("opposite"))
"""Two tasks whose rows read the same, and whose answers are each other's opposite."""


def _rows(task: Task) -> list[Example]:
    """All pairs of words of one mood, 32 rows."""
    rows = []
    for mood, words in enumerate(MOODS):
        for pair in itertools.product(words, repeat=2):
            right = 1 - mood if task.name == "opposite" else mood
            text = (" ".join(pair),)
            rows.append(Example(f"validation:{len(rows)}", text, (), right, (" bad", " good")))
    return rows


def _trained(steps: int = 80, **settings: str) -> Strategy:
    strategy = load_strategy_class("task_signal")(**settings)
    words = [f"{word} {word}" for mood in MOODS for word in mood] + ["good good", "bad bad"]
    vocabulary = Vocabulary.train(words * 4, 300).with_special(strategy.special_tokens(TWINS))
    decoder = Decoder(SHAPE, vocabulary.size, base_vocabulary=vocabulary.base.size)
    # A signal times a mood: from weights as small as a decoder's usual ones this takes several times as many steps.
    for parameter in decoder.parameters():
        parameter.data *= 8 if parameter.dim() == 2 else 1
    strategy.build(decoder, TWINS, vocabulary)
    encoded = [
        (strategy.encode(row, task, vocabulary, CONTEXT, "train")[0], index)
        for index, task in enumerate(TWINS)
        for row in _rows(task)
    ]
    batch = collate(
        [one for one, _ in encoded], tasks=[task for _, task in encoded], rows=range(64)
    )
    optimizer = torch.optim.AdamW(strategy.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        (strategy.losses(batch) * batch.weight).sum().backward()
        torch.nn.utils.clip_grad_norm_(strategy.parameters(), 1.0)
        optimizer.step()
    return strategy.eval()


def _answers(strategy: Strategy, task: Task) -> list[Answer]:
    store = EncodedSplit.build(
        _rows(task),
        lambda row: strategy.encode(row, task, strategy.vocabulary, CONTEXT, "answer"),
    )
    return answer_split(strategy, task, store, batch_tokens=200, decode=True)


def _accuracy(strategy: Strategy) -> dict[str, float]:
    return {
        task.name: sum(
            answer.value == row.target
            for answer, row in zip(_answers(strategy, task), _rows(task), strict=True)
        )
        / 32
        for task in TWINS
    }


@pytest.mark.parametrize("signal", ["token", "vector", "text"])
def test_a_wrong_signal_gives_the_other_tasks_answers(signal: str) -> None:
    strategy = _trained(signal=signal)
    assert min(_accuracy(strategy).values()) > 0.9
    strategy.disturb("shuffled")
    shuffled = _accuracy(strategy)
    # Of two tasks about half the rows keep their signal: 32 rows within 3 standard deviations of a half.
    assert all(abs(value - 0.5) < 0.27 for value in shuffled.values())
    strategy.disturb("wrong")
    assert max(_accuracy(strategy).values()) < 0.1


def test_without_a_signal_twins_cannot_both_be_right() -> None:
    accuracy = _accuracy(_trained(steps=20, signal="none"))
    assert sum(accuracy.values()) == 1.0


@pytest.mark.parametrize("words", ["natural", "arbitrary_shared", "arbitrary_distinct"])
def test_what_is_decoded_freely_is_what_ranks_first_in_the_tasks_own_words(words: str) -> None:
    strategy = _trained(words=words)
    for task in TWINS:
        for answer, row in zip(_answers(strategy, task), _rows(task), strict=True):
            assert answer.value == row.target
            assert answer.decoded == row.answers[row.target].strip()


@pytest.mark.parametrize("signal", ["token", "vector", "text"])
@pytest.mark.parametrize("task", TASKS[:3], ids=lambda task: task.name)
def test_free_decoding_is_the_slow_loop(signal: str, task: Task) -> None:
    """Reading everything again for each token, for rows whose longest answers are not equally long."""
    suite = Built(signal=signal)
    strategy = suite.built()
    for parameter in strategy.parameters():
        parameter.data *= 10
    decoder, vocabulary = strategy.decoder, strategy.vocabulary
    rows = examples(task, 4)
    encoded = [suite.encode(strategy, task, row, "answer")[0] for row in rows]
    expected = []
    for one in encoded:
        tokens, written = one.tokens[: one.prefix].tolist(), []
        for _ in range(max(one.branches)):
            vector = [*strategy.own_parameters(task)]
            hidden = decoder(torch.tensor([tokens]), offsets=vector[0] if vector else None)[0, -1]
            logits = decoder.logits(hidden)
            special = range(vocabulary.base_size, vocabulary.size)
            logits[[token for token in special if token != vocabulary.end]] = -torch.inf
            chosen = int(logits.argmax())
            if chosen == vocabulary.end:
                break
            tokens.append(chosen)
            written.append(chosen)
        expected.append(vocabulary.decode(written).strip())
    batch = collate(encoded, tasks=[0] * 4, rows=range(4))
    assert strategy.decoded(batch, task) == expected
    assert any(expected)


def test_another_tasks_label_word_is_no_answer() -> None:
    strategy = _trained(words="arbitrary_distinct")
    strategy.disturb("wrong")
    texts = Counter(answer.decoded for answer in _answers(strategy, TWINS[0]))
    assert texts == {"<|label:opposite:0|>": 16, "<|label:opposite:1|>": 16}


def test_arbitrary_words_are_one_token_each_and_the_same_for_every_seed_and_order() -> None:
    strategy = load_strategy_class("task_signal")(words="arbitrary_shared", signal="none")
    assert strategy.special_tokens(TASKS) == ("<|label:0|>", "<|label:1|>", "<|label:2|>")
    assert strategy.special_tokens(TWINS) == ("<|label:0|>", "<|label:1|>")
    strategy = load_strategy_class("task_signal")(words="arbitrary_distinct", signal="none")
    assert strategy.special_tokens(TWINS) == (
        "<|label:mood:0|>",
        "<|label:mood:1|>",
        "<|label:opposite:0|>",
        "<|label:opposite:1|>",
    )


def _openings(strategy: Strategy, task: Task, count: int) -> list[str]:
    example = examples(task, 1)[0]
    return [
        _shown(strategy, task, replace(example, row=f"test:{row}"), "answer")[0].split(">")[0]
        for row in range(count)
    ]


def test_the_wrong_signal_is_always_the_next_tasks() -> None:
    strategy = Built().built()
    strategy.disturb("wrong")
    names = [task.name for task in TASKS]
    for task, other in zip(TASKS, [*names[1:], names[0]], strict=True):
        assert set(_openings(strategy, task, 5)) == {f"<|task:{other}|"}


def test_a_shuffled_signal_is_each_tasks_equally_often_and_always_the_same() -> None:
    strategy = Built().built()
    strategy.disturb("shuffled")
    found = Counter(_openings(strategy, TASKS[0], 800))
    assert set(found) == {f"<|task:{task.name}|" for task in TASKS}
    # 200 expected, standard deviation 12.
    assert all(abs(count - 200) < 45 for count in found.values())
    again = Built().built()
    again.disturb("shuffled")
    assert _openings(again, TASKS[0], 50) == _openings(strategy, TASKS[0], 50)


def test_a_control_is_part_of_what_encodings_are_cached_by() -> None:
    one, two = Built(signal="text").built(), Built(signal="text").built()
    one.disturb("wrong")
    renamed = [
        Task.without_rows(replace(task.config, instruction=f"Give the {task.name}."))
        for task in TASKS
    ]
    two.tasks = tuple(renamed)
    two.disturb("wrong")
    plain = [vars(strategy)["controlled_signals"] for strategy in (one, two)]
    assert plain[0] != plain[1]
    assert all(isinstance(value, str) for value in plain)


@pytest.mark.parametrize(
    ("settings", "tasks", "message"),
    [
        (
            {"signal": "none"},
            TASKS,
            "the run has no signal (strategy.signal=none) that could be wrong (signal=wrong)",
        ),
        (
            {},
            TASKS[:1],
            "the run knows task 'review' alone, and no other signal to give (signal=wrong)",
        ),
        (
            {"signal": "text"},
            (TASKS[0], _moods("mood", instruction="Say the review.")),
            "tasks 'review' and 'mood' have the same instruction, so it cannot be wrong (signal=wrong)",
        ),
    ],
)
def test_a_control_that_cannot_be(
    settings: dict[str, str], tasks: tuple[Task, ...], message: str
) -> None:
    strategy = load_strategy_class("task_signal")(**settings)
    vocabulary = base_vocabulary().with_special(strategy.special_tokens(tasks))
    strategy.build(Decoder(SHAPE, vocabulary.size), tasks, vocabulary)
    with pytest.raises(UserError) as error:
        strategy.disturb("wrong")
    assert str(error.value) == message


def test_a_strategy_without_a_signal_refuses_a_control() -> None:
    strategy = load_strategy_class("zero_shot")()
    with pytest.raises(UserError) as error:
        strategy.disturb("shuffled")
    assert str(error.value) == (
        "strategy 'ZeroShot' tells a task by no signal, so none can be shuffled (signal=shuffled)"
    )
