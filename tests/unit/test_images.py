"""An image's tag is what it is made from: a changed recipe is another image, an unchanged one never is."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest
from docker.errors import DockerException

from breakfix import images, recipes
from breakfix.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of recipes; each has two files, one of them in a folder."""
    for name in images.NAMES:
        (tmp_path / "docker" / name / "etc").mkdir(parents=True)
        recipe = "ARG BASE\nFROM ${BASE}\n" if name != "base" else "FROM scratch\n"
        (tmp_path / "docker" / name / "Dockerfile").write_text(recipe, encoding="utf-8")
        (tmp_path / "docker" / name / "etc/motd").write_text("hello\n", encoding="utf-8")
    monkeypatch.setattr(recipes, "bundle", lambda: tmp_path)
    return tmp_path / "docker"


def tags() -> dict[str, str]:
    return {name: recipes.tag(name) for name in images.NAMES}


def test_a_tag_is_a_name_and_a_digest(docker: Path) -> None:
    assert all(re.fullmatch(rf"breakfix/{name}:[0-9a-f]{{12}}", tag) for name, tag in tags().items())
    assert len(set(tags().values())) == 3
    assert images.toolbox_volume() == f"breakfix-toolbox-{recipes.tag('toolbox')[-12:]}"


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
        motd.write_text("ARG BASE\nFROM ${BASE}\n# hello\n", encoding="utf-8")
        before = tags()
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
    monkeypatch.setattr(recipes, "bundle", lambda: tmp_path / "elsewhere")
    assert tags() == before


def test_the_engine_is_given_the_whole_recipe(docker: Path) -> None:
    with tarfile.open(fileobj=images._context("host")) as archive:
        assert {os.path.normpath(one) for one in archive.getnames()} >= {"Dockerfile", "etc/motd"}


class Engine:
    """An engine that has some images."""

    def __init__(self, *names: str) -> None:
        self.has = {recipes.tag(name) for name in names}

    registry = False

    def images(self, name: str, **_: object) -> list[str]:
        return ["id"] if name in self.has else []

    def inspect_distribution(self, _: str) -> None:
        if not self.registry:
            raise DockerException


def test_nothing_is_missing_when_all_is_there(docker: Path) -> None:
    assert images._missing(Engine(*images.NAMES), images.NAMES, rebuild=False) == ()  # type: ignore[arg-type]


def test_what_an_image_stands_on_is_built_first(docker: Path) -> None:
    assert images._missing(Engine(), ("host", "toolbox"), rebuild=False) == ("base", "host", "toolbox")  # type: ignore[arg-type]


def test_what_a_finished_image_stood_on_is_not_asked_for(docker: Path) -> None:
    assert images._missing(Engine("host"), ("host",), rebuild=False) == ()  # type: ignore[arg-type]


def test_on_wish_all_is_built_again(docker: Path) -> None:
    assert images._missing(Engine(*images.NAMES), ("host",), rebuild=True) == ("base", "host")  # type: ignore[arg-type]


def test_a_name_that_is_no_image_is_refused_before_anything_is_built(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "connect", Engine)
    with pytest.raises(UsageError, match="no image is called hots"):
        images.ensure(("hots",), lambda _: None)


@pytest.fixture
def node(docker: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    (docker / "node").mkdir()
    engine = Engine("node")
    monkeypatch.setattr(images, "connect", lambda: engine)
    return engine


def test_without_a_registry_kinds_nodes_are_ours(node: Engine) -> None:
    assert images.node(lambda _: None) == recipes.tag("node")


def test_with_a_registry_kinds_nodes_are_its_own(node: Engine) -> None:
    node.registry = True
    assert images.node(lambda _: None) is None


def test_what_is_done_one_at_a_time_may_build_on_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # On a machine with nothing built, making the cluster hung: it waited for itself to let it build the node image.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def nested() -> None:
        with images.one_at_a_time("cluster"), images.one_at_a_time("build"):
            pass

    thread = threading.Thread(target=nested, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


def test_two_that_do_the_same_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    order: list[str] = []

    def other() -> None:
        with images.one_at_a_time("build"):
            order.append("other")

    thread = threading.Thread(target=other, daemon=True)
    with images.one_at_a_time("build"):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "other"]
