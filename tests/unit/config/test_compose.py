"""Composition from Python, and what is true of every configuration that ships."""

import dataclasses

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase

from mtl.config import packages
from mtl.config.compose import compose, differing_keys, to_yaml
from mtl.config.errors import UserError
from mtl.config.schema import FitConfig
from mtl.config.values import check, convert
from mtl.config.verb_schema import EvaluateConfig, PredictConfig

GROUPS = (
    "suite",
    "mixture",
    "balance",
    "decoder",
    "tokenizer",
    "corpus",
    "optimizer",
    "trainer",
    "strategy",
)
EXTRA = {
    "balance=static": ["balance.weights={cola: 1}"],
    "mixture=explicit": ["mixture.rates={cola: 1}"],
    "mixture=nested": ["mixture.groups={all: {tasks: [cola]}}", "mixture.rates={all: 1}"],
    "tokenizer=folder": ["tokenizer.folder=somewhere"],
    "corpus=files": ["corpus.files=[somewhere.txt]"],
}


def shipped():
    for group in GROUPS:
        for file in sorted((packages.ROOT / "configs" / group).glob("*.yaml")):
            yield f"{group}={file.stem}"
    for file in sorted((packages.ROOT / "strategies").glob("[a-z]*.py")):
        yield f"strategy={file.stem}"


@pytest.mark.parametrize("choice", list(shipped()))
def test_every_shipped_choice_is_a_valid_config(choice):
    tasks = [] if choice.startswith("suite=") else ["tasks=[cola]"]
    config = compose("fit", FitConfig, [choice, *tasks, *EXTRA.get(choice, [])])
    group, _, name = choice.partition("=")
    value = getattr(config, group)
    assert name in (
        value,
        getattr(value, "name", None),
        value["name"] if group == "strategy" else None,
        name if group == "optimizer" else None,  # an optimizer does not bear its file's name
    )


def test_every_shipped_task_is_valid():
    names = sorted(file.stem for file in (packages.ROOT / "configs" / "task").glob("*.yaml"))
    config = compose("fit", FitConfig, [f"tasks=[{','.join(names)}]"])
    assert [task.name for task in config.task.values()] == list(config.task) == names


def test_yaml_composes_to_the_same_config_again(tmp_path):
    first = compose(
        "fit", FitConfig, ["tasks=[cola]", "budget.epochs=1.5", "optimizer.epsilon=1e-7"]
    )
    prompt = ["{{ sentence }}", "${x} 1e-3", "null"]
    task = dataclasses.replace(first.task["cola"], prompt=prompt)
    first = dataclasses.replace(first, task={"cola": task})
    (tmp_path / "config.yaml").write_text(to_yaml(first), encoding="utf-8")
    second = compose("config", FitConfig, config_dir=str(tmp_path))
    assert second == first
    assert differing_keys(first, second) == []
    third = compose("config", FitConfig, ["seed=4", "budget.steps=3"], config_dir=str(tmp_path))
    assert differing_keys(first, third) == [
        ("budget.steps", None, 3),
        ("budget.epochs", 1.5, None),
        ("seed", 0, 4),
    ]


def test_composing_leaves_hydras_state_alone():
    before = VersionBase.instance().version_base
    assert compose("fit", FitConfig, ["tasks=[cola]"]) == compose(
        "fit", FitConfig, ["tasks=[cola]"]
    )
    assert not GlobalHydra.instance().is_initialized()
    assert VersionBase.instance().version_base is before


def test_composing_inside_a_running_hydra_main(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["program", "hydra.run.dir=.", "hydra.output_subdir=null"])
    seen = []

    def job(config):
        outer = HydraConfig.get()
        seen.append(
            compose("fit", FitConfig, ["tasks=[cola]", "run_dir=runs/${hydra:job.num}"]).run_dir
        )
        assert HydraConfig.get() == outer

    hydra.main(version_base="1.3", config_path=str(tmp_path))(job)()
    assert seen == ["runs/0"]


def test_data_root_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MTL_DATA_ROOT", "/somewhere")
    assert compose("fit", FitConfig, ["tasks=[cola]"]).data.root == "/somewhere"
    assert compose("fit", FitConfig, ["tasks=[cola]", "data.root=null"]).data.root is None
    # A finished run knows where its data lay; the environment only helps one that does not.
    assert compose("evaluate", EvaluateConfig, ["run=x"]).data.root is None


def test_predict_takes_one_input():
    config = compose("predict", PredictConfig, ["run=x", "text=a, b", "task=cola"])
    assert (config.text, config.task) == ("a, b", "cola")


def test_unreadable_yaml_names_file_and_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: [\n")
    with pytest.raises(UserError, match=r"mine\.yaml, line 2"):
        compose("mine", FitConfig, [], config_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("type_", "given", "expected"),
    [
        (int, 2e6, 2_000_000),
        (int, 2.5, 2.5),
        (int, True, True),
        (float, 1, 1.0),
        (float, "1e-3", 1e-3),
        (float, "x", "x"),
        (int | None, 3.0, 3),
        (float | None, None, None),
        (str | None, 2024, "2024"),
        (list[float], [1, 2], [1.0, 2.0]),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
    ],
)
def test_convert(type_, given, expected):
    found = convert(type_, given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("wrong", ["3", 2.5, True, None, [], {}])
def test_an_integer_is_nothing_else(wrong):
    instance, problems = check(int, wrong, ("seed",))
    assert instance is None
    assert [(p.key, p.kind, p.expected) for p in problems] == [("seed", "type", "an integer")]


def test_a_misspelt_key_inside_a_list_of_mappings_is_said():
    with pytest.raises(UserError) as raised:
        compose(
            "fit", FitConfig, ["tasks=[cola]", "mixture.schedule=[{at: 0}, {at: 1, temprature: 3}]"]
        )
    assert raised.value.problem == "unknown key 'mixture.schedule.1.temprature'"
