"""The command line as a person meets it: a process, its streams, its exit status, and what it leaves on disk."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import world  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return world.build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def verb(folder, tmp_path):
    def run(*arguments, verb="fit", environment=None):
        surroundings = {k: v for k, v in os.environ.items() if k != "MTL_DATA_ROOT"}
        surroundings |= {"PYTHONPATH": str(world.PROJECT), **(environment or {})}
        return subprocess.run(
            [sys.executable, str(HERE / "stand_in.py"), str(folder), verb, *arguments],
            cwd=tmp_path,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def configs(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_runs_and_leaves_nothing_of_hydras(verb, tmp_path):
    (config,) = configs(
        verb("seed=3", "strategy.share=1", "budget.steps=1e1", "trainer.precision=32")
    )
    assert config["seed"] == 3
    assert config["strategy"] == {
        "name": "task_signal",
        "share": 1.0,
        "reading": "rank",
        "depth": None,
    }
    assert config["budget"] == {
        "tokens": None,
        "steps": 10,
        "epochs": None,
        "each": "divided",
        "like": None,
    }
    assert config["trainer"]["precision"] == "32"
    assert config["balance"]["name"] == "sum"
    assert list(config["task"]) == config["tasks"] == ["colours", "shapes"]
    assert left(tmp_path) == []


def test_mistakes_end_with_two_in_a_second_and_leave_nothing(verb, tmp_path):
    begun = time.perf_counter()
    done = verb("strategy=task_singal", "+typo=1", "seed=abc")
    assert time.perf_counter() - begun < 5  # a second on an idle machine
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: unknown strategy 'task_singal' (command line: strategy=task_singal)",
        "error: unknown key 'typo' (command line: +typo=1)",
        "error: seed must be an integer, found 'abc' (command line: seed=abc)",
    ]
    assert "Traceback" not in done.stderr
    assert "\033" not in done.stderr
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("seed", "status", "text"),
    [
        (901, 2, "error: no such folder (data.root=DIR)"),
        (902, 1, "fault: this is a fault of mtl, not of yours: ValueError: broken inside"),
        (903, 143, ""),
        (904, 7, ""),
    ],
)
def test_exit_status(verb, seed, status, text):
    done = verb(f"seed={seed}")
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert done.stderr.splitlines()[-1] == "  the full traceback: set MTL_TRACEBACK=1"


def test_traceback_on_request(verb):
    assert "in work" in verb("seed=902", environment={"MTL_TRACEBACK": "1"}).stderr
    assert "in work" in verb("seed=901", environment={"MTL_TRACEBACK": "1"}).stderr


def test_a_configs_package_in_the_working_directory_is_not_ours(verb, tmp_path):
    world.write(tmp_path / "configs" / "__init__.py", "raise SystemExit('imported')")
    world.write(tmp_path / "configs" / "fit.yaml", "seed: 99\n")
    (config,) = configs(verb(environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{world.PROJECT}"}))
    assert config["seed"] == 0


def test_multirun(verb, tmp_path):
    found = configs(verb("seed=1,2", "tasks=[colours],[sizes]", "--multirun"))
    assert [(config["seed"], config["tasks"], list(config["task"])) for config in found] == [
        (seed, [task], [task]) for seed in (1, 2) for task in ("colours", "sizes")
    ]
    assert left(tmp_path) == []


def test_every_value_of_a_sweep_is_checked_before_the_first_job(verb):
    done = verb("seed=1,two", "-m", "decoder=tiny,tny")
    assert (done.returncode, done.stdout) == (2, "")
    assert "found 'two'" in done.stderr
    assert "unknown decoder 'tny'" in done.stderr


def test_one_folder_for_many_jobs_is_refused(verb):
    done = verb("seed=1,2", "run_dir=runs/a", "-m")
    assert done.returncode == 2
    assert "every job of the sweep would write to the same run_dir" in done.stderr


def test_the_printed_config_repeats_the_run(verb, tmp_path):
    arguments = ["seed=7", "decoder=small", "budget.epochs=2", "task.colours.labels=[n,y]"]
    printed = verb(*arguments, "--cfg", "job", "--resolve")
    assert printed.returncode == 0
    world.write(tmp_path / "run" / "config.yaml", printed.stdout)
    assert configs(verb("--config-dir", "run", "--config-name", "config")) == configs(
        verb(*arguments)
    )
    (resumed,) = configs(verb("resume=run"))
    assert resumed.pop("resume") == "run"
    (first,) = configs(verb(*arguments))
    first.pop("resume")
    assert resumed == first


def test_resume_takes_nothing_beside_it(verb):
    done = verb("resume=run", "seed=1", "--config-dir", ".")
    assert done.returncode == 2
    assert "found beside it: seed=1 --config-dir" in done.stderr


def test_own_task_and_strategy_preset_in_a_folder(verb, tmp_path):
    world.write(tmp_path / "mine" / "task" / "moods.yaml", world.TASK.format(name="moods"))
    world.write(tmp_path / "mine" / "strategy" / "half.yaml", "name: task_signal\nshare: 0.25\n")
    (config,) = configs(verb("tasks=[moods]", "strategy=half", "--config-dir", "mine"))
    assert config["task"]["moods"]["prompt"] == ["{{ text }} for ", "${5}"]
    assert config["strategy"] == {
        "name": "task_signal",
        "share": 0.25,
        "reading": "rank",
        "depth": None,
    }


def test_the_trainer_may_start_the_command_once_more(verb):
    done = verb("seed=5", "+task@task.colours=colours", "hydra.run.dir='.'", "hydra.job.name=child")
    assert configs(done)[0]["seed"] == 5


def test_help(verb):
    done = verb("--help")
    assert done.returncode == 0
    for text in (
        "Does one thing.",
        "task_signal  Task signal: a token says the task",
        "strategy.share: float, default 0.5. Share of rows that carry the token.",
        "colours  Tell colours apart.",
        "tiny   For tests",
        "budget.tokens: int|null, default 14000000. Non-padding input tokens.",
    ):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--confg-dir", "x"], "did you mean: --config-dir"),
        (["--experimental-rerun", "x.pickle"], "it would load a pickle"),
        (["--config-path", "x"], "--config-dir DIR"),
        (["--config-name", "fitt"], "did you mean: fit"),
        (["--config-dir", "nowhere"], "the config folder 'nowhere' is missing"),
    ],
)
def test_flags(verb, arguments, text):
    done = verb(*arguments)
    assert done.returncode == 2
    assert text in done.stderr


def test_predict_reads_text_as_it_is(verb):
    text = "It's fine, (really): a = b!"
    (config,) = configs(verb("run=runs/a", f"text={text}", "task=colours", verb="predict"))
    assert config["text"] == text
    assert config["task"] == "colours"
    (config,) = configs(verb("run=runs/a", "text={premise: it rains, n: 3}", verb="predict"))
    assert config["text"] == {"premise": "it rains", "n": 3}


def test_evaluate_knows_the_tasks_a_run_stored(verb, tmp_path):
    stored = "task:\n  moods:\n" + "".join(
        f"    {line}\n" for line in world.TASK.format(name="moods").splitlines()
    )
    world.write(tmp_path / "run" / "config.yaml", stored)
    (config,) = configs(verb("run=run", "tasks=[moods,sizes]", verb="evaluate"))
    assert list(config["task"]) == ["moods", "sizes"]


def test_hydra_flags(verb):
    assert "pkg://configs" in verb("--info", "searchpath").stdout
    assert "decoder:" in verb("--cfg", "job", "--package", "_global_").stdout
    completed = verb(
        "-sc",
        "query=bash",
        environment={"COMP_LINE": "python stand_in.py decoder=s", "COMP_POINT": "27"},
    )
    assert completed.stdout.split() == ["decoder=small"]


def test_the_map_names_what_there_is(tmp_path):
    world.write(tmp_path / "runs" / "first" / "config.yaml", "seed: 0\n")
    world.write(
        tmp_path / "runs" / "first" / "summary.json",
        '{"strategy": "mt_dnn", "seed": 4, "status": "finished", "average": {"value": 0.5}}',
    )
    done = subprocess.run(
        [sys.executable, "-m", "mtl"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "first  mt_dnn, seed 4, finished, average 0.500" in done.stdout
    assert "task_signal" in done.stdout
    assert "decoder=" in done.stdout
