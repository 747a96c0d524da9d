"""Written texts: to read on a terminal, JSON anywhere else."""

import io
import json

import pytest

from mtl.record.texts import print_texts, visible

ANSWERS = [
    {"prompt": "Tom [b]is", "sample": 1, "text": " cold.\nVery.", "stopped_by": None},
    {"prompt": "Tom [b]is", "sample": 2, "text": " \x1b[2Jwarm\r", "stopped_by": "."},
]


class Terminal(io.StringIO):
    """A terminal that keeps what it is sent."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_json_where_there_is_no_terminal():
    file = io.StringIO()
    print_texts(ANSWERS, samples=2, file=file)
    assert [json.loads(line) for line in file.getvalue().splitlines()] == ANSWERS


def test_a_terminal_shows_the_prompt_dim_and_the_text_plain(terminal):
    print_texts(ANSWERS, samples=2, file=terminal)
    first, second = terminal.getvalue().split("\n\n")
    assert first == "\x1b[2;3m[1 of 2]\x1b[0m\n\x1b[2mTom [b]is\x1b[0m cold.\nVery."
    assert second == "\x1b[2;3m[2 of 2]\x1b[0m\n\x1b[2mTom [b]is\x1b[0m \\x1b[2Jwarm\\x0d\n"


def test_one_sample_of_no_prompt_is_the_text_alone(terminal):
    print_texts([{**ANSWERS[0], "prompt": None}], samples=1, file=terminal)
    assert terminal.getvalue() == " cold.\nVery.\n"


def test_long_lines_are_left_to_the_terminal(terminal):
    print_texts([{"prompt": None, "sample": 1, "text": "word " * 100}], samples=1, file=terminal)
    assert terminal.getvalue() == "word " * 100 + "\n"


def test_each_object_is_printed_as_it_comes():
    seen, file = [], io.StringIO()

    def coming():
        for answer in ANSWERS:
            seen.append(len(file.getvalue().splitlines()))
            yield answer

    print_texts(coming(), samples=2, file=file)
    assert seen == [0, 1]


def test_control_characters_are_written_out():
    assert visible("a\tb\nc\x07\x1b[0m\x9b") == "a\tb\nc\\x07\\x1b[0m\\x9b"


def test_a_terminal_is_left_to_the_progress_until_all_are_there(terminal):
    def coming():
        for answer in ANSWERS:
            assert terminal.getvalue() == ""
            yield answer

    print_texts(coming(), samples=2, file=terminal)
    assert terminal.getvalue().count("Tom") == 2
