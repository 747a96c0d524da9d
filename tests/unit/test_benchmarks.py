"""Benchmarks run, and reckon rightly; how fast anything is, is not tested."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/whole_loop.py"
CHOICES = ROOT / "benchmarks/choices.py"
GPU = ROOT / "benchmarks/gpu.py"
DEVICES = ROOT / "benchmarks/devices.py"
# What stands beside torch, lightning, numpy and tokenizers in a full installation; the benchmark needs none of it.
ABSENT = ("pyarrow", "datasets", "hydra", "omegaconf", "pydantic", "mlflow", "optuna", "sacrebleu")


def load(script: Path) -> ModuleType:
    name = f"benchmark_{script.stem}"  # strategies is a package too
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up there
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(script.parent)  # as for a script that is run
        spec.loader.exec_module(module)
    return module


def finished(script: Path, words: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """What a benchmark printed and wrote down."""
    out = folder / "out.json"
    done = subprocess.run(
        [sys.executable, str(script), *words.split(), f"out={out}"],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


@pytest.fixture(scope="module")
def whole_loop() -> ModuleType:
    return load(SCRIPT)


@pytest.fixture(scope="module")
def choices() -> ModuleType:
    return load(CHOICES)


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return load(GPU)


@pytest.fixture(scope="module")
def devices() -> ModuleType:
    return load(DEVICES)


def test_summary_of_planted_times(whole_loop: ModuleType) -> None:
    """Blocks of 4 steps: the loop takes 2, 3 and 10 s, the bare one 1, 2.4 and 9 s."""
    found = whole_loop.summarise([2.0, 3.0, 10.0], [1.0, 2.4, 9.0], steps=4, tokens=[60, 90, 300])
    assert found["loop_ms"] == pytest.approx(750)
    assert found["bare_ms"] == pytest.approx(600)
    assert found["overhead_ms"] == pytest.approx(250)  # of 250, 150 and 250
    assert found["loop_tokens_per_second"] == pytest.approx(30)
    assert found["bare_tokens_per_second"] == pytest.approx(37.5)  # of 60, 37.5 and 33.3
    ratio = {"low": 0.5, "median": 0.8, "high": 0.9}
    assert found["ratio"] == pytest.approx(ratio)


def test_the_loops_take_turns(whole_loop: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the whole loop stands still while the bare one runs, and each does the same batches."""
    time = [0.0]
    clocks = whole_loop.Clocks
    monkeypatch.setattr(clocks, "now", classmethod(lambda cls: cls(time[0], 10 * time[0])))
    done: list[list[str]] = []

    class Slow:
        def steps(self, batches: list[str]) -> None:
            done.append(list(batches))
            time[0] += 100

    pairs = whole_loop.Pairs(Slow(), ["a", "b", "c", "d", "e"], 2)
    for step in range(1, 6):
        time[0] += step
        pairs.step_done(step)
    assert done == [["a", "b"], ["c", "d"]]
    assert pairs.loop_seconds == [clocks(3, 30), clocks(7, 70)]
    assert pairs.bare_seconds == [clocks(100, 1000), clocks(100, 1000)]


