"""The user's kubeconfig is read as kubectl reads it, and what a named cluster must have is looked at."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from breakfix import catalog
from breakfix.cluster import contexts
from breakfix.environments import existing
from breakfix.errors import NotReady, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from docker import APIClient


def config(name: str, server: str, **user: object) -> dict[str, Any]:
    return {
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-user"}}],
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": f"{name}-user", "user": user}],
        "current-context": name,
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "one").write_text(json.dumps(config("home", "https://home:6443", username="me")), encoding="utf-8")
    (tmp_path / "two").write_text(
        json.dumps(config("work", "https://work:6443", **{"client-key": "key.pem"})), encoding="utf-8"
    )
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(tmp_path / one) for one in ("one", "absent", "two")))
    return tmp_path


@pytest.mark.usefixtures("home")
def test_all_files_are_read() -> None:
    assert contexts.names() == ("home", "work")


@pytest.mark.usefixtures("home")
def test_a_context_comes_alone() -> None:
    found = contexts.read("home")
    assert found["current-context"] == "home"
    assert [len(found[kind]) for kind in ("contexts", "clusters", "users")] == [1, 1, 1]
    assert found["users"][0]["user"] == {"username": "me"}


def test_what_stands_in_a_file_comes_with_it(home: Path) -> None:
    (home / "key.pem").write_bytes(b"a key")
    assert contexts.read("work")["users"][0]["user"] == {"client-key-data": base64.b64encode(b"a key").decode()}


@pytest.mark.usefixtures("home")
def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"key\.pem"):
        contexts.read("work")


@pytest.mark.usefixtures("home")
def test_a_context_that_nobody_has_is_refused_and_the_known_are_told() -> None:
    with pytest.raises(UsageError, match="no context is called 'prod'") as caught:
        contexts.read("prod")
    assert "home, work" in caught.value.next_step


def test_the_first_file_counts(home: Path) -> None:
    (home / "two").write_text(json.dumps(config("home", "https://elsewhere:6443")), encoding="utf-8")
    assert contexts.read("home")["clusters"][0]["cluster"]["server"] == "https://home:6443"


def test_what_is_no_kubeconfig_is_named(home: Path) -> None:
    (home / "one").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="one is no kubeconfig"):
        contexts.names()


def node(*images: list[str]) -> dict[str, Any]:
    return {"status": {"images": [{"names": names} for names in images]}}


@pytest.mark.parametrize(
    ("found", "may"),
    [
        (node(["registry.lab/shop/web:1"]), True),
        (node(["registry.lab/shop/web:2"]), False),
        (node(), False),
        (node(["a", "b", "c", "d", "e"]), True),
        (node(*[[f"image:{number}"] for number in range(50)]), True),
    ],
)
def test_a_node_lacks_an_image_only_where_it_tells_all_it_has(found: dict[str, Any], *, may: bool) -> None:
    assert existing._may_have(found, "registry.lab/shop/web:1") is may


class Engine:
    def containers(self) -> list[dict[str, Any]]:
        networks = {"kind": {"IPAddress": "172.18.0.2"}}
        ports = [{"PrivatePort": 80}, {"PrivatePort": 6443, "PublicPort": 37377, "IP": "127.0.0.1"}]
        return [{"Ports": [], "NetworkSettings": {}}, {"Ports": ports, "NetworkSettings": {"Networks": networks}}]


@pytest.mark.parametrize(
    ("server", "way"),
    [
        ("https://127.0.0.1:37377", ("kind", "172.18.0.2", 6443)),
        ("https://localhost:37377", ("kind", "172.18.0.2", 6443)),
        ("https://api.example.com", ("bridge", "api.example.com", 443)),
        ("https://10.1.2.3:8443", ("bridge", "10.1.2.3", 8443)),
    ],
)
def test_the_way_to_an_api_server(server: str, way: tuple[str, str, int]) -> None:
    found = existing._way_to(cast("APIClient", Engine()), server)
    assert (found.network, found.host, found.port) == way


def test_what_only_this_machine_reaches_is_refused() -> None:
    with pytest.raises(NotReady, match="no container reaches https://127"):
        existing._way_to(cast("APIClient", Engine()), "https://127.0.0.1:6443")


def test_a_lab_whose_pods_need_kinds_of_their_own_is_refused() -> None:
    labs = catalog.load(catalog.roots())
    with pytest.raises(UsageError, match="needs kinds of its own in the cluster, for edge"):
        existing.ExistingEnvironment._wanted(labs.find("ingress-answers-404"))
    assert existing.ExistingEnvironment._wanted(labs.find("config-key-missing"))
