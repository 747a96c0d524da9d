"""Clean prose that no two documents share, and what the web puts around it."""

from __future__ import annotations

import random

NOUNS = [f"{a}{b}" for a in ("gar", "hol", "bri", "mas", "tel", "win", "sto", "cra") for b in (
    "den", "low", "dge", "ket", "ling", "ter", "ner", "ver", "set", "pel", "wick", "bourne")]  # fmt: skip
VERBS = [f"{a}{b}" for a in ("walk", "look", "turn", "call", "lift", "mend", "paint", "mark", "reach") for b in (
    "ed", "s", "ing")]  # fmt: skip
JOINTS = ["and", "that", "with", "of the", "to the", "near the", "beside a", "from the"]


def sentence(draw: random.Random) -> str:
    """Ten to twenty words that end in a full stop."""
    parts = ["The", draw.choice(NOUNS), draw.choice(VERBS)]
    for _ in range(draw.randint(3, 5)):
        parts += [draw.choice(JOINTS), draw.choice(NOUNS), draw.choice(VERBS)]
    return " ".join(parts) + "."


def document(seed: int, sentences: int = 18) -> str:
    """Paragraphs of three sentences, one a line."""
    draw = random.Random(seed)
    lines = [" ".join(sentence(draw) for _ in range(3)) for _ in range(sentences // 3)]
    return "\n".join(lines)


def edited(text: str, edits: int) -> str:
    """The text with ``edits`` words, evenly spread and far from each other, replaced by new ones."""
    words = text.split(" ")
    for number in range(edits):
        words[(2 * number + 1) * len(words) // (2 * edits)] = f"changed{number}"
    return " ".join(words)


MENU = "Home\nAbout us\nContact\nProducts and prices\nLog in"
COOKIES = "This site uses cookies to give you the best experience of our pages."
SCRIPT = "Please enable Javascript in your browser to see this page."


def boilerplate(seed: int) -> dict[str, str]:
    """Documents that are nothing but boilerplate, by kind."""
    draw = random.Random(seed)
    picked = [draw.choice(NOUNS) for _ in range(200)]
    line = sentence(draw)
    return {
        "menu": "\n".join(f"{word.title()} pages" for word in picked[:60]),
        "cookie banner": "\n".join([COOKIES] * 3 + [f"We use cookies for {word} pages." for word in picked[:9]]),
        "lorem ipsum": document(seed + 1) + "\nLorem ipsum dolor sit amet, consectetur adipiscing elit.",
        "code": document(seed + 2) + "\nif (page) { document.title = 'page'; } // and that is it.",
        "repeated lines": "\n".join([line] * 12 + [sentence(draw) for _ in range(4)]),
        "list": "\n".join(f"- the {word} of the {word} to be." for word in picked[:40]),
        "numbers": document(seed + 3, 3) + "\n" + " ".join(str(draw.random()) for _ in range(120)) + " the end of it.",
        "hashes": " ".join(f"#{word}" for word in picked[:80]) + " the be to of and that.",
        "tail of dots": "\n".join(f"{sentence(draw)[:-1]}..." for _ in range(10)),
        "too short": sentence(draw),
        "one long word": "\n".join(["x" * 1001, sentence(draw)]),
    }  # fmt: skip
