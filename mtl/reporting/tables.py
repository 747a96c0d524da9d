"""The tables of a study, once: for the page, as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mtl.comparing.answer import Answer, Interval, Standing
from mtl.comparing.results import Results
from mtl.record.numbers import MISSING, count, duration
from mtl.record.numbers import score as as_score

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table."""

    text: str
    link: str = ""
    """To the runs behind it."""
    note: str = ""
    """Why there is nothing, or what it means."""
    strong: bool = False
    """A claim stands behind it."""


@dataclass(frozen=True)
class Table:
    """One table."""

    name: str
    caption: str
    header: list[str]
    rows: list[list[Entry]]
    sections: dict[int, str] = field(default_factory=dict)
    """Row number to a heading that stands above it."""


def leaderboard(results: Results, answer: Answer) -> Table:
    """Every arm with its score, its difference to the reference and its cost; the zero-shot panel apart."""
    header = [
        "arm", "seeds", "score", "own checkpoints", "interquartile mean", "less reference, points", "p (Holm)",
        "verdict", "P(better)", "tokens", "TFLOP", "seconds", "parameters", "tuned",
    ]  # fmt: skip
    apart = [index for index, one in enumerate(answer.standings) if one.panel == "zero-shot"]
    return Table(
        "leaderboard",
        f"Mean over seeds of {_primary(results)} with 95 % intervals, and what a run cost",
        header,
        [_standing(one) for one in answer.standings],
        dict.fromkeys(apart[:1], "zero-shot: saw no label, in no comparison"),
    )


def scores(results: Results, answer: Answer) -> Table:
    """Every task under every arm."""
    arms = [s.arm for s in answer.standings]
    tasks = list(dict.fromkeys(c.task for c in answer.cells if c.task != "average"))
    rows = []
    for task in tasks:
        first = next(c for c in answer.cells if c.task == task)
        row = [Entry(f"{task} ({first.metric})"), _number(first.chance)]
        for arm in arms:
            cell = answer.cell(arm, task)
            verdict = next(
                (c.verdict for c in answer.comparisons if (c.arm, c.task) == (arm, task)), ""
            )
            if cell is None:
                row.append(Entry(MISSING, note="not trained on this task, or no run has finished"))
                continue
            row.append(
                Entry(
                    interval(cell.mean),
                    link=f"#runs-{anchor(arm)}",
                    strong=verdict == "better",
                    note="better than the reference" if verdict == "better" else "",
                )
            )
        rows.append(row)
    return Table(
        "scores",
        "Primary metric of each task, mean over seeds with 95 % intervals; bold is a claim to be better than the "
        "reference",
        ["task (metric)", "chance", *arms],
        rows,
    )


def comparisons(answer: Answer) -> Table:
    """Every difference to the reference, with its test."""
    rows = []
    for one in answer.comparisons:
        relative = (
            Entry(MISSING, note=one.relative_why or "")
            if one.relative is None
            else Entry(f"{one.relative:+.1f} %")
        )
        rows.append(
            [
                Entry(one.task),
                Entry(one.arm, link=f"#runs-{anchor(one.arm)}"),
                Entry(one.reference, link=f"#runs-{anchor(one.reference)}"),
                Entry(str(len(one.seeds))),
                Entry(MISSING) if not one.seeds else Entry(interval(one.points, 1, signed=True)),
                Entry(MISSING, note="chance is not known")
                if one.normalised is None
                else Entry(interval(one.normalised, 1, signed=True)),
                relative,
                Entry(MISSING) if one.effect is None else Entry(f"{one.effect:+.1f}"),
                _p(one.p),
                _p(one.p_holm),
                Entry(one.verdict, note=one.verdict_why, strong=one.verdict != "undecided"),
                Entry(one.verdict_why),
            ]
        )
    header = [
        "task", "arm", "reference", "seeds", "points", "normalised points", "relative", "in SDs", "p", "p (Holm)",
        "verdict", "why",
    ]  # fmt: skip
    return Table("comparisons", "Differences to the reference, paired by seed", header, rows)


def trials(results: Results, way: str) -> Table:
    """Every run of every search.

    :param way: From the page to the study's folder.
    """
    names = list(dict.fromkeys(n for arm in results.arms for t in arm.trials for n in t.parameters))
    rows = []
    for arm in results.arms:
        for trial in arm.trials:
            chosen = trial.ending == "finished" and trial.parameters == arm.chosen
            row = [
                Entry(arm.name),
                Entry(str(trial.index), link=f"{way}/{trial.run}/" if trial.run else ""),
                *(Entry(_setting(trial.parameters.get(name))) for name in names),
                *(
                    Entry(f"{trial.values[i]:.4g}")
                    if i < len(trial.values)
                    else Entry(MISSING, note=trial.reason or "")
                    for i in range(len(results.search.objectives))
                ),
                Entry(trial.ending, note=trial.reason or ""),
                Entry("chosen" if chosen else "", strong=chosen),
            ]
            rows.append(row)
    header = ["arm", "trial", *names, *results.search.objectives, "ending", ""]
    return Table("trials", "Runs of the search, on the selection split alone", header, rows)


