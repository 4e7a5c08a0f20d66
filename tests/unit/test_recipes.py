"""What an image is built from is read from its recipe, and is part of its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from breakfix import recipes

ROOT = Path(__file__).parents[2]
LAYERS = {
    "base/debootstrap.sh": "debootstrap\n",
    "go/Dockerfile": "ARG BASE\nFROM ${BASE}\n",
    "node-os/Dockerfile": "ARG BASE\nFROM ${BASE}\nARG NOT_AN_IMAGE\n",
    "node/Dockerfile": (
        "# from two\nARG NODE_OS\nARG WITH_DEFAULT=1\nARG ETCD\nFROM ${ETCD} AS etcd\nFROM ${NODE_OS}\nARG LATER\n"
    ),
    "node/parts/etcd/build.sh": "go build\n",
    "node/parts/helm/build.sh": "go build\n",
}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in LAYERS.items():
        path = tmp_path / "docker" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(recipes, "bundle", lambda: tmp_path)
    return tmp_path / "docker"


def tags() -> dict[str, str]:
    return {name: recipes.tag(name) for name in recipes.found()}


def changed(before: dict[str, str]) -> set[str]:
    after = tags()
    return {name for name in after if after[name] != before[name]}


def test_recipes_are_found_not_listed(docker: Path) -> None:
    assert recipes.found() == ("base", "etcd", "go", "helm", "node", "node-os")


def test_without_recipes_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "bundle", lambda: tmp_path)
    assert recipes.found() == ()


def test_what_an_image_needs_stands_before_its_first_from(docker: Path) -> None:
    assert recipes.needs("base") == ()
    assert recipes.needs("node-os") == ("base",)
    assert recipes.needs("node") == ("node-os", "etcd")
    assert recipes.arguments("node") == ("NODE_OS", "ETCD")


def test_a_part_needs_the_compiler_alone(docker: Path) -> None:
    assert recipes.is_part("etcd")
    assert not recipes.is_part("node")
    assert recipes.needs("etcd") == ("go",)


def test_each_comes_after_what_it_is_built_from(docker: Path) -> None:
    assert recipes.with_needs("node") == ("base", "node-os", "go", "etcd", "node")


@pytest.mark.parametrize(
    ("file", "rebuilt"),
    [
        ("base/debootstrap.sh", {"base", "etcd", "go", "helm", "node", "node-os"}),
        ("go/Dockerfile", {"etcd", "go", "helm", "node"}),
        ("node-os/Dockerfile", {"node", "node-os"}),
        ("node/Dockerfile", {"node"}),
        ("node/parts/etcd/build.sh", {"etcd", "node"}),
        ("node/parts/helm/build.sh", {"helm"}),
    ],
)
def test_only_what_changed_is_built_again(docker: Path, file: str, rebuilt: set[str]) -> None:
    before = tags()
    with (docker / file).open("a", encoding="utf-8") as recipe:
        recipe.write("# a comment\n")
    assert changed(before) == rebuilt


def test_an_image_is_given_its_own_files_alone(docker: Path) -> None:
    assert [relative for relative, _ in recipes.files("node")] == ["Dockerfile"]


def test_every_argument_of_our_recipes_is_an_image_of_ours() -> None:
    assert {need for name in recipes.found() for need in recipes.needs(name)} <= set(recipes.found())


def modules() -> list[Path]:
    return sorted(ROOT.glob("docker/node/parts/*/go.mod"))


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.parent.name))
def test_every_version_is_pinned(module: Path) -> None:
    assert module.with_name("go.sum").is_file()
    assert module.with_name("build.sh").is_file()
    assert not re.search(r"^toolchain", module.read_text(encoding="utf-8"), re.MULTILINE), "docker/go says which"


def test_all_parts_speak_the_same_release_of_kubernetes() -> None:
    text = (ROOT / "docker/node/parts/kubernetes/go.mod").read_text(encoding="utf-8")
    release = re.findall(r"^\tk8s.io/kubernetes v1\.(\S+)$", text, re.MULTILINE)
    replaced = re.findall(r"^\t(\S+) => (\S+) v0\.(\S+)$", text, re.MULTILINE)
    assert len(release) == 1
    assert replaced
    assert all((old, number) == (new, release[0]) for old, new, number in replaced)
