"""What a study's numbers say in words, and what a reader must know before believing them."""

from __future__ import annotations

from mtl.comparing.answer import Answer, Comparison
from mtl.comparing.results import Results
from mtl.comparing.scores import AVERAGE, summaries

LISTED = 4


def sentence(results: Results, answer: Answer) -> str:
    """The answer in one sentence, or two, no stronger than the evidence."""
    if not answer.standings:
        return "No run has finished yet."
    heads = [one for one in _heads(results, answer) if one.seeds]
    start = _where(results)
    if answer.transfers:
        return start + _of_transfers(answer)
    if not heads:
        best = answer.standings[0]
        return (
            f"{start}{best.arm} has the highest {_measure(results)} ({best.average.value:.3f}); "
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
        return f"{start}{'; '.join(parts)}{rest}."
    largest = max(heads, key=lambda one: abs(one.points.value))
    words = (
        f"{start}none of {len(heads)} is shown to differ from {_reference(results)}; "
        f"the largest difference is {_difference(largest)}"
    )
    fewest = min(len(one.seeds) for one in heads)
    if answer.needed_seeds is not None and fewest < answer.needed_seeds:
        words += f". With {fewest} seeds none could be: {answer.needed_seeds} are needed"
    return f"{words}."


def notes(results: Results, answer: Answer) -> list[str]:
    """What a reader must know, the gravest first."""
    found = [*_unfinished(results)]
    heads = _heads(results, answer)
    if tested := [one for one in heads if one.p is not None]:
        seeds = min(len(one.seeds) for one in tested)
        found.append(
            f"{seeds} seeds: the smallest p of one comparison is {answer.smallest_p:.3g}, and after Holm's correction "
            f"{answer.needed_seeds} seeds are needed to show anything at p = {answer.level:g}"
        )
    for one in heads:
        if one.unequal:
            found.append(
                f"{one.arm} against {one.reference} is not equal in {'; '.join(one.unequal)}"
            )
    apart = [one.arm for one in answer.standings if one.panel == "zero-shot"]
    if apart and len(apart) < len(answer.standings):
        found.append(f"{', '.join(apart)}: trained on no label, and so in no comparison")
    if results.search.trials == 0:
        found.append("nothing was tuned: all arms have the settings of the study")
    if results.dirty:
        found.append("the code differed from its commit")
    return found


def _unfinished(results: Results) -> list[str]:
    found = []
    for arm in results.arms:
        runs = [run for run in arm.runs if run.ending not in ("finished", "pending")]
        if runs:
            found.append(
                f"{arm.name}: {len(runs)} of {len(arm.runs)} runs did not finish "
                f"({', '.join(sorted({f'{run.ending}: {run.reason}' for run in runs}))})"
            )
        lost = [
            trial for trial in arm.trials if trial.ending not in ("finished", "pruned", "pending")
        ]
        if lost:
            endings = sorted({trial.ending for trial in lost})
            found.append(
                f"{arm.name}: {len(lost)} of {len(arm.trials)} trials of its search did not finish "
                f"({', '.join(endings)})"
            )
    pending = sum(run.ending == "pending" for arm in results.arms for run in arm.runs)
    total = sum(len(arm.runs) for arm in results.arms)
    if pending:
        found.insert(0, f"the study is not over: {pending} of {total} runs are still to come")
    without = [arm.name for arm in results.arms if arm.role != "source" and not summaries(arm)]
    if without:
        found.append(f"no run of {', '.join(without)} has finished")
    return found


def _heads(results: Results, answer: Answer) -> list[Comparison]:
    """The comparisons of the arms, baselines aside, on the study's own measure."""
    head = AVERAGE if results.primary == AVERAGE else results.primary.rpartition("/")[0]
    arms = {arm.name for arm in results.arms if arm.role == "arm"}
    return [one for one in answer.comparisons if one.task == head and one.arm in arms]


def _of_transfers(answer: Answer) -> str:
    claims = [one for one in answer.transfers if one.verdict != "undecided"]
    best = max(answer.transfers, key=lambda one: one.points.value)
    worst = min(answer.transfers, key=lambda one: one.points.value)
    ends = (
        f"the largest gain is that of {best.target} beside {best.helper} ({best.points.value:+.1f} points), "
        f"the largest loss that of {worst.target} beside {worst.helper} ({worst.points.value:+.1f})"
    )
    if not claims:
        return f"no task is shown to help or harm another; {ends}."
    return f"{len(claims)} of {len(answer.transfers)} effects of one task on another are shown; {ends}."


def _where(results: Results) -> str:
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
    return f"{abs(one.points.value):.1f} points [{ends[0]:.1f}, {ends[1]:.1f}]{p}"


def _difference(one: Comparison) -> str:
    points = one.points
    between = "" if points.low is None else f" [{points.low:+.1f}, {points.high:+.1f}]"
    return f"that of {one.arm}, {points.value:+.1f} points{between}"
