"""An image's tag is what it is made from: a changed recipe is another image, an unchanged one never is."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from breakfix import images

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of recipes; each has two files, one of them in a folder."""
    for name in images.NAMES:
        (tmp_path / "docker" / name / "etc").mkdir(parents=True)
        (tmp_path / "docker" / name / "Dockerfile").write_text(f"FROM {name}\n", encoding="utf-8")
        (tmp_path / "docker" / name / "etc/motd").write_text("hello\n", encoding="utf-8")
    monkeypatch.setattr(images, "bundle", lambda: tmp_path)
    return tmp_path / "docker"


def tags() -> dict[str, str]:
    return {name: images.tag(name) for name in images.NAMES}


def test_a_tag_is_a_name_and_a_digest(docker: Path) -> None:
    assert all(re.fullmatch(rf"breakfix/{name}:[0-9a-f]{{12}}", tag) for name, tag in tags().items())
    assert len(set(tags().values())) == 3
    assert images.toolbox_volume() == f"breakfix-toolbox-{images.tag('toolbox')[-12:]}"


def test_nothing_but_the_recipe_counts(docker: Path) -> None:
    before = tags()
    (docker / "Dockerfile").touch()
    os.utime(docker / "host/Dockerfile", (0, 0))
    (docker / "host/empty").mkdir()
    assert tags() == before


@pytest.mark.parametrize("change", ["content", "name", "folder", "more", "less", "swapped"])
def test_a_changed_recipe_is_another_image(docker: Path, change: str) -> None:
    before = tags()
    motd, recipe = docker / "host/etc/motd", docker / "host/Dockerfile"
    if change == "content":
        motd.write_text("hallo\n", encoding="utf-8")
    elif change == "name":
        motd.rename(motd.with_name("issue"))
    elif change == "folder":
        (docker / "host/usr").mkdir()
        motd.rename(docker / "host/usr/motd")
    elif change == "more":
        (docker / "host/etc/issue").touch()
    elif change == "less":
        motd.unlink()
    else:
        old = motd.read_bytes()
        motd.write_bytes(recipe.read_bytes())
        recipe.write_bytes(old)
    after = tags()
    assert after["host"] != before["host"]
    assert after["toolbox"] == before["toolbox"]


def test_what_all_stand_on_changes_all(docker: Path) -> None:
    before = tags()
    (docker / "base/Dockerfile").write_text("FROM something else\n", encoding="utf-8")
    assert all(tags()[name] != before[name] for name in images.NAMES)


def test_where_the_recipes_stand_does_not_count(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tags()
    shutil.copytree(docker, tmp_path / "elsewhere/docker")
    monkeypatch.setattr(images, "bundle", lambda: tmp_path / "elsewhere")
    assert tags() == before


def test_the_engine_is_given_the_whole_recipe(docker: Path) -> None:
    with tarfile.open(fileobj=images._context("host")) as archive:
        assert {os.path.normpath(one) for one in archive.getnames()} >= {"Dockerfile", "etc/motd"}
