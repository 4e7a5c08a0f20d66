"""Names, rights and files of clusters, as far as no engine is needed for them."""

from __future__ import annotations

import fcntl
import json
import threading
from dataclasses import replace
from shutil import rmtree
from typing import TYPE_CHECKING

import pytest
from platformdirs import user_cache_path

from breakfix import images
from breakfix.cluster import clusters, kind, loading, making, namespaces, own, practice
from breakfix.cluster.clusters import Cluster, State
from breakfix.cluster.practice import PRACTICE
from breakfix.environments.kind import KindEnvironment
from breakfix.errors import NotReady, UsageError

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
    made = json.loads(namespaces.kubeconfig({"server": "https://node:6443"}, "t0ken", "shop-1a2b"))
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
    written = json.loads(kind.configuration("breakfix-toy", 0, tmp_path))
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
        self.brought = threading.Event()
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(clusters, "state", lambda *_, **__: self.state)
        monkeypatch.setattr(clusters, "fence", lambda _: self.done.append("fence"))
        monkeypatch.setattr(clusters, "rouse", lambda one, _: self.done.append(f"start {one.name}"))
        monkeypatch.setattr(clusters, "wait", self.wait)
        monkeypatch.setattr(loading, "load", lambda *_: self.done.append("load"))
        monkeypatch.setattr(loading, "bring", lambda *_: self.brought.set())
        monkeypatch.setattr(kind, "create", self.create)
        monkeypatch.setattr(kind, "kubeconfig", lambda *_: {"clusters": []})
        monkeypatch.setattr(kind, "delete", self.delete)
        PRACTICE.folder.mkdir(parents=True)

    def create(self, *_: object) -> None:
        # Its images go in while kind still waits for the control plane.
        assert self.brought.wait(5)
        self.done.append("create")
        self.state = State(exists=True, running=True, current=True)

    def delete(self, *_: object) -> None:
        self.done.append("delete")
        self.state = State(exists=False)

    def wait(self, *_: object) -> None:
        if self.fail:
            raise self.fail
        self.done.append("wait")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    return Calls(monkeypatch, tmp_path)


def ensure(*, busy: bool = False) -> None:
    practice.ensure(lambda _: None, lambda: busy)


def complete() -> None:
    (PRACTICE.folder / "kubeconfig.json").write_text("{}", encoding="utf-8")


def test_a_cluster_is_made_once(calls: Calls) -> None:
    ensure()
    ensure()
    assert calls.done == ["create", "load", "wait", "wait", "fence", "load", "wait", "fence", "load"]
    assert (PRACTICE.folder / "kubeconfig.json").stat().st_mode & 0o777 == 0o600


def test_one_that_stands_still_is_started(calls: Calls) -> None:
    calls.state = State(exists=True, running=False, current=True)
    complete()
    ensure()
    assert calls.done == [f"start {PRACTICE.name}", "wait", "fence", "load"]


def test_one_of_an_older_recipe_is_made_anew(calls: Calls) -> None:
    calls.state = State(exists=True, running=True, current=False)
    complete()
    ensure()
    assert calls.done == ["delete", "create", "load", "wait", "wait", "fence", "load"]


def test_one_of_an_older_recipe_that_somebody_uses_stays(calls: Calls) -> None:
    calls.state = State(exists=True, running=True, current=False)
    complete()
    ensure(busy=True)
    assert calls.done == ["wait", "fence", "load"]


def test_one_that_was_never_finished_is_made_anew_even_where_sessions_speak_of_it(calls: Calls) -> None:
    calls.state = State(exists=True, running=True, current=True)
    ensure(busy=True)
    assert calls.done == ["delete", "create", "load", "wait", "wait", "fence", "load"]


def test_one_that_cannot_be_made_leaves_nothing(calls: Calls) -> None:
    calls.fail = NotReady("it does not come up")
    with pytest.raises(NotReady):
        ensure()
    assert calls.done == ["create", "load", "delete"]
    assert not calls.state.exists


