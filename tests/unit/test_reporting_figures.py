"""Figures of a page show exactly what their data say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricated import arm, results
from reported import axis, data, panels, points, study, write

from mtl.comparing.analysis import analyse
from mtl.comparing.results import Results


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    found = study()
    return found, write(found, tmp_path_factory.mktemp("study"))


def test_the_curves_are_drawn_where_their_data_say(written: tuple[Results, Path]) -> None:
    _, page = written
    (svg,) = panels(page, "curves_average")
    (x, x_pixel), (y, y_pixel) = axis(svg, "x"), axis(svg, "y")
    rows = data(page, "curves_average")
    for group in svg.xpath("//g[@class='series']"):
        name = group.find("title").text.partition(":")[0]
        own = [row for row in rows if row["arm"] == name]
        line = points(group.find("polyline"))
        assert len(own) == len(line) == 2
        for row, (px, py) in zip(own, line, strict=True):
            assert x(px) == pytest.approx(float(row["tokens"]), abs=0.2 * x_pixel)
            assert y(py) == pytest.approx(float(row["mean"]), abs=0.2 * y_pixel)
        ends = points(group.find("polygon"))
        lows = [float(row["low"]) for row in own]
        assert [y(py) for _, py in ends[:2]] == pytest.approx(lows, abs=0.2 * y_pixel)
    first = [row for row in rows if row["arm"] == "x<b>"]
    assert [float(row["tokens"]) for row in first] == [500, 1000]
    assert [float(row["mean"]) for row in first] == pytest.approx([0.1, 0.23])
    assert [float(row["high"]) for row in first] == pytest.approx([0.1, 0.26])


def test_the_forest_is_drawn_where_its_data_say(written: tuple[Results, Path]) -> None:
    found, page = written
    answer = analyse(found)
    rows = data(page, "forest")
    assert len(rows) == len(answer.comparisons)
    for row in rows:
        one = next(c for c in answer.comparisons if (c.arm, c.task) == (row["arm"], row["task"]))
        assert float(row["points"]) == one.points.value
        assert float(row["low"]) == one.points.low
        assert row["verdict"] == one.verdict
    drawn = panels(page, "forest")
    assert [svg.find("title").text for svg in drawn] == ["average", "a", "b"]
    for svg in drawn:
        x, pixel = axis(svg, "x")
        own = [row for row in rows if row["task"] == svg.find("title").text]
        assert len(svg.xpath("//g[@class='row']")) == len(own) == 2
        for row, group in zip(own, svg.xpath("//g[@class='row']"), strict=True):
            (sign,) = group.xpath(f"*[@class='sign {row['verdict']}']")
            place = float(sign.get("cx")) if sign.tag == "circle" else points(sign)[0][0]
            assert (sign.tag == "circle") == (row["verdict"] == "undecided")
            assert x(place) == pytest.approx(float(row["points"]), abs=0.2 * pixel)
            whisker = group.find("line")
            ends = [x(float(whisker.get(end))) for end in ("x1", "x2")]
            assert ends == pytest.approx([float(row["low"]), float(row["high"])], abs=0.2 * pixel)


def test_cost_is_drawn_where_its_data_say(written: tuple[Results, Path]) -> None:
    found, page = written
    rows = data(page, "cost")
    names = ["tokens", "flops", "seconds", "parameters_total"]
    assert list(dict.fromkeys(row["cost"] for row in rows)) == names
    for name, svg in zip(names, panels(page, "cost"), strict=True):
        own = [row for row in rows if row["cost"] == name]
        (x, x_pixel), (y, y_pixel) = axis(svg, "x"), axis(svg, "y")
        for row, group in zip(own, svg.xpath("//g[@class='series']"), strict=True):
            assert group.find("title").text.startswith(row["arm"])
            whisker = group.find("line")
            place = float(whisker.get("x1"))
            assert x(place) == pytest.approx(float(row["value"]), abs=0.2 * x_pixel)
            ends = [y(float(whisker.get(end))) for end in ("y1", "y2")]
            assert ends == pytest.approx([float(row["low"]), float(row["high"])], abs=0.2 * y_pixel)
            rings = group.xpath("circle[@class='ring']")
            assert len(rings) == (row["efficient"] == "yes")
    efficient = {row["arm"] for row in rows if row["efficient"] == "yes"}
    assert "x<b>" in efficient
    assert "a_b%" not in efficient  # dearer and worse
    assert found.reference in {row["arm"] for row in rows}


def test_heat_maps_say_their_numbers(written: tuple[Results, Path]) -> None:
    _, page = written
    rows = data(page, "conflict")
    assert [(r["first"], r["second"]) for r in rows] == [("a", "b"), ("a", "a"), ("b", "b")]
    assert [float(row["value"]) for row in rows] == pytest.approx([-0.25, 0.5, 0.4])
    (svg,) = panels(page, "conflict")
    numbers = [text.text for text in svg.xpath("//text[@class='number']")]
    assert numbers == ["+0.50", "\N{MINUS SIGN}0.25", "\N{MINUS SIGN}0.25", "+0.40"]
    fills = [cell.get("class") for cell in svg.xpath("//rect[@fill-opacity]")]
    assert fills == ["above", "below", "below", "above"]


def test_bars_are_as_long_as_their_shares(written: tuple[Results, Path]) -> None:
    _, page = written
    (svg,) = panels(page, "exposure")
    rows = data(page, "exposure")
    bars = [float(bar.get("width")) for bar in svg.xpath("//rect[@height='17']")]
    assert len(bars) == len(rows)
    assert [bar / 392 for bar in bars] == pytest.approx([float(r["share"]) for r in rows], abs=1e-3)


def test_axes_have_their_figures(tmp_path: Path) -> None:
    growing = results(
        *(
            arm(f"{f}/{n}", {"a": [0.6 + n / 100, 0.61]}, family=f, factors={"tasks": str(n)})
            for f in ("heads", "signal")
            for n in (2, 4)
        ),
        axes={"tasks": ["2", "4"]},
    )
    page = write(growing, tmp_path / "growing")
    rows = data(page, "along_tasks")
    assert {row["measure"] for row in rows} == {
        "average",
        "parameters",
        "parameters of single tasks",
    }
    assert len(rows) == 3 * 4
    first = panels(page, "along_tasks")[0]
    y, pixel = axis(first, "y")
    lines = [points(line) for line in first.xpath("//polyline")]
    drawn = [y(py) for line in lines for _, py in line]
    said = [float(row["value"]) for row in rows if row["measure"] == "average"]
    assert sorted(drawn) == pytest.approx(sorted(said), abs=0.2 * pixel)
