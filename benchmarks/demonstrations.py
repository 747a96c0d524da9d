"""Do natural demonstrations in running text teach tasks? Zero-shot scores over how often the corpus demonstrates them.

    python benchmarks/demonstrations.py                                # six arms, two at a time
    python benchmarks/demonstrations.py seeds=0,1,2 rates=0,0.1,1 controls=1 tokens=2000000 jobs=1
    python benchmarks/demonstrations.py read=FILE.json figure=FILE.png # table and figure again, without training

GPT-2's claim ("Language Models are Unsupervised Multitask Learners", section 2): a language model learns to perform
tasks because its training text demonstrates them, with no label and no gradient on an answer as such. In web text
nobody controls how often that happens; in the microworld it is a number. Each *arm* trains ``strategy=zero_shot``
from the same initial weights, with the same vocabulary, on as many tokens of the generated corpus:

- *rates*: the share of its documents that shows a few training rows of one task each; 0 has none.
- *controls*: the same documents with the answers permuted within each task: same text, same answers, no relation.

Every arm is then asked the test rows of all eight tasks through their prompts. The *band* is where 95 % of
the scores of random answers lie, see :func:`chance_band`; a score is *clearly above* where the lower end of its
bootstrap 95 % interval lies above the band. An arm's run stays under ``runs=``; the same command goes on where
an earlier one stopped.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import _tasks
import numpy as np
from _demonstrations_figure import draw
from _options import read_options
from scipy.stats import binom

from mtl.config.errors import Interrupted, UserError, unknown_name
from mtl.config.schema import DataConfig
from mtl.record.numbers import duration
from mtl.record.progress import Progress
from mtl.scoring.baselines import answer_space, chance
from mtl.scoring.intervals import COVERAGE, bootstrap, generator
from mtl.scoring.metrics import METRICS, Metric
from mtl.tasks.closed import score_values
from mtl.tasks.loading import load_task
from mtl.tasks.task import Answer, Example, Task

ROOT = Path(__file__).resolve().parent.parent
TASKS = (
    "sentiment",
    "acceptability",
    "entailment",
    "similarity",
    "pronoun",
    "question_answering",
    "translation",
    "summarisation",
)
"""Tasks of the microworld, the open ones last."""
DEFAULTS = {
    "tasks": ",".join(TASKS),
    "rates": "0,0.01,0.1,0.3,1",
    "controls": "1",
    "seeds": "0",
    "tokens": "16000000",
    "documents": "40000",
    "decoder": "tiny",
    "context": "96",
    "vocabulary": "1536",
    "batch": "1024",
    "learning_rate": "3e-3",
    "rows": "500",
    "jobs": "2",
    "runs": "runs/demonstrations",
    "out": "",
    "figure": "",
    "read": "",
}
RANDOM_DRAWS = 1000
"""Draws of random answers, where the distribution of their score has no closed form."""
OTHERS = 10
"""Other rows whose answers each row of an open task may be given."""
CONSTANTS = 100
"""Training answers that are tried as the one answer to all rows, and training rows they are tried on."""
TAIL = (1 - COVERAGE) / 2


@dataclass(frozen=True)
class Arm:
    """One corpus."""

    rate: float
    """Share of the documents that demonstrate a task."""
    permuted: bool = False
    """Whether their answers are permuted: a control."""

    @property
    def name(self) -> str:
        """As in the table: ``10 %``, ``10 % permuted``."""
        return f"{100 * self.rate:g} %" + (" permuted" if self.permuted else "")

    @property
    def folder(self) -> str:
        """As in a path."""
        return f"{'permuted' if self.permuted else 'rate'}-{self.rate:g}"

    def overrides(self, options: Mapping[str, str], seed: int) -> list[str]:
        """What ``mtl.fit`` is told."""
        return [
            "strategy=zero_shot",
            f"tasks=[{','.join(f'microworld_{task}' for task in options['tasks'].split(','))}]",
            "corpus=microworld",
            f"corpus.demonstrations={self.rate}",
            f"corpus.permuted={str(self.permuted).lower()}",
            f"corpus.documents={options['documents']}",
            f"tokenizer.vocabulary={options['vocabulary']}",
            f"decoder={options['decoder']}",
            # Documents are cut where the context ends, so that a row may stand at any position: asked without the
            # opening of a document, a model that only ever saw openings at the first positions would write one.
            f"decoder.context={options['context']}",
            f"budget.tokens={options['tokens']}",
            f"batch.tokens={options['batch']}",
            f"optimizer.learning_rate={options['learning_rate']}",
            # One look at the selection rows, which decide nothing: the last checkpoint is what is reported.
            "evaluation.times=1",
            "evaluation.selection_rows=8",
            "evaluation.checkpoint=last",
            f"evaluation.rows={options['rows']}",
            "record.mlflow=false",
            "trainer=cpu",
            "trainer.threads=1",
            f"seed={seed}",
            f"run_dir={Path(options['runs']) / f'{self.folder}-seed-{seed}'}",
        ]


@dataclass(frozen=True)
class Band:
    """Scores of answers that no understanding is behind."""

    low: float
    high: float
    centre: float
    """Expected score of random answers; of an open task the score of the best such answer."""
    of: str
    """How it was computed, in words."""


def chance_band(task: Task, *, draws: int = RANDOM_DRAWS) -> Band:
    """Where the primary metric on the reported rows lies for answers that no understanding is behind.

    - Accuracy: the central 95 % of a binomial, where every row has K answers and each is given with probability 1/K.
    - Correlations: the central 95 % of the metric over ``draws`` draws of a random answer to each row.
    - Open tasks: from 0 to the highest of three upper ends of 95 % intervals: the right answers of other rows, drawn
      at random; one answer to all rows, see :func:`best_constant`; the first or the last sentence of the passage.
    """
    examples = task.report.examples
    metric = METRICS[task.config.metrics[0]]
    if task.is_open:
        values = {
            "answers of other rows": _quantiles(metric, examples, other_answers(examples), draws),
            **{
                words: _bootstrapped(task, [Answer(value=text) for text in texts])
                for words, texts in _unread(task).items()
            },
        }
        best = max(values, key=lambda words: values[words].high)
        return replace(values[best], low=0.0, of=best)
    spaces = {answer_space(task, example) for example in examples}
    expected = chance(task, metric.name)
    if metric.name == "accuracy" and len(spaces) == 1:
        rows, share = len(examples), 1 / spaces.pop()
        low, high = binom.ppf((TAIL, 1 - TAIL), rows, share) / rows
        return Band(float(low), float(high), expected, f"binomial({rows}, {share:.3g})")
    everything = [
        [Answer(value=value) for value in _answer_values(task, example)] for example in examples
    ]
    return replace(_quantiles(metric, examples, everything, draws), centre=expected)


def _answer_values(task: Task, example: Example) -> list[float] | list[int]:
    count = answer_space(task, example)
    if task.kind == "regression":
        return [float(value) for value in score_values(task, count)]
    return list(range(count))


def other_answers(examples: Sequence[Example]) -> list[list[Answer]]:
    """To each row the right answers of a few other rows."""
    random = np.random.default_rng(0)
    shifts = random.choice(len(examples) - 1, size=min(OTHERS, len(examples) - 1), replace=False)
    texts = [example.references[0] for example in examples]
    return [
        [Answer(value=texts[(row + shift + 1) % len(texts)]) for shift in shifts]
        for row in range(len(texts))
    ]


def _quantiles(
    metric: Metric, examples: Sequence[Example], answers: Sequence[Sequence[Answer]], draws: int
) -> Band:
    """The central 95 % of a metric where each row's answer is drawn from the row's own list."""
    pairs = [
        (answer, example) for example, own in zip(examples, answers, strict=True) for answer in own
    ]
    rows = metric.rows([answer for answer, _ in pairs], [example for _, example in pairs])
    sizes = np.array([len(own) for own in answers])
    starts = np.cumsum(sizes) - sizes
    random = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        weights = np.zeros((1, len(pairs)))
        weights[0, starts + (random.random(len(sizes)) * sizes).astype(int)] = 1
        values.append(float(metric.resampled(rows, weights)[0]))
    low, high = np.quantile(values, (TAIL, 1 - TAIL))
    centre = float(np.mean(values))
    return Band(float(low), float(high), centre, f"{draws} draws of random answers")


def _unread(task: Task) -> dict[str, list[str]]:
    """Answers to an open task that need no understanding, by what they are."""
    examples = task.report.examples
    return {
        "one answer to all rows": [best_constant(task)] * len(examples),
        "the first sentence copied": [sentence(example.segments[0], 0) for example in examples],
        "the last sentence copied": [sentence(example.segments[0], -1) for example in examples],
    }


def best_constant(task: Task) -> str:
    """The one answer to give to all rows: of the most frequent training answers, and as many others, the one that
    scores best on the first training rows. A model of the answers alone, which has not read the row, can write it."""
    assert task.train is not None
    metric = METRICS[task.config.metrics[0]]
    rows = task.train.examples[:CONSTANTS]
    counted = Counter(example.references[0] for example in task.train.examples)
    frequent = sorted(counted, key=lambda text: (-counted[text], text))[: CONSTANTS // 2]
    others = [example.references[0] for example in task.train.examples[-CONSTANTS // 2 :]]
    return max(
        dict.fromkeys([*frequent, *others]),
        key=lambda text: metric.value([Answer(value=text)] * len(rows), rows),
    )


def _bootstrapped(task: Task, answers: Sequence[Answer]) -> Band:
    metric = METRICS[task.config.metrics[0]]
    rows = metric.rows(answers, task.report.examples)
    random = generator(task.name, metric.name)
    low, high = bootstrap(metric, rows, resamples=1000, random=random)
    return Band(low, high, metric.library_value(rows), "")


def sentence(text: str, position: int) -> str:
    """One sentence of a passage, 0 the first and -1 the last."""
    return text.rstrip(".").split(". ")[position] + "."


def read_task(name: str) -> Task:
    """A task of the microworld with its rows."""
    return load_task(_tasks.read_task(f"microworld_{name}"), DataConfig(), seed=0)


def read_tasks(options: Mapping[str, str]) -> dict[str, Task]:
    """The tasks that are asked, with the rows that are scored.

    :raises UserError: a task that the microworld has not.
    """
    tasks = {}
    for name in options["tasks"].split(","):
        if name not in TASKS:
            where = f"command line: tasks={options['tasks']}"
            raise unknown_name("microworld task", name, TASKS, where=where)
        task = read_task(name)
        scored = task.report.examples[: int(options["rows"])]
        tasks[name] = replace(task, report=replace(task.report, examples=scored))
    return tasks


def read_arms(options: Mapping[str, str]) -> list[Arm]:
    """The arms of an experiment, in the order of its table.

    :raises UserError: a rate that is no number from 0 to 1, or a control without demonstrations.
    """
    arms = []
    for name, lowest in (("rates", 0.0), ("controls", 1e-9)):
        for word in filter(None, options[name].split(",")):
            try:
                rate = float(word)
            except ValueError:
                rate = -1.0
            if not lowest <= rate <= 1:
                raise UserError(
                    f"'{word}' is not a share {'from' if name == 'rates' else 'above'} 0 to 1",
                    where=f"command line: {name}={options[name]}",
                )
            arms.append(Arm(rate, permuted=name == "controls"))
    if not arms:
        raise UserError("no arm is left", where="command line: rates= controls=")
    return sorted(set(arms), key=lambda arm: (arm.permuted, arm.rate))


def train(arm: Arm, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """One arm with one seed: what the JSON holds of it. Runs in a process of its own."""
    from mtl.fit import run

    began = time.perf_counter()
    finished = run(overrides)
    summary = finished.summary
    closed = [name for name, task in summary["tasks"].items() if "invalid_share" in task["metrics"]]
    answers = {name: finished.predictions(name)["prediction"] for name in closed}
    return {
        **asdict(arm),
        "arm": arm.name,
        "seed": seed,
        "scores": {
            name.removeprefix("microworld_"): task["metrics"]
            for name, task in summary["tasks"].items()
        },
        "commonest_answer_share": {
            name.removeprefix("microworld_"): float(given.value_counts(normalize=True).iloc[0])
            for name, given in answers.items()
        },
        "tokens": summary["ledger"]["tokens"],
        "steps": summary["ledger"]["steps"],
        "training_seconds": summary["ledger"]["seconds"],
        "seconds": time.perf_counter() - began,
        "passes": summary["mixture"]["microworld"]["passes"] if "mixture" in summary else None,
        "versions": summary["versions"],
        "git": summary["git"],
        "overrides": list(overrides),
    }


def train_all(options: Mapping[str, str], arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """All arms and seeds, ``jobs`` at a time."""
    os.environ["OMP_NUM_THREADS"] = "1"
    # Read by the C library of a process when it starts: blocks as large as a step's logits are kept for the next step,
    # not returned and mapped anew. A tenth faster, the same numbers; without effect on other systems.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
    runs = Path(options["runs"])
    runs.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in options["seeds"].split(",")]
    found: dict[Future[dict[str, Any]], tuple[Arm, int]] = {}
    pool = ProcessPoolExecutor(
        int(options["jobs"]),
        mp_context=get_context("spawn"),
        initializer=_write_to,
        initargs=(str(runs / "log.txt"),),
    )
    total = int(options["tokens"]) * len(arms) * len(seeds)
    with Progress("demonstrations") as progress:
        try:
            for seed in seeds:
                # The most telling ones first: everything, its control, nothing.
                for arm in sorted(arms, key=lambda arm: (-abs(arm.rate - 0.5), -arm.rate)):
                    future = pool.submit(train, arm, seed, arm.overrides(options, seed))
                    found[future] = (arm, seed)
            left = set(found)
            while left:
                done, left = wait(left, timeout=1.0, return_when="FIRST_COMPLETED")
                for future in done:
                    arm, seed = found[future]
                    seconds = duration(future.result()["seconds"])
                    print(f"{arm.name}, seed {seed}: {seconds}", flush=True)
                _show(progress, [found[future] for future in left], runs, options, total)
        finally:
            pool.shutdown(cancel_futures=True)
    results = [future.result() for future in found]
    return sorted(results, key=lambda result: (result["permuted"], result["rate"], result["seed"]))


def _write_to(log: str) -> None:
    """What a process of the pool says goes to a file: several at once would write over each other."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _show(
    progress: Progress,
    left: Sequence[tuple[Arm, int]],
    runs: Path,
    options: Mapping[str, str],
    total: int,
) -> None:
    """Tokens of all arms so far, and the latest loss of those that are training."""
    budget = int(options["tokens"])
    tokens, losses, rate = total - budget * len(left), {}, 0.0
    for arm, seed in left:
        path = runs / f"{arm.folder}-seed-{seed}" / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        entries = [json.loads(line) for line in lines[-2:] if line.endswith("}")]
        for entry in entries:
            if "microworld/loss" in entry:
                losses[arm.name] = entry["microworld/loss"]
                rate = entry["learning_rate"]
        tokens += min(entries[-1]["tokens"], budget) if entries else 0
    step = int(options["batch"])
    progress.update(tokens // step, total // step, tokens, total, losses, rate)


def clearly_above(score: Mapping[str, float], band: Mapping[str, Any]) -> bool:
    """Whether the lower end of a score's interval lies above the band."""
    return score["low"] > band["high"]


def verdict(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the scores say of the claim.

    :return: ``above``: of each arm the tasks that are clearly above chance with every seed; ``above_control``: of each
        rate with a control the tasks whose interval lies above the control's, with every seed; ``starts_at_chance``,
        ``rises`` and ``control_stays``: the three parts of the claim, for the lowest rate, the highest rate (on how
        many tasks) and all controls; ``holds``: no task at the lowest rate or in a control, and most at the highest.
    """
    above: dict[str, list[str]] = {}
    for arm in result["arms"]:
        own = [run for run in result["runs"] if run["arm"] == arm]
        above[arm] = [
            name
            for name, task in result["tasks"].items()
            if all(clearly_above(run["scores"][name][task["metric"]], task["band"]) for run in own)
        ]
    rates = [arm for arm in result["arms"] if not arm.endswith("permuted")]
    controls = [arm for arm in result["arms"] if arm.endswith("permuted")]
    beyond = {
        arm: [name for name in result["tasks"] if apart(result, name, arm, f"{arm} permuted")]
        for arm in rates
        if f"{arm} permuted" in controls
    }
    starts = not above[rates[0]]
    stays = not any(above[arm] for arm in controls)
    rises = len(above[rates[-1]])
    return {
        "above": above,
        "above_control": beyond,
        "starts_at_chance": starts,
        "rises": rises,
        "control_stays": stays,
        "holds": starts and stays and 2 * rises > len(result["tasks"]),
    }


def apart(result: Mapping[str, Any], name: str, arm: str, control: str) -> bool:
    """Whether the interval of an arm's score lies above that of its control, seed by seed; in a closed task it must lie
    above the band as well, since a control that answers all rows alike has an interval without width."""
    task = result["tasks"][name]
    metric = task["metric"]
    floor = 0.0 if task["kind"] == "generation" else task["band"]["high"]
    scores = {
        (run["arm"], run["seed"]): run["scores"][name][metric]
        for run in result["runs"]
        if run["arm"] in (arm, control)
    }
    return all(
        scores[arm, seed]["low"] > max(scores[control, seed]["high"], floor)
        for seed in result["seeds"]
    )


def table(result: Mapping[str, Any]) -> str:
    """Task by arm; with several seeds the mean over them."""
    arms = result["arms"]
    lines = [
        f"{'task (metric)':<34}{'band':>15}  " + "".join(f"{arm:>16}" for arm in arms),
    ]
    for name, task in result["tasks"].items():
        metric, band = task["metric"], task["band"]
        cells = ""
        for arm in arms:
            own = [run["scores"][name][metric] for run in result["runs"] if run["arm"] == arm]
            mean = sum(score["value"] for score in own) / len(own)
            mark = "*" if all(clearly_above(score, band) for score in own) else " "
            cells += f"{mean:>15.3f}{mark}"
        lines.append(f"{f'{name} ({metric})':<34}{band['low']:>7.3f} {band['high']:>7.3f}  {cells}")
    above = result["verdict"]["above"]
    count = len(result["tasks"])
    lines.append(
        f"{'clearly above chance':<51}"
        + "".join(f"{f'{len(above[arm])} of {count} ':>16}" for arm in arms)
    )
    valid = {arm: valid_share(result, arm) for arm in arms}
    lines.append(
        f"{'written freely, is an answer at all':<51}"
        + "".join(f"{f'{valid[arm]:.0%} ' if valid[arm] is not None else '':>16}" for arm in arms)
    )
    lines += [
        "",
        "band: 95 % of the scores of random answers (open tasks: also of a constant one and of copying a sentence)",
        "*: the lower end of the score's own 95 % interval lies above the band"
        + (", with every seed" if len(result["seeds"]) > 1 else ""),
    ]
    return "\n".join(lines)


def valid_share(result: Mapping[str, Any], arm: str) -> float | None:
    """Of the closed tasks, the share of rows at which the freely written text is one of the row's answers: whether a
    model knows the form of an answer, right or wrong. None where no closed task was asked."""
    shares = [
        1 - scores["invalid_share"]["value"]
        for run in result["runs"]
        if run["arm"] == arm
        for scores in run["scores"].values()
        if "invalid_share" in scores
    ]
    return sum(shares) / len(shares) if shares else None


def statement(result: Mapping[str, Any]) -> str:
    """The verdict in words."""
    found, count = result["verdict"], len(result["tasks"])
    above = found["above"]
    rates = [arm for arm in result["arms"] if not arm.endswith("permuted")]
    controls = [arm for arm in result["arms"] if arm.endswith("permuted")]
    missing = [name for name in result["tasks"] if name not in above[rates[-1]]]
    sentences = [
        f"without demonstrations: {_names(above[rates[0]], count)} clearly above chance",
        *(f"at {arm}: {_names(above[arm], count)}" for arm in rates[1:]),
        *(f"control, {arm}: {_names(above[arm], count)}" for arm in controls),
    ]
    if missing:
        sentences.append(f"not learnt at {rates[-1]}: {', '.join(missing)}")
    sentences += [
        f"above the control at {arm}: {_names(names, count)}"
        for arm, names in found["above_control"].items()
    ]
    shown = found["starts_at_chance"] and found["control_stays"]
    on = f"on {found['rises']} of {count} tasks" + ("" if found["holds"] else ", not on most")
    sentences.append(f"the claim is shown {on}" if shown else "the claim is NOT shown")
    return "\n".join(sentences)


def _names(tasks: Sequence[str], count: int) -> str:
    shown = f" ({', '.join(tasks)})" if 0 < len(tasks) < count else ""
    return f"{len(tasks)} of {count} tasks{shown}"


def experiment(words: Sequence[str], options: Mapping[str, str]) -> dict[str, Any]:
    """Train every arm, and say what came of it."""
    arms, tasks = read_arms(options), read_tasks(options)
    began = time.perf_counter()
    runs = train_all(options, arms)
    seconds = time.perf_counter() - began
    with Progress() as progress, progress.stage("drawing random answers"):
        described = {
            name: {
                "metric": task.config.metrics[0],
                "kind": task.kind,
                "rows": len(task.report.examples),
                "band": asdict(chance_band(task)),
            }
            for name, task in tasks.items()
        }
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/demonstrations.py", *words]),
        "date": f"{datetime.now():%Y-%m-%d}",
        "options": dict(options),
        "machine": {
            "processors": os.cpu_count(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
        "seconds": seconds,
        "arms": [arm.name for arm in arms],
        "seeds": sorted({run["seed"] for run in runs}),
        "tasks": described,
        "runs": runs,
    }
    result["verdict"] = verdict(result)
    return result


def main(words: Sequence[str]) -> dict[str, Any]:
    """Print the table, write the numbers down and draw them."""
    options = read_options(words, DEFAULTS)
    if options["read"]:
        result = json.loads(Path(options["read"]).read_text(encoding="utf-8"))
        result["verdict"] = verdict(result)
        path = Path(options["read"])
    else:
        result = experiment(words, options)
        path = Path(
            options["out"] or ROOT / f"benchmarks/results/{result['date']}-demonstrations.json"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print(statement(result))
    trained = sum(run["training_seconds"] for run in result["runs"])
    print(f"this call {duration(result['seconds'])}, training of all arms {duration(trained)}")
    print(f"numbers in {path}")
    for dark in (False, True):
        figure = Path(options["figure"] or path.with_suffix(".png"))
        figure = figure.with_stem(f"{figure.stem}-dark") if dark else figure
        print(f"drawn in {draw(result, figure, dark=dark)}")
    return result


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except Interrupted as interruption:
        sys.exit(128 + interruption.signal)
    except (BrokenProcessPool, KeyboardInterrupt):
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
