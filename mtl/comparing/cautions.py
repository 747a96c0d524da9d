"""What a reader must know before believing a study."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.comparing.answer import Answer, Comparison, Unequal
from mtl.comparing.costs import TOLERANCE
from mtl.comparing.paired import smallest_p
from mtl.comparing.results import Results
from mtl.comparing.scores import (
    AVERAGE,
    panel,
    reference_of,
    same_tasks,
    summaries,
    tasks_of,
)
from mtl.comparing.wording import heads_of


def notes(results: Results, answer: Answer) -> list[str]:
    """What a reader must know, the gravest first."""
    found = [*_unfinished(results)]
    heads = heads_of(results, answer)
    found += _seeds(answer, heads)
    found += _not_compared(results, answer)
    found += _unequal(results, heads)
    apart = [one.arm for one in answer.standings if one.panel == "zero-shot"]
    if apart and len(apart) < len(answer.standings):
        found.append(f"{', '.join(apart)}: trained on no label, and so in no comparison")
    found += _precisions(results)
    found += _helped(results, answer)
    found += _pruned(results)
    if results.search.trials == 0:
        found.append("nothing was tuned: all arms have the settings of the study")
    if results.dirty:
        found.append("the code differed from its commit")
    return found


def _seeds(answer: Answer, heads: Sequence[Comparison]) -> list[str]:
    """How much the number of seeds can show."""
    counts = [len(one.seeds) for one in heads] or [one.seeds for one in answer.transfers]
    if not counts:
        return []
    low, high = min(counts), max(counts)
    lowest, needed = smallest_p(high), answer.needed_seeds
    if lowest is None:
        return [f"1 seed: no interval and no test; {needed} seeds are needed to show anything"]
    seeds = f"{high} seeds" if low == high else f"{low} to {high} seeds"
    return [
        f"{seeds}: the smallest p of one comparison is {lowest:.3g}, and after Holm's correction {needed} seeds are "
        f"needed to show anything at p = {answer.level:g}"
    ]


def _not_compared(results: Results, answer: Answer) -> list[str]:
    """Arms that have scores and that yet stand in no comparison, and why."""
    head = results.primary.rpartition("/")[0] or AVERAGE
    compared = {one.arm for one in answer.comparisons if one.task == head}
    found = []
    for arm in results.arms:
        reference = reference_of(results, arm)
        scored, other = summaries(arm), summaries(reference) if reference else {}
        if arm.role == "source" or not scored:
            continue
        if head != AVERAGE and head not in tasks_of(arm):
            found.append(f"{arm.name} was not scored on {head}, and so has no place")
        if reference is None or not other or arm.name in compared or panel(arm) != panel(reference):
            continue
        if not set(scored) & set(other):
            why = "have no finished seed in common"
        elif head == AVERAGE and not same_tasks(arm, reference):
            why = "have other tasks, so that their averages are not compared"
        else:
            continue
        found.append(f"{arm.name} and {reference.name} {why}")
    tasks = {frozenset(tasks_of(a)) for a in results.arms if a.role != "source" and summaries(a)}
    if results.over is None and head == AVERAGE and len(tasks) > 1:
        found.append("arms have other tasks: only averages over the same tasks can be compared")
    return found


def _unequal(results: Results, heads: Sequence[Comparison]) -> list[str]:
    """What was not equal in each comparison; of arms along axes a line for all places together."""
    families: dict[tuple[str, str], list[Comparison]] = {}
    for one in heads:
        pair = results.arm(one.arm).family, results.arm(one.reference).family
        families.setdefault(pair if all(pair) else (one.arm, one.reference), []).append(one)
    found = []
    for (family, reference), same in families.items():
        if len(same) == 1:
            (one,) = same
            if one.unequal:
                found.append(
                    f"{one.arm} against {one.reference} is not equal in {'; '.join(map(str, one.unequal))}"
                )
            continue
        kinds: dict[str, list[Unequal]] = {}
        for said in (said for one in same for said in one.unequal):
            kinds.setdefault(said.what, []).append(said)
        parts = [
            f"{what}{_span(kind)}{f' at {len(kind)}' if len(kind) < len(same) else ''}"
            for what, kind in kinds.items()
        ]
        if parts:
            found.append(
                f"{family} against {reference}, at {len(same)} places, is not equal in {'; '.join(parts)}"
            )
    return found


def _span(found: Sequence[Unequal]) -> str:
    """How much something differs at several places, from the least to the most."""
    times = sorted(one.times for one in found if one.times is not None)
    if len(times) == len(found):
        low, high = f"{times[0]:.2f}", f"{times[-1]:.2f}"
        return f": {low} times" if low == high else f": {low} to {high} times"
    sizes = dict.fromkeys(one.size for one in found if one.size)
    return f": {', '.join(sizes)}" if sizes else ""


def _precisions(results: Results) -> list[str]:
    """Whether some runs were trained in another precision, on another machine perhaps."""
    arms: dict[str, set[str]] = {}
    for arm in results.arms:
        for summary in summaries(arm).values():
            if "precision" in summary["ledger"]:
                arms.setdefault(summary["ledger"]["precision"], set()).add(arm.name)
    if len(arms) < 2:
        return []
    said = "; ".join(f"{name} of {', '.join(sorted(arms[name]))}" for name in sorted(arms))
    return [f"runs were trained in different precisions: {said}"]


def _helped(results: Results, answer: Answer) -> list[str]:
    """Whether a target saw as much of itself beside a helper as alone."""
    tokens = {(one.arm, one.task): one.tokens for one in answer.exposures}
    shares = []
    for arm in results.arms:
        together = arm.factors.get("pairs", "").split("+")
        for target in together if results.over == "pairs" and len(together) == 2 else ():
            alone = tokens.get((f"{arm.family}/{target}", target))
            if alone and (arm.name, target) in tokens:
                shares.append(tokens[arm.name, target] / alone)
    if not shares or max(abs(share - 1) for share in shares) <= TOLERANCE:
        return []
    return [
        f"beside a helper a target trained on {min(shares):.2f} to {max(shares):.2f} times the tokens of its own that "
        "it had alone: an effect is that of the helper and of this"
    ]


def _pruned(results: Results) -> list[str]:
    """How trials that were stopped early are counted."""
    counted, left = [], []
    for arm in results.arms:
        stopped = [trial for trial in arm.trials if trial.ending == "pruned"]
        if any(trial.reached is None for trial in stopped):
            left.append(arm.name)
        elif stopped:
            counted.append(arm.name)
    found = []
    if counted:
        found.append(
            f"{', '.join(counted)}: trials that were stopped early count in the expected best with what they had "
            "reached by then"
        )
    if left:
        found.append(
            f"{', '.join(left)}: trials that were stopped early promised little and are not in the expected best, "
            "which is therefore too high"
        )
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
