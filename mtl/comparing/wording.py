"""What a study's numbers say, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.comparing.answer import Answer, Comparison, Interval, Transfer
from mtl.comparing.costs import TOKENS, TOKENS_IN_ALL
from mtl.comparing.results import Results
from mtl.comparing.scores import AVERAGE, tasks_of

LISTED = 4


def sentence(results: Results, answer: Answer) -> str:
    """The answer in one sentence, or two, no stronger than the evidence."""
    if not answer.standings:
        return "No run has finished yet."
    heads = heads_of(results, answer)
    start = _where(results)
    if answer.transfers:
        return start + _of_transfers(answer)
    if not heads:
        first = [one for one in answer.standings if one.panel == answer.standings[0].panel]
        pick = min if results.direction == "minimize" else max
        best = pick(first, key=lambda one: one.average.value)
        return (
            f"{start}{best.arm} has the best {_measure(results)} ({best.average.value:.3f}); "
            "nothing was compared with a reference."
        )
    claims = [one for one in heads if one.verdict != "undecided"]
    if claims:
        better = sorted(
            (one for one in claims if one.verdict == "better"), key=lambda one: -one.points.value
        )
        worse = sorted(
            (one for one in claims if one.verdict == "worse"), key=lambda one: one.points.value
        )
        parts = [f"ahead of {_reference(results)}: {_listed(better)}"] if better else []
        parts += (
            [
                f"behind it: {_listed(worse)}"
                if better
                else f"behind {_reference(results)}: {_listed(worse)}"
            ]
            if worse
            else []
        )
        left = len(heads) - len(claims)
        rest = f"; {left} of {len(heads)} cannot be told from it" if left else ""
        return f"{start}{'; '.join(parts)}{rest} ({_seeds(heads)})."
    largest = max(heads, key=lambda one: abs(one.points.value))
    words = (
        f"{start}none of {len(heads)} is shown to differ from {_reference(results)}; "
        f"the largest difference is {_difference(largest)}"
    )
    words += f" ({_seeds(heads)})"
    lowest = min((one.smallest_p_holm for one in heads if one.smallest_p_holm), default=1.0)
    if lowest > answer.level:
        words += f". So few seeds cannot show any: {answer.needed_seeds} are needed"
    return f"{words}."


def heads_of(results: Results, answer: Answer) -> list[Comparison]:
    """The comparisons of the arms, baselines aside, on the study's own measure."""
    head = AVERAGE if results.primary == AVERAGE else results.primary.rpartition("/")[0]
    arms = {arm.name for arm in results.arms if arm.role == "arm"}
    return [one for one in answer.comparisons if one.task == head and one.arm in arms]


def _of_transfers(answer: Answer) -> str:
    claims = [one for one in answer.transfers if one.verdict != "undecided"]
    best = max(answer.transfers, key=lambda one: one.points.value)
    worst = min(answer.transfers, key=lambda one: one.points.value)
    ends = f"the highest is that of {_effect(best)}, the lowest that of {_effect(worst)}"
    if claims:
        shown = f"{len(claims)} of {len(answer.transfers)} effects of one task on another are shown"
        return f"{shown}; {ends} ({_seeds(answer.transfers)})."
    words = f"no task is shown to help or harm another; of the effects {ends} ({_seeds(answer.transfers)})"
    most = max(one.seeds for one in answer.transfers)
    if answer.needed_seeds is not None and most < answer.needed_seeds:
        words += f". So few seeds cannot show any: {answer.needed_seeds} are needed"
    return f"{words}."


def _effect(one: Transfer) -> str:
    return f"{one.helper} on {one.target}, {one.points.value:+.1f} points{_between(one.points)}"


def _seeds(found: Sequence[Comparison | Transfer]) -> str:
    counts = [one.seeds if isinstance(one, Transfer) else len(one.seeds) for one in found]
    low, high = min(counts), max(counts)
    return f"{high} seed{'s' * (high != 1)}" if low == high else f"{low} to {high} seeds"


def _where(results: Results) -> str:
    counts = {len(tasks_of(arm)) for arm in results.arms if arm.role != "source"} - {0}
    if len(counts) > 1 and results.over is None:
        return f"On {min(counts)} to {max(counts)} tasks, "
    count = len(results.tasks)
    return f"On {count} task{'s' * (count != 1)}, "


def _measure(results: Results) -> str:
    return "average" if results.primary == AVERAGE else results.primary


def _reference(results: Results) -> str:
    baselines = {arm.family for arm in results.arms if arm.role == "baseline"}
    reference = results.reference or ""
    if reference in baselines and reference.endswith("same_exposure"):
        return "each task alone on the same rows"
    return reference


def _listed(found: list[Comparison]) -> str:
    shown = [f"{one.arm} by {_size(one)}" for one in found[:LISTED]]
    if len(found) > LISTED:
        shown.append(f"and {len(found) - LISTED} more")
    return ", ".join(shown)


def _size(one: Comparison) -> str:
    low, high = one.points.low, one.points.high
    ends = sorted(abs(end) for end in (low, high) if end is not None)
    p = f", p = {one.p_holm:.3g} after Holm" if one.p_holm is not None else ""
    # What is not equal in tokens is said beside a claim itself.
    spent = (said for said in one.unequal if said.what in (TOKENS, TOKENS_IN_ALL))
    tokens = next((f", but {said}" for said in spent), "")
    return f"{abs(one.points.value):.1f} points [{ends[0]:.1f}, {ends[1]:.1f}]{p}{tokens}"


def _difference(one: Comparison) -> str:
    return f"that of {one.arm}, {one.points.value:+.1f} points{_between(one.points)}"


def _between(points: Interval) -> str:
    return "" if points.low is None else f" [{points.low:+.1f}, {points.high:+.1f}]"
