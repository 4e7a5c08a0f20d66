"""A lab that was just begun stands on its own: it passes lint, and nothing that was there is lost."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from breakfix import linting, scaffold
from breakfix.errors import UsageError
from breakfix.proving import attempts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Written


def test_a_new_lab_passes_lint(written: Written) -> None:
    found = written.load()
    assert linting.lint(found, tuple(found.labs.values())) == ()
    assert [lab.id for lab in found.labs.values()] == ["linux/written"]


def test_what_was_written_is_told(tmp_path: Path) -> None:
    told = scaffold.write(tmp_path, "linux/new")
    assert sorted(told) == sorted(one for one in tmp_path.rglob("*") if one.is_file())
    assert tmp_path / "graders/linux/new/test_lab.py" in told
    assert not [one for one in told if one.name == "lab_tests.py" or one.suffix == ".pyc"]


def test_a_new_lab_has_something_to_prove(written: Written) -> None:
    lab = written.lab()
    assert [one.name for one in attempts(lab, "solutions")] == ["reference"]
    assert len(attempts(lab, "cheats")) == 3
    ast.parse((written.grader / "test_lab.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("there", ["labs", "graders"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    mine = tmp_path / there / "linux/new/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is there already"):
        scaffold.write(tmp_path, "linux/new")
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [mine]


@pytest.mark.parametrize(
    "name",
    ["new", "", "/", "linux/", "/new", "Linux/new", "linux/New", "linux/a/b", "../x/y", "linux/..", "linux/a_b",
     "linux/1a", "linux/a b", "linux/new\n", "-x/y"],
)  # fmt: skip
def test_a_bad_name_writes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a lab"):
        scaffold.write(tmp_path, name)
    assert list(tmp_path.iterdir()) == []