@pytest.mark.usefixtures("calls")
def test_without_a_cluster_the_next_command_is_told() -> None:
    clusters.administrator.cache_clear()
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
    monkeypatch.setattr(clusters, "state", lambda *_, **__: state)
    monkeypatch.setattr(images, "node_is_ours", lambda: True)
    (said,) = KindEnvironment(None).examine()  # type: ignore[arg-type]
    assert said.ok
    assert found in said.found
    assert advice in said.advice


# -- clusters of one's own -----------------------------------------------------------------------------------------


def test_a_deleted_cluster_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "_kind", lambda *_: "")
    folder = tmp_path / "breakfix-own-1"
    folder.mkdir()
    (folder / "kubeconfig").write_text("x", encoding="utf-8")
    kind.delete("breakfix-own-1", folder, lambda _: None)
    assert not folder.exists()
    kind.delete("breakfix-own-1", folder, lambda _: None)


def test_nodes_are_called_as_kind_calls_them() -> None:
    assert Cluster("toy").nodes == ("toy-control-plane",)
    assert Cluster("toy", 2).nodes == ("toy-control-plane", "toy-worker", "toy-worker2")


def test_each_node_has_a_probe_of_its_own() -> None:
    assert [namespaces.probe_on(one) for one in Cluster("toy", 2).nodes] == ["probe", "probe-worker", "probe-worker2"]


