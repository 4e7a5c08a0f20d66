"""Labs are found, not listed; one broken lab hides no other, and every problem is told."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from breakfix import catalog, scaffold
from breakfix.catalog import LABS_SETTING, Catalog, Root
from breakfix.errors import InvalidLab, UnknownLab, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def root(folder: Path, *labs: str) -> Root:
    for lab in labs:
        scaffold.write(folder, lab)
    return Root(folder / "labs", folder / "graders")


def spoil(where: Root, lab: str, old: str, new: str) -> None:
    path = where.labs / lab / "lab.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def four(tmp_path: Path) -> Catalog:
    return catalog.load((root(tmp_path, "linux/disk-full", "linux/dns-half", "k8s/dns-half", "k8s/crash-loop"),))


def test_every_lab_is_found_by_its_path(four: Catalog) -> None:
    assert list(four.labs) == ["k8s/crash-loop", "k8s/dns-half", "linux/disk-full", "linux/dns-half"]
    assert all(lab.id == key and lab.grader is not None for key, lab in four.labs.items())
    assert four.problems == ()


def test_a_lab_goes_by_its_id_or_its_last_part_where_that_is_enough(four: Catalog) -> None:
    assert four.find("linux/dns-half").track == "linux"
    assert four.find("disk-full").id == "linux/disk-full"
    with pytest.raises(UnknownLab, match="'dns-half' is the name of 2 labs") as caught:
        four.find("dns-half")
    assert caught.value.next_step == "Type one of: k8s/dns-half, linux/dns-half"


@pytest.mark.parametrize(
    ("typed", "meant"), [("disk-ful", "disk-full"), ("crashloop", "crash-loop"), ("dsk-full", "disk-full")]
)
def test_a_slip_is_answered_with_what_was_meant(four: Catalog, typed: str, meant: str) -> None:
    with pytest.raises(UnknownLab, match=f"no lab is called '{typed}'") as caught:
        four.find(typed)
    assert caught.value.next_step.startswith(f"Did you mean {meant}")
    assert "breakfix list" in caught.value.next_step


def test_what_is_like_nothing_is_answered_without_a_guess(four: Catalog) -> None:
    with pytest.raises(UnknownLab) as caught:
        four.find("zzzzzz")
    assert caught.value.next_step == "`breakfix list` shows them all."


def test_every_problem_of_every_lab_at_once_and_the_rest_still_works(tmp_path: Path) -> None:
    where = root(tmp_path, "linux/good", "linux/bad", "linux/worse")
    spoil(where, "linux/bad", 'level = "mid"\nminutes = 20', 'level = "low"\nminutes = 0')
    spoil(where, "linux/worse", "title = ", "title ")
    found = catalog.load((where,))
    assert list(found.labs) == ["linux/good"]
    told = [(problem.path.parent.name, problem.line, problem.message.partition(":")[0]) for problem in found.problems]
    assert told == [("bad", 2, "level"), ("bad", 3, "minutes"), ("worse", 1, "not TOML")]
    assert found.find("good").id == "linux/good"
    with pytest.raises(InvalidLab) as caught:
        found.find("linux/bad")
    assert [problem.line for problem in caught.value.problems] == [2, 3]


def test_two_roots_are_one_catalog(tmp_path: Path) -> None:
    found = catalog.load((root(tmp_path / "ours", "linux/a"), root(tmp_path / "yours", "linux/b")))
    assert {lab.id: lab.folder.parents[2].name for lab in found.labs.values()} == {
        "linux/a": "ours",
        "linux/b": "yours",
    }
    assert found.labs["linux/b"].grader == tmp_path / "yours/graders/linux/b"


def test_the_second_lab_of_one_id_is_a_problem(tmp_path: Path) -> None:
    first, second = root(tmp_path / "ours", "linux/a"), root(tmp_path / "yours", "linux/a")
    found = catalog.load((first, second))
    assert found.labs["linux/a"].folder == first.labs / "linux/a"
    (problem,) = found.problems
    assert problem.path == second.labs / "linux/a/lab.toml"
    assert problem.message == f"linux/a is in {first.labs / 'linux/a'} already"


def test_a_lab_without_its_grader_can_be_played(tmp_path: Path) -> None:
    where = root(tmp_path, "linux/a")
    shutil.rmtree(where.graders)
    assert catalog.load((where,)).find("a").grader is None


def test_only_folders_two_deep_are_labs(tmp_path: Path) -> None:
    where = root(tmp_path, "linux/a")
    (where.labs / "lab.toml").write_text("", encoding="utf-8")
    (where.labs / "linux/a/setup/lab.toml").write_text("", encoding="utf-8")
    assert list(catalog.load((where,)).labs) == ["linux/a"]


def test_our_own_labs_come_first_then_what_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("flag", "one", "two")]
    for folder in folders:
        root(folder, "linux/a")
    monkeypatch.setenv(LABS_SETTING, os.pathsep.join(str(one) for one in folders[1:]) + os.pathsep)
    found = catalog.roots((folders[0],))
    assert [one.labs.parent for one in found] == [catalog.bundle(), *folders]
    assert found[1].graders == folders[0] / "graders"


def test_a_folder_that_is_named_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "labs-of-ours"
    root(folder, "linux/a")
    monkeypatch.setenv(LABS_SETTING, str(folder))
    found = catalog.roots((folder / ".." / "labs-of-ours",))
    assert len(found) == 2
    assert not catalog.load(found[1:]).problems


def test_without_a_setting_there_are_only_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LABS_SETTING, raising=False)
    (only,) = catalog.roots()
    assert only.labs == catalog.bundle() / "labs"
    assert (catalog.bundle() / "docker").is_dir()


@pytest.mark.parametrize("by", ["flag", "setting"])
def test_a_root_without_labs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "setting":
        monkeypatch.setenv(LABS_SETTING, str(tmp_path))
    with pytest.raises(UsageError, match="has no labs") as caught:
        catalog.roots((tmp_path,) if by == "flag" else ())
    assert "breakfix --labs DIR new TRACK/NAME" in caught.value.next_step
