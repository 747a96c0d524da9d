"""A study that nobody ran, its page on disk, and that page read again."""

from __future__ import annotations

import csv
import html.parser
import re
from pathlib import Path
from typing import Any

from fabricated import REFERENCE, arm, results

from mtl.comparing.analysis import analyse
from mtl.comparing.results import Results
from mtl.reporting.page import write_report

VOID = {"meta", "link", "br", "img", "hr", "input", "wbr"}
CONFLICT = {
    "conflict/a/b/cosine": -0.25,
    "conflict/a/same_task_cosine": 0.5,
    "conflict/b/same_task_cosine": 0.4,
    "conflict/a/gradient_norm": 7.0,
    "conflict/mean_cosine": -0.25,
}


def study(**more: Any) -> Results:
    base = {
        "a": [0.60, 0.62, 0.61, 0.6, 0.63, 0.6, 0.61],
        "b": [0.7, 0.71, 0.72, 0.7, 0.7, 0.7, 0.7],
    }
    up = {
        task: [v + 0.1 + 0.001 * i for i, v in enumerate(values)] for task, values in base.items()
    }
    down = {
        task: [v - 0.1 - 0.002 * i for i, v in enumerate(values)] for task, values in base.items()
    }
    own = {task: values[0] for task, values in base.items()}
    return results(
        arm(REFERENCE, base, role="baseline", own=own),
        arm(
            "x<b>",
            up,
            trials=[0.1, 0.3, 0.2],
            conflict=CONFLICT,
            settings=["strategy=x", "a&b=<1>"],
            chosen={"optimizer.learning_rate": 0.002},
        ),
        arm("a_b%", down, tokens=3000),
        arm("lm", {"a": [0.5] * 7, "b": [0.99] * 7}, panel="zero-shot"),
        **more,
    )


def write(found: Results, folder: Path) -> Path:
    """Lay a study out on disk and write its page."""
    for one in found.arms:
        for run in [*one.runs, *one.trials]:
            (folder / str(run.run)).mkdir(parents=True, exist_ok=True)
    found.write(folder)
    return write_report(found, analyse(found), folder, folder / "report")


class Reader(html.parser.HTMLParser):
    """Elements that are closed in their order, every link and every word."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)

    def note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(given["href"])
        names = ("src", "srcset", "data", "xlink:href", "poster", "action")
        self.loaded += [given[name] for name in names if name in given]
        if tag in ("link", "script", "iframe", "object", "embed", "use", "image", "base"):
            self.loaded.append(tag)
        if "id" in given:
            self.ids.append(given["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    return reader


def data(page: Path, name: str) -> list[dict[str, str]]:
    with (page.parent / "data" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def panels(page: Path, name: str) -> list[Any]:
    """The SVGs of a figure, which are well-formed XML."""
    from lxml import etree

    text = page.read_text(encoding="utf-8")
    start = text.index(f'<figure id="figure-{name}">')
    figure = text[start : text.index("</figure>", start)]
    return [
        etree.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))
        for svg in re.findall(r'<div class="panel">(<svg.*?</svg>)</div>', figure, re.DOTALL)
    ]


def tick_value(text: str) -> float:
    sizes = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    number, _, unit = text.replace("\N{MINUS SIGN}", "-").partition(" ")
    return float(number) * sizes.get(unit, 1.0)


def axis(svg: Any, which: str) -> Any:
    """From a pixel back to a number, by what is written beside two ticks; and how far a pixel reaches."""
    ticks = svg.xpath(f"//text[@class='tick {which}']")
    shift = 3.5 if which == "y" else 0.0
    places = [float(tick.get(which)) - shift for tick in (ticks[0], ticks[-1])]
    values = [tick_value(tick.text) for tick in (ticks[0], ticks[-1])]
    slope = (values[1] - values[0]) / (places[1] - places[0])
    return lambda place: values[0] + (place - places[0]) * slope, abs(slope)


def points(element: Any) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in element.get("points").split())
    return [(float(x), float(y)) for x, y in pairs]