class Shed:
    """Stands for all clusters that sessions may have to themselves: what is made, roused and dropped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.there: dict[str, Cluster] = {}
        self.old: set[str] = set()
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(own, "connect", lambda: self)
        monkeypatch.setattr(making, "make", self.create)
        monkeypatch.setattr(clusters, "drop", self.drop)
        monkeypatch.setattr(
            clusters, "state", lambda one: State(exists=True, running=True, current=one.name not in self.old)
        )
        monkeypatch.setattr(loading, "load", lambda *_: None)

    def containers(self, **_: object) -> list[dict[str, dict[str, str]]]:
        return [{"Labels": {kind.CLUSTER_LABEL: one.name}} for one in self.there.values() for _ in one.nodes]

    def create(self, cluster: Cluster, _: object) -> None:
        self.there[cluster.name] = cluster
        cluster.folder.mkdir(parents=True)
        (cluster.folder / "kubeconfig.json").write_text("{}", encoding="utf-8")

    def drop(self, cluster: Cluster, _: object) -> None:
        del self.there[cluster.name]
        rmtree(cluster.folder)


@pytest.fixture
def shed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shed:
    return Shed(monkeypatch, tmp_path)


def tell(_: str) -> None:
    pass


def claim(workers: int, session_id: str) -> str:
    with own.claimed(workers, session_id) as cluster:
        return cluster.name


def test_a_standby_is_claimed_once_and_for_good(shed: Shed) -> None:
    own.ensure(0, tell)
    (standby,) = own.standbys()
    assert claim(0, "one-1") == standby.name
    assert own.standbys() == ()
    assert claim(0, "two-2") != standby.name
    assert len(shed.there) == 2


def test_a_standby_of_another_width_is_left_alone(shed: Shed) -> None:
    own.ensure(2, tell)
    claim(0, "one-1")
    assert sorted(one.workers for one in shed.there.values()) == [0, 2]
    assert [one.workers for one in own.standbys()] == [2]


def test_a_standby_is_made_once(shed: Shed) -> None:
    own.ensure(0, tell)
    own.ensure(0, tell)
    assert len(shed.there) == 1


@pytest.mark.parametrize("how", ["half made", "of an older recipe"])
def test_a_standby_that_is_no_good_is_made_anew(shed: Shed, how: str) -> None:
    own.ensure(0, tell)
    (first,) = own.standbys()
    if how == "half made":
        (first.folder / "kubeconfig.json").unlink()
    else:
        shed.old.add(first.name)
    own.ensure(0, tell)
    assert first.name not in shed.there
    assert len(shed.there) == 1


def test_a_cluster_goes_with_its_session(shed: Shed) -> None:
    mine, other = claim(0, "one-1"), claim(1, "two-2")
    own.release({"one-1"})
    assert mine not in shed.there
    assert other in shed.there


def test_what_a_session_left_behind_is_swept_and_no_standby(shed: Shed) -> None:
    own.ensure(0, tell)
    (standby,) = own.standbys()
    own.ensure(1, tell)
    gone, here = claim(1, "gone-1"), claim(2, "here-2")
    own.sweep(lambda: {"here-2"})
    assert set(shed.there) == {standby.name, here}
    assert gone not in shed.there


def test_a_start_goes_on_where_somebody_else_is_removing_what_it_would_sweep(
    shed: Shed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(cluster: Cluster, _: object) -> None:
        raise NotReady("kind delete cluster failed", why=f"removal of {cluster.name} is already in progress")

    gone, also_gone = claim(0, "gone-1"), claim(0, "gone-2")
    monkeypatch.setattr(clusters, "drop", busy)
    own.sweep(set)
    assert set(shed.there) == {gone, also_gone}


@pytest.mark.usefixtures("shed")
def test_who_there_is_is_asked_when_nobody_can_be_claiming() -> None:
    def look() -> set[str]:
        path = user_cache_path("breakfix") / f"{own.LOCK}.lock"
        with path.open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        asked.append(True)
        return set()

    asked: list[bool] = []
    own.sweep(look)
    assert asked


@pytest.mark.parametrize(
    ("said", "free", "kept"),
    [
        (None, own.ENOUGH, True),
        (None, own.ENOUGH - 1, False),
        ("auto", 0, False),
        ("ON", 0, True),
        ("off", 1 << 40, False),
    ],
)
def test_a_standby_is_kept_where_memory_allows_or_one_says_so(
    monkeypatch: pytest.MonkeyPatch, said: str | None, free: int, kept: bool
) -> None:
    monkeypatch.delenv(own.SETTING, raising=False)
    if said:
        monkeypatch.setenv(own.SETTING, said)
    monkeypatch.setattr(own, "_free", lambda: free)
    assert own.wanted() is kept


def test_a_setting_that_says_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(own.SETTING, "maybe")
    with pytest.raises(UsageError) as caught:
        own.wanted()
    assert "auto, on, off" in caught.value.next_step


def test_what_the_api_says_of_a_node_counts_from_when_it_was_heard() -> None:
    lease = {"metadata": {"name": "toy-control-plane"}, "spec": {"renewTime": "2026-11-23T12:00:09.123456Z"}}
    before, after = (clusters.moment(f"2026-11-23T12:00:{second}") for second in ("09", "10"))
    silent = clusters._silent
    assert silent(Cluster("toy"), [lease], before) == []
    assert silent(Cluster("toy"), [lease], after) == ["toy-control-plane"]
    assert silent(Cluster("toy", 1), [lease], before) == ["toy-worker"]


@pytest.mark.parametrize(
    ("status", "before"),
    [
        ({"containerStatuses": [{"state": {"running": {"startedAt": "2026-11-23T11:59:59Z"}}}]}, True),
        ({"containerStatuses": [{"state": {"terminated": {"reason": "Unknown", "exitCode": 255}}}]}, True),
        ({"containerStatuses": [{"state": {"running": {"startedAt": "2026-11-23T12:00:05Z"}}}]}, False),
        ({"containerStatuses": [{"state": {"terminated": {"reason": "Error", "exitCode": 1}}}]}, False),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}, False),
        ({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "Unknown"}}}]}, False),
        ({"phase": "Pending"}, False),
    ],
)
def test_a_pod_is_from_before_until_its_containers_started_again(status: dict[str, object], before: bool) -> None:
    started = clusters.moment("2026-11-23T12:00:00Z")
    assert clusters._is_from_before({"metadata": {}, "status": status}, started) is before


def test_who_has_to_lead_does_so_only_with_a_lease_from_after_the_start() -> None:
    started = clusters.moment("2026-11-23T12:00:00Z")

    def lease(renewed: str | None) -> dict[str, object]:
        return {"metadata": {"name": "kube-scheduler"}, "spec": {"renewTime": renewed}}

    assert clusters._leads([lease("2026-11-23T12:00:07.5Z")], "kube-scheduler", started)
    assert not clusters._leads([lease("2026-11-23T11:59:59.5Z")], "kube-scheduler", started)
    assert not clusters._leads([lease(None)], "kube-scheduler", started)
    assert not clusters._leads([lease("2026-11-23T12:00:07.5Z")], "kube-controller-manager", started)