def markdown(tables: Sequence[Table]) -> str:
    """The tables as GitHub draws them."""
    parts = []
    for table in tables:
        lines = [f"## {table.caption}", "", _line(table.header), _line(["---"] * len(table.header))]
        for index, row in enumerate(table.rows):
            if index in table.sections:
                lines.append(_line([f"*{table.sections[index]}*", *[""] * (len(row) - 1)]))
            lines.append(_line([_markdown(entry) for entry in row]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """The tables for a paper that has the packages booktabs and graphicx."""
    parts = []
    for table in tables:
        columns = "l" + "r" * (len(table.header) - 1)
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{tex(table.caption)}}}", rf"\label{{tab:{table.name}}}",
            r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
            " & ".join(tex(name) for name in table.header) + r" \\", r"\midrule",
        ]  # fmt: skip
        for index, row in enumerate(table.rows):
            if index in table.sections:
                lines.append(r"\midrule")
                lines.append(
                    rf"\multicolumn{{{len(row)}}}{{l}}{{\emph{{{tex(table.sections[index])}}}}} \\"
                )
            lines.append(" & ".join(_latex(entry) for entry in row) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def tex(text: str) -> str:
    """Text in which LaTeX sees no command."""
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def anchor(name: str) -> str:
    """A name as an anchor of the page."""
    return "".join(sign if sign.isalnum() else "-" for sign in name)


def interval(found: Interval, decimals: int = 3, *, signed: bool = False) -> str:
    """``0.412 [0.380, 0.441]``; the value alone where there is no interval."""
    sign = "+" if signed else ""
    text = f"{found.value:{sign}.{decimals}f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{found.low:{sign}.{decimals}f}, {found.high:{sign}.{decimals}f}]"


def _standing(one: Standing) -> list[Entry]:
    comparison, cost, link = one.comparison, one.cost, f"#runs-{anchor(one.arm)}"
    none = "the reference itself" if one.panel == "supervised" else "saw no labels"
    apart = comparison is None or not comparison.seeds
    tokens = count(cost.tokens)
    if cost.pretraining_tokens:
        tokens += f" + {count(cost.pretraining_tokens)} before"

    def maybe(found: Interval | None, why: str, decimals: int = 3) -> Entry:
        return (
            Entry(MISSING, note=why)
            if found is None
            else Entry(interval(found, decimals), link=link)
        )

    claim = not apart and comparison is not None and comparison.verdict != "undecided"
    return [
        Entry(one.arm, link=link),
        Entry(str(one.seeds)),
        Entry(interval(one.average), link=link),
        maybe(one.own_checkpoint, "not measured: there are no labels to choose a checkpoint by"),
        maybe(one.interquartile_mean, "not defined here"),
        Entry(MISSING, note=none)
        if apart or comparison is None
        else Entry(interval(comparison.points, 1, signed=True), strong=claim),
        Entry(MISSING, note=none) if apart or comparison is None else _p(comparison.p_holm),
        Entry(MISSING, note=none)
        if apart or comparison is None
        else Entry(comparison.verdict, note=comparison.verdict_why, strong=claim),
        maybe(one.probability_of_improvement, none, 2),
        Entry(tokens, note="; ".join(comparison.unequal) if comparison else ""),
        Entry(f"{cost.flops / 1e12:.2f}"),
        Entry(duration(cost.seconds)),
        Entry(count(cost.parameters_total), note=f"{count(cost.parameters_shared)} shared"),
        Entry(f"{cost.tuning_trials} x {count(cost.tuning_tokens / cost.tuning_trials)}")
        if cost.tuning_trials
        else Entry(MISSING, note="nothing was tuned"),
    ]


def _primary(results: Results) -> str:
    return (
        "the average over tasks (chance 0, perfect 1)"
        if results.primary == "average"
        else results.primary
    )


def _number(value: float | None) -> Entry:
    return Entry(MISSING, note="not known") if value is None else Entry(as_score(value))


def _p(value: float | None) -> Entry:
    return Entry(MISSING, note="no test") if value is None else Entry(f"{value:.3g}")


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(entry: Entry) -> str:
    text = entry.text.replace("|", "\\|").replace("<", "&lt;")
    return f"**{text}**" if entry.strong else text


def _latex(entry: Entry) -> str:
    return rf"\textbf{{{tex(entry.text)}}}" if entry.strong else tex(entry.text)
