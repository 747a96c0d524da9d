"""Facts of the house that no single module can keep: who names whom, how long files are, what stands alone."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
STRATEGIES = sorted(p.stem for p in (ROOT / "strategies").glob("*.py") if p.stem != "__init__")
LIBRARY = sorted((ROOT / "mtl").rglob("*.py"))
HELP = ROOT / "mtl/config/help.py"  # its examples are prose that is printed
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
VERBS = [
    v
    for v in ("fit", "evaluate", "predict", "generate", "prepare", "export", "study", "report")
    if (ROOT / f"mtl/{v}.py").exists()
]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def names_and_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every identifier and every string of a module, docstrings aside.

    A string that stands alone as a statement is documentation: it may give ``strategy=...`` as an example.
    """
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield node.lineno, text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text):
                yield node.lineno, text
            case ast.keyword(arg=str(text)):
                yield node.value.lineno, text
            case ast.FunctionDef(name=text) | ast.ClassDef(name=text):
                yield node.lineno, text
            case ast.Import() | ast.ImportFrom():
                yield node.lineno, ast.unparse(node)


def strategies_named(source: str) -> list[tuple[int, str]]:
    whole_word = re.compile(rf"(?<![a-zA-Z0-9_])({'|'.join(STRATEGIES)})(?![a-zA-Z0-9_])")
    return [
        (line, found)
        for line, text in names_and_strings(ast.parse(source))
        for found in whole_word.findall(text)
    ]


@pytest.mark.skipif(not STRATEGIES, reason="strategies/ is empty")
def test_the_rule_finds_a_strategy_in_code_and_not_in_prose() -> None:
    name = STRATEGIES[0]
    code = f'"""As in strategy={name}."""\n# {name}\nif chosen == "{name}": go(only="strategy={name}")\n'
    assert strategies_named(code) == [(3, name), (3, name)]
    assert strategies_named(f"def {name}_like(): ...") == []
    assert strategies_named(f"from strategies.{name} import x") == [(1, name)]


@pytest.mark.skipif(not STRATEGIES, reason="strategies/ is empty")
@pytest.mark.parametrize("path", [path for path in LIBRARY if path != HELP], ids=relative)
def test_mtl_names_no_strategy(path: Path) -> None:
    """A paradigm is added by adding its file: no line of the library knows which ones there are."""
    assert strategies_named(path.read_text()) == []


def test_the_examples_of_the_help_name_strategies_that_exist() -> None:
    named = re.findall(r"strategy=([a-z_,]+)", HELP.read_text())
    assert named
    assert set(",".join(named).split(",")) <= set(STRATEGIES)


def test_a_strategy_is_at_most_200_lines_and_a_module_of_mtl_400() -> None:
    limits = dict.fromkeys(LIBRARY, 400)
    limits |= {ROOT / f"strategies/{name}.py": 200 for name in STRATEGIES}
    lines = {path: len(path.read_text().splitlines()) for path in limits}
    assert {relative(p): n for p, n in lines.items() if n > limits[p]} == {}


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_a_config_says_what_it_is(path: Path) -> None:
    """In its description where it has one, which ``python -m mtl`` lists, otherwise in a comment on its first line."""
    text = path.read_text().removeprefix("# @package _global_\n")  # Hydra wants its directive first
    assert re.match(r"# \S.{8,}", text) or re.search(r"^description: \S.{8,}", text, re.MULTILINE)


def closure(*names: str) -> set[str]:
    """The installed distributions that installing ``names`` brings, extras only where one asks for them."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, frozenset[str]()) for name in names]
    while waiting:
        if (wanted := waiting.pop()) in found:
            continue
        found.add(wanted)
        name, extras = wanted
        for text in importlib.metadata.requires(name) or ():
            need = Requirement(text)
            if need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in extras | {""}
            ):
                waiting.append((need.name, frozenset(need.extras)))
    return {name for name, _ in found}


def modules(*packages: str) -> list[str]:
    return [
        f"mtl.{package}.{found.name}"
        for package in packages
        for found in pkgutil.iter_modules([str(ROOT / "mtl" / package)])
        if not found.ispkg
    ]


def test_decoder_data_and_learning_stand_on_few_libraries(tmp_path: Path) -> None:
    """They import where neither Hydra, MLflow, Optuna, datasets nor pyarrow is installed (pydantic comes with the
    hub client of transformers; that only mtl.config imports it is one of the import contracts).

    The place is made of links to the few distributions and what those need, so a library that looks for another one
    finds what it would find there.
    """
    few = closure(
        "torch", "pytorch-lightning", "torchmetrics", "transformers", "tokenizers", "numpy"
    )
    for name in few:
        for file in importlib.metadata.files(name) or ():
            top = file.parts[0]
            link = tmp_path / top
            if top not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(Path(str(importlib.metadata.distribution(name).locate_file(top))))
    absent = ("hydra", "omegaconf", "mlflow", "optuna", "datasets", "pyarrow")
    wanted = modules("decoder", "data", "learning")
    program = f"""
import importlib, importlib.util, json, sys
sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]
assert not [name for name in {absent!r} if importlib.util.find_spec(name)]
failures = {{}}
for name in {wanted!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failures[name] = repr(error)
print(json.dumps(failures))
"""
    # -I -S: neither site-packages nor PYTHONPATH, only the standard library and the links.
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


HEAVY = (
    "torch",
    "pytorch_lightning",
    "transformers",
    "datasets",
    "mlflow",
    "pandas",
    "scipy",
    "sklearn",
    "matplotlib",
)


def loaded_by(program: str) -> list[str]:
    """Which heavy libraries are in memory after ``program``."""
    report = f"import sys\nprint('loaded', *(n for n in {HEAVY!r} if n in sys.modules))"
    command = [sys.executable, "-c", f"{program}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_configuration_front_is_light() -> None:
    imports = "\n".join(f"import {name}" for name in modules("config"))
    assert loaded_by(imports) == []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("arguments", [["--help"], ["sede=1"]], ids=["help", "mistake"])
def test_help_and_a_mistake_answer_before_anything_heavy_is_loaded(
    verb: str, arguments: list[str]
) -> None:
    program = f"""
import contextlib, io, runpy, sys
sys.argv[1:] = {arguments!r}
try:
    runpy.run_module("mtl.{verb}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert end.code in ({"(None, 0)" if arguments == ["--help"] else "(2,)"}), end.code
else:
    assert {arguments == ["--help"]}
"""
    assert loaded_by(program) == []
