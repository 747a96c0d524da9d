from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config.errors import UserError
from mtl.record.files import to_json, write_atomically
from mtl.record.folder import RunFolder


def differing(found: str) -> list[tuple[str, str, str]]:
    return [] if found == "seed: 3\n" else [("seed", found.removeprefix("seed: ").strip(), "3")]


def claim(path: Path) -> tuple[RunFolder, str]:
    return RunFolder.claim(path, "seed: 3\n", differing)


def test_a_new_folder_holds_the_config_and_nothing_else(tmp_path: Path) -> None:
    folder, state = claim(tmp_path / "deep" / "run")
    assert state == "new"
    assert folder.config.read_text() == "seed: 3\n"
    assert [entry.name for entry in folder.path.iterdir()] == ["config.yaml"]
    assert [entry.name for entry in folder.path.parent.iterdir()] == ["run"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert claim(tmp_path)[1] == "new"
    assert (tmp_path / "config.yaml").read_text() == "seed: 3\n"


def test_the_same_config_goes_on_until_the_run_is_finished(tmp_path: Path) -> None:
    folder, _ = claim(tmp_path / "run")
    assert claim(tmp_path / "run")[1] == "resume"
    for status, expected in (("interrupted", "resume"), ("finished", "finished")):
        write_atomically(folder.summary, json.dumps({"status": status}))
        assert claim(tmp_path / "run")[1] == expected
    folder.summary.write_text('{"status": "finis')
    assert claim(tmp_path / "run")[1] == "resume"


def test_another_config_is_refused_with_the_differing_keys(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunFolder.claim(path, "seed: 0\n", differing)
    with pytest.raises(UserError) as refused:
        claim(path)
    assert str(refused.value) == (
        f"{path} holds a run with another config (run_dir={path})\n"
        "  seed: 0 there, 3 here\n"
        f"  name another folder, or go on with that run: resume={path}"
    )
    assert (path / "config.yaml").read_text() == "seed: 0\n"


def test_only_the_first_differing_keys_are_shown(tmp_path: Path) -> None:
    claim(tmp_path / "run")
    many = [(f"key{index}", "a", "b") for index in range(6)]
    with pytest.raises(UserError) as refused:
        RunFolder.claim(tmp_path / "run", "", lambda found: many)
    assert refused.value.hints[3:5] == ("key3: a there, b here", "and 2 more keys")


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is not empty and is no run folder"):
        claim(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_the_way_is_the_persons_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot use .* as a run folder"):
        claim(tmp_path / name)


def test_of_many_that_claim_at_once_exactly_one_gets_it_new(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        states = [state for _, state in pool.map(claim, [tmp_path / "run"] * 32)]
    assert sorted(states) == ["new"] + ["resume"] * 31


def test_dated_folders_of_one_second_differ(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5)
    folders = [
        RunFolder.dated("", strategy="mt_dnn", seed=7, parent=tmp_path, now=now) for _ in range(3)
    ]
    name = "2026-01-02_030405_mt_dnn_seed7"
    assert [folder.path.name for folder in folders] == [name, f"{name}_2", f"{name}_3"]


def test_open_names_the_nearest_run(tmp_path: Path) -> None:
    claim(tmp_path / "first_run")
    with pytest.raises(UserError) as refused:
        RunFolder.open(tmp_path / "frist_run", where="command line: resume=frist_run")
    assert str(refused.value) == (
        f"there is no run folder {tmp_path / 'frist_run'} (command line: resume=frist_run)\n"
        f"  did you mean: {tmp_path / 'first_run'}\n"
        f"  runs in {tmp_path}: first_run"
    )


def test_resuming_drops_later_steps_and_a_half_written_line(tmp_path: Path) -> None:
    folder, _ = claim(tmp_path / "run")
    for step in (10, 20, 20, 30):
        folder.append_metrics({"step": step, "tokens": step * 5, "a/loss": 1 / step})
    before = folder.metrics.read_bytes().splitlines(keepends=True)
    with folder.metrics.open("a") as file:
        file.write('{"step": 40, "tok')
    assert [entry["step"] for entry in folder.read_metrics()] == [10, 20, 20, 30]
    assert folder.truncate_after(20) == 1
    assert folder.metrics.read_bytes() == b"".join(before[:3])
    folder.append_metrics({"step": 30, "tokens": 150, "a/loss": 1 / 30})
    assert folder.metrics.read_bytes() == b"".join(before)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    folder, _ = claim(tmp_path / "run")
    folder.metrics.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2"):
        folder.truncate_after(3)


def test_truncating_before_anything_was_logged(tmp_path: Path) -> None:
    folder, _ = claim(tmp_path / "run")
    assert folder.truncate_after(0) == 0
    assert not folder.metrics.exists()


def test_each_line_of_the_log_has_its_time(tmp_path: Path) -> None:
    folder, _ = claim(tmp_path / "run")
    folder.say("one\ntwo")
    lines = [line.split(" ", 1) for line in folder.log.read_text().splitlines()]
    assert [text for _, text in lines] == ["one", "two"]
    assert all(datetime.fromisoformat(time).tzinfo for time, _ in lines)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@given(
    st.recursive(
        st.floats() | st.integers() | st.text() | st.none() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_strict_whatever_the_numbers(value: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    def without_nan(item: object) -> object:
        if isinstance(item, float):
            return item if math.isfinite(item) else None
        if isinstance(item, list):
            return [without_nan(inner) for inner in item]
        if isinstance(item, dict):
            return {key: without_nan(inner) for key, inner in item.items()}
        return item

    assert json.loads(to_json(value), parse_constant=refuse) == without_nan(value)


def test_json_takes_the_numbers_of_numpy() -> None:
    assert to_json({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}) == (
        '{"a": 0.5, "b": 3, "c": true}'
    )
    with pytest.raises(TypeError, match="set has no JSON form"):
        to_json({1})
