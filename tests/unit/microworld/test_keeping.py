"""What is kept is what would be generated, and is generated once."""

import pytest

from mtl.config.errors import UserError
from mtl.tasks import microworld
from mtl.tasks.microworld import keeping


@pytest.mark.parametrize("task", microworld.TASKS)
def test_kept_rows_are_the_generated_ones(task, tmp_path, monkeypatch):
    expected = microworld.rows(task, "validation")
    assert microworld.kept_rows(task, "validation", tmp_path) == expected
    monkeypatch.setattr(keeping, "rows", lambda *_: pytest.fail("drawn again"))
    assert microworld.kept_rows(task, "validation", tmp_path) == expected


def test_kept_documents_are_the_generated_ones(tmp_path, monkeypatch):
    wanted = {"demonstrations": 0.5, "permuted": True, "split": "validation", "count": 20}
    expected = microworld.documents(**wanted)
    assert microworld.kept_documents(**wanted, root=tmp_path) == expected
    assert microworld.kept_documents(**{**wanted, "permuted": False}, root=tmp_path) != expected
    monkeypatch.setattr(keeping, "documents", lambda **_: pytest.fail("drawn again"))
    assert microworld.kept_documents(**wanted, root=tmp_path) == expected


def test_a_changed_generator_is_not_answered_from_the_cache(tmp_path, monkeypatch):
    microworld.kept_rows("sentiment", "test", tmp_path)
    monkeypatch.setattr(keeping, "_sources", lambda: "other code")
    monkeypatch.setattr(keeping, "rows", lambda *_: [{"text": "other"}])
    assert microworld.kept_rows("sentiment", "test", tmp_path) == [{"text": "other"}]


def test_a_mistake_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="did you mean: sentiment"):
        microworld.kept_rows("sentimant", "test", tmp_path)
    assert list(tmp_path.iterdir()) == []
