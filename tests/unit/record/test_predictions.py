from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtl.config.errors import UserError
from mtl.record.folder import RunFolder
from mtl.record.predictions import read_predictions, write_predictions

ROWS = ["validation:0", "validation:1"]


@pytest.mark.parametrize(
    ("targets", "predictions", "scores"),
    [
        ([0, 1], [1, 1], [[-0.5, -0.1], [-2.0, -0.1, -3.0]]),
        ([0.2, 5.0], [1.4, 3.25], None),
        (["ja", "nein"], ["ja", "\n"], None),
        ([["Paris", "paris"], ["Rome"]], ["Paris", ""], None),
    ],
)
def test_predictions_come_back_as_they_were(
    tmp_path: Path, targets: list[Any], predictions: list[Any], scores: Any
) -> None:
    folder = RunFolder(tmp_path)
    path = write_predictions(
        folder,
        "a.b",
        "validation",
        rows=ROWS,
        targets=targets,
        predictions=predictions,
        scores=scores,
    )
    assert path == tmp_path / "predictions" / "a.b.validation.parquet"
    frame = read_predictions(folder, "a.b")
    columns = ["row", "target", "prediction", *(["scores"] if scores else [])]
    assert list(frame.columns) == columns
    plain = [getattr(value, "tolist", lambda value=value: value)() for value in frame["target"]]
    assert (list(frame["row"]), plain, list(frame["prediction"])) == (ROWS, targets, predictions)
    if scores:
        assert [row.tolist() for row in frame["scores"]] == scores


def test_what_was_decoded_freely_stands_in_a_column_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    common = {"rows": ROWS, "targets": [0, 1], "predictions": [1, 1], "scores": [[-1.0, -0.5]] * 2}
    write_predictions(folder, "a", "test", **common, decoded=["", "ja, nein"])
    frame = read_predictions(folder, "a")
    assert list(frame.columns) == ["row", "target", "prediction", "scores", "decoded"]
    assert list(frame["decoded"]) == ["", "ja, nein"]
    with pytest.raises(ValueError, match="`decoded` must have 2 rows; found 1"):
        write_predictions(folder, "a", "test", **common, decoded=["ja"])


def test_what_is_not_there_is_named_with_its_neighbours(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for split in ("test", "validation"):
        write_predictions(folder, "sst2", split, rows=["r"], targets=[1], predictions=[0])
    with pytest.raises(UserError, match="did you mean: sst2"):
        read_predictions(folder, "sst")
    with pytest.raises(UserError, match="available: test, validation"):
        read_predictions(folder, "sst2")
    with pytest.raises(UserError, match="did you mean: test"):
        read_predictions(folder, "sst2", "tests")


def test_columns_must_be_equally_long(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found 2, 1 and 2"):
        write_predictions(
            RunFolder(tmp_path), "a", "test", rows=ROWS, targets=[1], predictions=[1, 1]
        )


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".a"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be part of a file name"):
        write_predictions(
            RunFolder(tmp_path), name, "test", rows=["r"], targets=[1], predictions=[1]
        )
