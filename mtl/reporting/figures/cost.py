"""Score against what it cost, with the front of those that nobody beats at no higher cost."""

from __future__ import annotations

from mtl.comparing.answer import Answer, Standing
from mtl.reporting.svg import Drawing, Figure, Scale, colour, legend, padded, short

COSTS = {
    "tokens": "training tokens",
    "flops": "operations of training",
    "seconds": "seconds of training",
    "parameters_total": "parameters",
}
WIDE, TALL = 330, 240
HEADER = ["cost", "arm", "value", "score", "low", "high", "on_front"]


def cost(answer: Answer) -> Figure | None:
    """A picture for each cost; the zero-shot panel, whose scores are no comparison, is left out."""
    standings = [s for s in answer.standings if s.panel == "supervised"]
    standings = standings or answer.standings
    if len(standings) < 2:
        return None
    order = [s.arm for s in answer.standings]
    columns = 2
    drawing = Drawing(columns * WIDE * 1.5, 2 * TALL, "Score against cost")
    rows: list[list[object]] = []
    for position, name in enumerate(COSTS):
        x0 = (position % columns) * WIDE * 1.5
        y0 = (position // columns) * TALL
        _panel(drawing, standings, order, name, x0, y0)
        rows += [_row(name, standing) for standing in standings]
    return Figure(
        "cost",
        "Score against cost",
        "Mean over seeds with its 95 % interval. The line joins those that no other scores higher than at no "
        "higher cost.",
        legend([s.arm for s in standings], order) + drawing.svg(),
        HEADER,
        rows,
    )


def _panel(
    drawing: Drawing,
    standings: list[Standing],
    order: list[str],
    name: str,
    x0: float,
    y0: float,
) -> None:
    values = [getattr(s.cost, name) for s in standings]
    log = min(values) > 0 and max(values) / min(values) > 3
    low, high = (min(values) / 1.25, max(values) * 1.25) if log else padded(values)
    ends = [
        v
        for s in standings
        for v in (s.average.low, s.average.high, s.average.value)
        if v is not None
    ]
    y_low, y_high = padded(ends)
    x = Scale(low=low, high=high, start=x0 + 52, end=x0 + WIDE * 1.5 - 16, log=log)
    y = Scale(low=y_low, high=y_high, start=y0 + TALL - 44, end=y0 + 28)
    drawing.text(x.start, y0 + 16, COSTS[name], kind="heading")
    drawing.axes(x, y, x_label=f"{COSTS[name]}{' (log)' if log else ''}")
    front = sorted((getattr(s.cost, name), s.average.value) for s in standings if s.efficient[name])
    places: list[tuple[float, float]] = []
    for value, score in front:
        if places:
            places.append((x(value), places[-1][1]))
        places.append((x(value), y(score)))
    if len(places) > 1:
        drawing.path(places, colour="var(--ink)", wide=1, dash="4 3")
    for standing in standings:
        position = order.index(standing.arm)
        value, average = getattr(standing.cost, name), standing.average
        if average.low is not None and average.high is not None:
            ends_of = [(x(value), y(average.low)), (x(value), y(average.high))]
            drawing.path(ends_of, colour=colour(position), wide=1.4)
        note = f"{standing.arm}: {average.value:.4g} at {short(value)}"
        drawing.dot(
            x(value),
            y(average.value),
            colour=colour(position),
            filled=standing.efficient[name],
            note=note,
            size=5,
        )


def _row(name: str, standing: Standing) -> list[object]:
    average = standing.average
    return [
        name, standing.arm, getattr(standing.cost, name), average.value, average.low, average.high,
        standing.efficient[name],
    ]  # fmt: skip
