"""Names, rights and files of clusters, as far as no engine is needed for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from breakfix import images
from breakfix.cluster import kind, loading, namespaces, node, practice
from breakfix.cluster.practice import State
from breakfix.environments.kind import KindEnvironment
from breakfix.errors import NotReady

if TYPE_CHECKING:
    from pathlib import Path

    from breakfix.model import Session


def test_namespaces_are_called_anew_each_time() -> None:
    first, second = namespaces.names(("shop", "bank")), namespaces.names(("shop", "bank"))
    assert list(first) == ["shop", "bank"]
    assert first["shop"].startswith("shop-")
    assert first["shop"].rpartition("-")[2] == first["bank"].rpartition("-")[2]
    assert first != second


def test_the_probes_namespace_is_nobody_elses(session: Session) -> None:
    one = replace(session, namespaces={"shop": "shop-1a2b"})
    other = replace(session, namespaces={"shop": "shop-3c4d"})
    assert namespaces.own(one) == f"breakfix-{session.id}-1a2b"
    assert namespaces.own(one) != namespaces.own(other)
    assert len(namespaces.own(replace(one, id=f"{'x' * 40}-123456"))) <= 63


def test_a_kubeconfig_knows_one_cluster_and_one_user() -> None:
    made = namespaces.kubeconfig("https://node:6443", "Y2E=", "t0ken", "shop-1a2b")
    context = made["contexts"][0]["context"]
    assert (context["namespace"], context["user"]) == ("shop-1a2b", made["users"][0]["name"])
    assert made["users"] == [{"name": "candidate", "user": {"token": "t0ken"}}]
    assert made["clusters"][0]["cluster"]["server"] == "https://node:6443"


def test_nobody_may_fill_the_cluster_with_anything_that_admin_may_make() -> None:
    made_by_admin = {
        "pods", "services", "persistentvolumeclaims", "secrets", "configmaps", "replicationcontrollers",
        "count/deployments.apps", "count/statefulsets.apps", "count/daemonsets.apps", "count/replicasets.apps",
        "count/jobs.batch", "count/cronjobs.batch", "count/ingresses.networking.k8s.io",
        "count/networkpolicies.networking.k8s.io", "count/serviceaccounts", "count/roles.rbac.authorization.k8s.io",
        "count/rolebindings.rbac.authorization.k8s.io", "count/horizontalpodautoscalers.autoscaling",
        "count/poddisruptionbudgets.policy",
    }  # fmt: skip
    assert made_by_admin <= set(namespaces.QUOTA)


def test_what_kind_is_told_names_files_that_are_there(tmp_path: Path) -> None:
    written = json.loads(kind.configuration("breakfix-toy", tmp_path))
    mount = written["nodes"][0]["extraMounts"][0]
    assert (tmp_path / "policy.yaml").read_text(encoding="utf-8") == kind.AUDIT_POLICY
    assert (mount["hostPath"], mount["readOnly"]) == (str(tmp_path / "policy.yaml"), True)
    assert mount["containerPath"] in written["nodes"][0]["kubeadmConfigPatches"][0]
    assert "DenyServiceExternalIPs" in written["nodes"][0]["kubeadmConfigPatches"][0]


class Calls:
    """Stands for the engine and kind: what is done to the practice cluster, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.done: list[str] = []
        self.state = State(exists=False)
        self.fail: Exception | None = None
        monkeypatch.setattr(practice, "folder", lambda: tmp_path)
        monkeypatch.setattr(practice, "state", lambda: self.state)
        monkeypatch.setattr(practice, "connect", lambda: self)
        monkeypatch.setattr(practice, "Api", lambda *_: self)
        monkeypatch.setattr(loading, "load", lambda *_: self.done.append("load"))
        monkeypatch.setattr(node, "run", lambda *_: self.done.append("fence"))
        monkeypatch.setattr(practice, "_wait", self.wait)
        monkeypatch.setattr(kind, "create", self.create)
        monkeypatch.setattr(kind, "kubeconfig", lambda *_: {"clusters": []})
        monkeypatch.setattr(kind, "delete", self.delete)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def create(self, *_: object) -> None:
        self.done.append("create")
        self.state = State(exists=True, running=True, current=True)

    def delete(self, *_: object) -> None:
        self.done.append("delete")
        self.state = State(exists=False)

    def start(self, name: str) -> None:
        self.done.append(f"start {name}")

    def wait(self, _: object) -> None:
        if self.fail:
            raise self.fail
        self.done.append("wait")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    return Calls(monkeypatch, tmp_path)


def ensure(*, busy: bool = False) -> None:
    practice.ensure(lambda _: None, lambda: busy)


def complete(calls: Calls) -> None:
    (practice.folder() / "kubeconfig.json").write_text("{}", encoding="utf-8")


def test_a_cluster_is_made_once(calls: Calls) -> None:
    ensure()
    ensure()
    assert calls.done == ["create", "wait", "wait", "fence", "load", "wait", "fence", "load"]
    assert (practice.folder() / "kubeconfig.json").stat().st_mode & 0o777 == 0o600


def test_one_that_stands_still_is_started(calls: Calls) -> None:
    calls.state = State(exists=True, running=False, current=True)
    complete(calls)
    ensure()
    assert calls.done == [f"start {node.NODE}", "wait", "fence", "load"]


def test_one_of_an_older_recipe_is_made_anew(calls: Calls) -> None:
    calls.state = State(exists=True, running=True, current=False)
    complete(calls)
    ensure()
    assert calls.done == ["delete", "create", "wait", "wait", "fence", "load"]


def test_one_of_an_older_recipe_that_somebody_uses_stays(calls: Calls) -> None:
    calls.state = State(exists=True, running=True, current=False)
    complete(calls)
    ensure(busy=True)
    assert calls.done == ["wait", "fence", "load"]


def test_one_that_was_never_finished_is_made_anew_even_where_sessions_speak_of_it(calls: Calls) -> None:
    calls.state = State(exists=True, running=True, current=True)
    ensure(busy=True)
    assert calls.done == ["delete", "create", "wait", "wait", "fence", "load"]


def test_one_that_cannot_be_made_leaves_nothing(calls: Calls) -> None:
    calls.fail = NotReady("it does not come up")
    with pytest.raises(NotReady):
        ensure()
    assert calls.done == ["create", "delete"]
    assert not calls.state.exists


def test_without_a_cluster_the_next_command_is_told(calls: Calls) -> None:
    practice.administrator.cache_clear()
    with pytest.raises(NotReady) as caught:
        practice.administrator()
    assert "breakfix cluster warm" in caught.value.next_step


@pytest.mark.parametrize(
    ("state", "found", "advice"),
    [
        (State(exists=False), "none yet", "cluster warm"),
        (State(exists=True, running=False, image="breakfix/node:1"), "breakfix/node:1 (ours: ", "the next start"),
        (State(exists=True, running=True, image="kindest/node:v1"), "kindest/node:v1 (upstream)", ""),
    ],
)
def test_a_cluster_that_the_next_start_can_bring_up_is_fine(
    monkeypatch: pytest.MonkeyPatch, state: State, found: str, advice: str
) -> None:
    monkeypatch.setattr(practice, "state", lambda: state)
    monkeypatch.setattr(images, "node_is_ours", lambda: True)
    (said,) = KindEnvironment(None).examine()  # type: ignore[arg-type]
    assert said.ok
    assert found in said.found
    assert advice in said.advice