def test_runs_with_torch_and_lightning_alone(tmp_path: Path) -> None:
    """At micro size, for a strategy that reads tasks and one that reads text; both loops end in the same weights."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))"
    beside = f"sys.path.insert(0, {str(SCRIPT.parent)!r})"  # as for a script that is run
    run = f"import runpy; {beside}; sys.argv = sys.argv[1:]; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    words = (
        "decoder=micro strategy=task_signal,zero_shot tasks=microworld_sentiment rows=60 tokens=128"
        f" steps=2 pairs=2 out={tmp_path / 'out.json'}"
    ).split()
    process = subprocess.run(
        [sys.executable, "-c", f"{blocked}; {run}", str(SCRIPT), *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    cases = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert [case["strategy"] for case in cases] == ["task_signal", "zero_shot"]
    for case in cases:
        assert case["weights_differ_by"] == 0.0
        assert case["pairs"] == 2
        assert 60 < case["tokens_per_step"] <= 128
        ratio = case["processor"]["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]


def test_names_the_nearest_option(whole_loop: ModuleType) -> None:
    with pytest.raises(UserError, match="pairs"):
        whole_loop.read_options(["pair=3"], whole_loop.DEFAULTS)


def test_choices_are_compared_with_the_best_batch_size(choices: ModuleType) -> None:
    """12 questions, three turns: the harness is best with batches of 8, by the median."""
    seconds = {
        "ours": [1.0, 2.0, 1.0],
        "harness 1": [1.0, 12.0, 12.0],
        "harness 8": [6.0, 8.0, 7.0],
        "harness 32": [24.0, 24.0, 24.0],
    }
    found = choices.summarise(seconds, 12)
    assert found["best"] == "harness 8"
    assert found["ratio"] == {"low": 4.0, "median": 6.0, "high": 7.0}
    rates = found["questions_per_second"]
    assert [rates[name] for name in seconds] == pytest.approx([12, 1, 12 / 7, 0.5])


def test_choices_that_differ_are_found(choices: ModuleType) -> None:
    ours = [(-1.0, True), (-2.0, False), (-3.0, False), (-4.0, False)] * 2
    theirs = [*ours[:6], (-0.5, False), (-4.0, True)]
    assert choices.agreement(ours, ours) == {"answers": 0, "greedy": 0, "nats": 0.0}
    assert choices.agreement(ours, theirs) == {"answers": 1, "greedy": 1, "nats": 2.5}


def test_choices_without_the_peer(tmp_path: Path) -> None:
    hide = "import importlib.util as u; u.find_spec = lambda name: None if name == 'lm_eval' else 1"
    beside = f"import sys; sys.path.insert(0, {str(CHOICES.parent)!r})"
    run = f"import runpy; runpy.run_path({str(CHOICES)!r}, run_name='__main__')"
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{beside}; import torch, yaml, mtl.decoder.huggingface; {hide}; {run}",
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr == "error: not installed: lm_eval (pip install 'mtl[peers]')\n"


@pytest.mark.slow
def test_choices_of_the_smallest_decoder(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    words = "decoder=micro rows=2 each=1,2 passage=60 repeats=1 vocabulary=512"
    printed, found = finished(CHOICES, words, tmp_path)
    assert [case["questions_per_passage"] for case in found["cases"]] == [1, 2]
    assert "same answers" in printed


def test_flops_and_peak_of_one_gpu(gpu: ModuleType) -> None:
    """GPT-2 at context 1024 is 0.86 GFLOP a token; an H200 is no H100, and one that is not in the table is measured."""
    shape = DecoderConfig(name="gpt2", layers=12, width=768, heads=12, context=1024)
    assert gpu.flops_per_token(shape, 50304) == pytest.approx(0.855e9, rel=1e-3)
    assert gpu.promised_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert gpu.promised_peak("NVIDIA H100 PCIe") == 756e12
    assert gpu.promised_peak("NVIDIA L40S") == 362e12
    assert gpu.promised_peak("CPU") is None


def test_sides_are_compared_with_the_faster_of_ours(gpu: ModuleType) -> None:
    """Blocks of 100 tokens at 3 operations each; ours takes 2 s, or 1 s compiled, but 5 s in the second turn."""
    seconds = {
        "mtl": [2.0, 2.0],
        "mtl compiled": [1.0, 5.0],
        "mtl recorded": [4.0, 4.0],
        "plain": [3.0, 3.0],
    }
    found = gpu.summarise(seconds, 100, 3.0)
    assert found["plain"]["mtl_over_it"] == {"low": 1.5, "median": 2.25, "high": 3.0}
    assert found["plain"]["tokens_per_second"] == pytest.approx(100 / 3)
    assert found["mtl"]["flops"] == pytest.approx(150)


def test_one_gpu_without_a_gpu(tmp_path: Path) -> None:
    """The same tables, at micro size; all sides do the same work, and it says that nothing was measured."""
    pytest.importorskip("transformers")
    words = "device=cpu decoder=micro context=32 rows=2 steps=1 pairs=1 texts=60 prompt=4 new=4"
    printed, found = finished(GPU, words, tmp_path)
    assert printed.count("no measurement of anything") == 2
    assert found["measurement"] is False
    assert found["training"]["first_losses_differ_by"] < 1e-5
    assert list(found["training"]["sides"]) == [
        *("mtl", "mtl compiled", "mtl recorded"),
        *("transformers", "transformers compiled", "plain", "plain compiled"),
    ]
    assert list(found["packed"]) == ["micro", "tiny"]
    for sides in found["packed"].values():
        assert max(one["losses_differ_by"] for one in sides.values()) < 1e-5
        assert sides["few shapes, compiled"]["graphs"] > 0
    assert {name: one["same_rows"] for name, one in found["writing"].items()} == {
        "mtl": 8,
        "mtl replayed": 8,
        "transformers": 8,
    }
    assert found["trainer"]["bare_over_loop"]["median"] > 0


def test_speed_up_of_two_processes(devices: ModuleType) -> None:
    """The two do 300 tokens in 2 s where the one does 200 in 2 s, and in a slower turn in 4 s."""
    one = [{"tokens": [100, 100], "wall": [1.0, 1.0], "processor": [1.0, 1.0]}] * 2
    two = [
        {"tokens": [150, 150], "wall": [1.0, 1.0], "processor": [0.8, 0.7]},
        {"tokens": [150, 150], "wall": [2.0, 2.0], "processor": [0.8, 0.7]},
    ]
    found = devices.summarise(one, two)
    assert found["speed_up"] == pytest.approx({"low": 0.75, "median": 1.125, "high": 1.5})
    assert found["efficiency"] == pytest.approx({"low": 0.375, "median": 0.5625, "high": 0.75})
    # 0.01 s of one process a token, against 1.5 s of each of the two for 300 tokens.
    assert found["processor_efficiency"]["median"] == pytest.approx(0.01 / (2 * 1.5 / 300))


@pytest.mark.slow
def test_two_processes_at_micro_size(tmp_path: Path) -> None:
    words = "decoder=micro strategy=task_signal tasks=microworld_sentiment rows=60 tokens=256 steps=1 pairs=1 turns=1"
    _, found = finished(DEVICES, words, tmp_path)
    done = [case["two_processes_do"] for case in found["cases"]]
    assert done == ["same step", "twice the step"]


@pytest.fixture(scope="module")
def strategies() -> ModuleType:
    return load(ROOT / "benchmarks/strategies.py")


def test_ratios_are_of_tokens_and_operations_a_second_turn_by_turn(strategies: ModuleType) -> None:
    turns = strategies.Turn
    other = [turns(1.0, 100, 300.0), turns(2.0, 100, 300.0), turns(1.0, 300, 900.0)]
    single = [turns(1.0, 200, 400.0), turns(1.0, 100, 200.0), turns(1.0, 300, 600.0)]
    found = strategies.summarise(other, single)
    assert found["operations_a_token"] == 1.5
    assert found["ratio_of_operations"] == {"low": 0.75, "median": 0.75, "high": 1.5}
    assert found["ratio"] == {"low": 0.5, "median": 0.5, "high": 1.0}
    assert found["tokens_per_second"] == 100
    assert found["single_tokens_per_second"] == 200


def test_both_sides_of_one_task_do_the_same_work(strategies: ModuleType) -> None:
    material = strategies.Material.load(["microworld_sentiment"], 60)
    options = {"precision": "32", "threads": "1", "pairs": "0", "mlflow": "false"}
    config = strategies.make_config("tiny", "mixed_batch", options, tokens=256, block=1)
    one, other = (
        strategies.models(name, material.tasks, material, config, 2)[0]
        for name in ("mixed_batch", "single_task")
    )
    for number in range(2):
        assert one.step(number) == other.step(number) > 0
    pairs = zip(one.strategy.parameters(), other.strategy.parameters(), strict=True)
    assert all(a.equal(b) for a, b in pairs)


def test_copies_bear_names_of_their_own(strategies: ModuleType) -> None:
    material = strategies.Material.load(["microworld_sentiment", "microworld_similarity"], 10)
    names = [task.name for task in strategies.copies(material.tasks, 5)]
    assert len(set(names)) == 5


def test_planning_runs_on_few_rows(tmp_path: Path) -> None:
    cases = finished(ROOT / "benchmarks/planning.py", "rows=2000 tasks=2", tmp_path)[1]["cases"]
    assert [case["composition"] for case in cases] == ["mixed", "one_task", "every_task"]
    assert all(case["steps"] > 1 and case["bytes_per_row"]["held"] > 0 for case in cases)


def test_a_running_process_has_processor_time() -> None:
    seconds = load(ROOT / "benchmarks/start.py")._processor_seconds(os.getpid())
    if not Path("/proc/self/stat").exists():
        assert math.isnan(seconds)
        return
    own = os.times()
    assert seconds == pytest.approx(own.user + own.system, abs=1.0)
    assert seconds > 0


@pytest.fixture(scope="module")
def balance() -> ModuleType:
    return load(ROOT / "benchmarks/balance.py")


def test_a_balance_is_compared_pair_by_pair(balance: ModuleType) -> None:
    """Blocks of 4 steps: 1, 2 and 4 s under the sum, 2, 2 and 6 s under the balance."""
    found = balance.summarise([(1.0, 2.0), (2.0, 2.0), (4.0, 6.0)], 4)
    assert found["sum_ms"] == pytest.approx(500)
    assert found["ms"] == pytest.approx(500)
    assert found["ratio"] == {"low": 1.0, "median": 1.5, "high": 2.0}


def test_trainings_in_turns(balance: ModuleType) -> None:
    """Neither works out of its turn, and what goes wrong in one is said."""
    done: list[str] = []

    def work(name: str, steps: int, step_done) -> None:
        for _ in range(steps):
            done.append(name)
            step_done()
        raise ValueError(name)

    one, other = (balance.Turns(partial(work, name, 4), 2) for name in "ab")
    for turns in (one, other, one, other):
        turns.take()
    assert "".join(done) == "aabbaabb"
    with pytest.raises(ValueError, match="a"):
        one.take()


def test_every_balance_does_the_same_rows(balance: ModuleType, tmp_path: Path) -> None:
    words = (
        "decoder=micro strategy=hard_sharing tasks=2 rows=60 tokens=128 steps=1 pairs=1"
        f" balance=sum,dwa,mgda out={tmp_path / 'out.json'}"
    )
    cases = balance.main(words.split())["cases"]
    assert [case["balance"] for case in cases] == ["sum", "dwa", "mgda"]
    assert [case["backward_passes"] for case in cases] == [1, 1, 1]
    assert [case["rows_mebibytes"] > 0 for case in cases] == [False, False, True]
    with pytest.raises(UserError, match="mgda"):
        balance.balances("mgdaa", ())


def test_runs_are_dealt_to_workers() -> None:
    workers = load(ROOT / "benchmarks/workers.py")
    assert workers.dealt([0, 1, 2, 3, 4], 2) == [[0, 2, 4], [1, 3]]
    rounds = [
        {"workers": 10.0, "process": 15.0, "seconds": [[6.0, 3.0], [8.0, 2.0]]},
        {"workers": 20.0, "process": 20.0, "seconds": [[7.0, 4.0], [9.0, 3.0]]},
    ]
    found = workers.summarise(rounds, 4)
    assert found["workers_runs_per_hour"] == pytest.approx(960)  # 4 runs in 15 s
    assert found["ratio"] == {"low": 1.0, "median": 1.25, "high": 1.5}
    assert found["first_run_seconds"] == 7.5
    assert found["later_run_seconds"] == 3.0


SHORT = [
    "tasks=[microworld_sentiment]",
    "decoder=micro",
    "trainer=cpu",
    "budget.tokens=null",
    "budget.steps=2",
    "evaluation.times=1",
    "evaluation.rows=4",
    "evaluation.selection_rows=4",
    "evaluation.resamples=2",
    "record.mlflow=false",
]


def test_the_parts_of_a_run_make_the_whole(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    benchmark = load(ROOT / "benchmarks/default_run.py")
    before = [getattr(owner, name) for owner, name in benchmark.PARTS.values()]
    written = []
    monkeypatch.setattr(benchmark, "write", lambda result, name, out: written.append(result))
    result = benchmark.main(SHORT)
    seconds = dict(result["seconds"])
    whole = seconds.pop("whole")
    assert set(seconds) == {"importing", *benchmark.PARTS, "the rest"}
    assert sum(seconds.values()) == pytest.approx(whole)
    assert all(value > 0 for value in seconds.values())
    assert [getattr(owner, name) for owner, name in benchmark.PARTS.values()] == before
    assert written == [result]
    assert "reporting" in capsys.readouterr().out
    assert not Path("runs").exists()
