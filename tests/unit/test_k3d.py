"""What k3d is asked to do, with a command in its place that writes down what it was asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from breakfix.cluster import k3d, tool
from breakfix.errors import NotReady

if TYPE_CHECKING:
    from pathlib import Path

STANDS = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$1 $2" in
"cluster list") cat {folder}/clusters ;;
"kubeconfig get") printf -- '---\\napiVersion: v1\\nclusters: []\\n' ;;
"cluster create") echo 'INFO[0003] Creating node k3d-breakfix-server-0' >&2 ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    command = tmp_path / "k3d"
    command.write_text(STANDS.format(folder=tmp_path), encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def have(place: Path, **counts: int) -> None:
    found = [
        {"name": "theirs", "serversRunning": 1},
        *({"name": name, "serversRunning": n} for name, n in counts.items()),
    ]
    (place / "clusters").write_text(json.dumps(found), encoding="utf-8")


def asked(place: Path) -> list[str]:
    return (place / "asked").read_text(encoding="utf-8").splitlines()


def test_a_cluster_is_made_where_there_is_none(place: Path) -> None:
    have(place)
    told: list[str] = []
    k3d.ensure(told.append)
    made = asked(place)[-1]
    assert made.startswith("cluster create breakfix --servers 1 ")
    assert "--kubeconfig-update-default=false" in made
    assert told == ["k3d: Creating node k3d-breakfix-server-0"]


def test_one_that_stands_still_is_started(place: Path) -> None:
    have(place, breakfix=0)
    k3d.ensure(lambda _: None)
    assert asked(place)[-1] == "cluster start breakfix"


def test_one_that_runs_is_left_alone(place: Path) -> None:
    have(place, breakfix=1)
    k3d.ensure(lambda _: None)
    assert asked(place) == ["cluster list --output json"]


def test_somebodys_cluster_is_never_deleted(place: Path) -> None:
    have(place)
    assert not k3d.exists()
    k3d.delete(lambda _: None)
    assert not [one for one in asked(place) if "delete" in one]
    have(place, breakfix=1)
    k3d.delete(lambda _: None)
    assert asked(place)[-1] == "cluster delete breakfix"


def test_its_kubeconfig_is_the_document_that_is_not_empty(place: Path) -> None:
    assert place
    assert k3d.kubeconfig() == {"apiVersion": "v1", "clusters": []}


def test_who_has_no_k3d_is_told_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not k3d.installed()
    assert not k3d.exists()
    with pytest.raises(NotReady, match="k3d is not installed") as caught:
        k3d.ensure(lambda _: None)
    assert "https://k3d.io" in caught.value.next_step


def test_a_tools_last_words_are_told(tmp_path: Path) -> None:
    command = tmp_path / "broken"
    command.write_text("#!/bin/sh\necho ' ✗ no space left' >&2\nexit 1\n", encoding="utf-8")
    command.chmod(0o755)
    told: list[str] = []
    with pytest.raises(NotReady, match="kind create cluster failed") as caught:
        tool.run("kind", command, ("create", "cluster", "--wait"), told.append)
    assert "no space left" in caught.value.why
    assert told == ["kind: no space left"]
