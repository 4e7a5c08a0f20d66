"""The fixture ``cluster``: answers from what the API says, whatever a candidate has left out."""

from __future__ import annotations

from typing import Any

import pytest

from breakfix.cluster.api import Refused
from breakfix.errors import GraderFailed
from breakfix.probes.cluster import Cluster, field, is_ready


class FakeApi:
    """Keeps objects by path, and notes what is created."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.selectors: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.answer: dict[str, Any] | Refused = {}

    def get(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path)

    def list(self, path: str, **query: str) -> list[dict[str, Any]]:
        self.selectors.append(query.get("labelSelector", ""))
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        found = self.lists.get(path, [])
        return [one for one in found if wanted.items() <= (one["metadata"].get("labels") or {}).items()]

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        self.created.append({"path": path, **manifest})
        if isinstance(self.answer, Refused):
            raise self.answer
        return self.answer

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        self.created.append({"path": path, "patch": patch})
        return {}

    def request(self, method: str, path: str, manifest: object, **query: str) -> dict[str, Any]:
        self.created.append({"path": path, "method": method, "query": query, "body": manifest})
        if isinstance(self.answer, Refused):
            raise self.answer
        return {}


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def cluster(api: FakeApi) -> Cluster:
    return Cluster(api, {"shop": "shop-1a2b", "bank": "bank-1a2b"}, lambda *where: where)  # type: ignore[arg-type]


def test_names_are_those_of_the_lab(cluster: Cluster, api: FakeApi) -> None:
    api.objects["/apis/apps/v1/namespaces/shop-1a2b/deployments/web"] = {"metadata": {"name": "web"}}
    api.objects["/api/v1/namespaces/bank-1a2b/services/web"] = {"metadata": {"name": "other"}}
    assert cluster.get("deployments", "web")["metadata"]["name"] == "web"
    assert cluster.get("services", "web", "bank")["metadata"]["name"] == "other"
    assert cluster.get("deployments", "nobody") == {}
    assert cluster.name() == "shop-1a2b"
    assert str(cluster.inside("web-1", "bank")) == "('bank-1a2b', 'web-1')"


def test_a_grader_that_asks_for_what_there_is_not_is_broken(cluster: Cluster) -> None:
    with pytest.raises(GraderFailed, match="no namespace 'nobody'"):
        cluster.get("pods", "x", "nobody")
    with pytest.raises(GraderFailed, match="no kind is called 'deployment'"):
        cluster.get("deployment", "x")


def pod(
    name: str, *, ready: bool = True, ending: bool = False, restarts: int = 0, made_by: str = "h1"
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name, "labels": {"app": "web", "pod-template-hash": made_by},
            **({"deletionTimestamp": "now"} if ending else {}),
        },
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"restartCount": restarts}, {}],
        },
    }  # fmt: skip


@pytest.fixture
def web(api: FakeApi) -> FakeApi:
    revision = "deployment.kubernetes.io/revision"
    deployment = {
        "metadata": {"name": "web", "uid": "u1", "annotations": {revision: "2"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
    }

    def made(name: str, number: str, owner: str) -> dict[str, Any]:
        meta = {"name": name, "labels": {"pod-template-hash": name}, "annotations": {revision: number}}
        return {"metadata": {**meta, "ownerReferences": [{"uid": owner}]}}

    api.objects["/apis/apps/v1/namespaces/shop-1a2b/deployments/web"] = deployment
    api.lists["/apis/apps/v1/namespaces/shop-1a2b/replicasets"] = [
        made("h1", "2", "u1"), made("h0", "1", "u1"), made("h9", "2", "u2"), {"metadata": {"name": "bare"}},
    ]  # fmt: skip
    api.lists["/api/v1/namespaces/shop-1a2b/pods"] = [
        pod("new-1", restarts=2), pod("new-2", ready=False), pod("old", made_by="h0", restarts=1),
        pod("stranger", made_by="h9"), pod("leaving", ending=True, restarts=9),
    ]  # fmt: skip
    return api


def test_the_newest_pods_are_those_that_the_deployment_makes_now(cluster: Cluster, web: FakeApi) -> None:
    names = [one["metadata"]["name"] for one in cluster.newest("deployments", "web")]
    assert names == ["new-1", "new-2"]
    assert cluster.ready("deployments", "web") == 1
    assert web.selectors[0] == "app=web"


def test_restarts_are_those_of_the_pods_that_stay(cluster: Cluster, web: FakeApi) -> None:
    assert cluster.restarts("deployments", "web") == 3


def test_a_workload_without_a_selector_has_no_pods(cluster: Cluster, web: FakeApi) -> None:
    web.objects["/apis/apps/v1/namespaces/shop-1a2b/deployments/web"] = {"spec": {"selector": None}}
    assert cluster.pods("deployments", "web") == []
    assert cluster.ready("deployments", "nobody") == 0


@pytest.mark.parametrize(
    ("subject", "user"),
    [("bank:deployer", "system:serviceaccount:bank-1a2b:deployer"), ("jane", "jane")],
)
def test_rights_are_asked_as_the_subject(cluster: Cluster, api: FakeApi, subject: str, user: str) -> None:
    api.answer = {"status": {"allowed": True}}
    assert cluster.can(subject, "create", "pods/exec", group="x", name="n")
    spec = api.created[0]["spec"]
    assert spec["user"] == user
    assert "system:authenticated" in spec["groups"]
    assert spec["resourceAttributes"] == {
        "verb": "create", "resource": "pods", "subresource": "exec", "group": "x", "name": "n",
        "namespace": "shop-1a2b",
    }  # fmt: skip


@pytest.mark.parametrize("answer", [{}, {"status": {}}, {"status": {"allowed": False}}])
def test_no_clear_yes_is_a_no(cluster: Cluster, api: FakeApi, answer: dict[str, Any]) -> None:
    api.answer = answer
    assert not cluster.can("jane", "get", "secrets", "*")
    assert api.created[0]["spec"]["resourceAttributes"]["namespace"] == ""


def test_admission_is_tried_and_nothing_is_made(cluster: Cluster, api: FakeApi) -> None:
    assert cluster.would_admit("pods", {}) == ""
    assert api.created[0]["query"] == {"dryRun": "All"}
    api.answer = Refused("POST", "x", 403, "violates PodSecurity")
    assert cluster.would_admit("pods", {}) == "violates PodSecurity"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b", 1), ("a.c", "none"), ("l.0.x", 5), ("l.7.x", "none"), ("l.x", "none"), ("n", "none"), ("n.x", "none"),
        ("f", False), ("a.b.c", "none"),
    ],
)  # fmt: skip
def test_a_field_is_what_stands_there_or_the_default(path: str, value: object) -> None:
    found = {"a": {"b": 1}, "l": [{"x": 5}], "n": None, "f": False}
    assert field(found, path, "none") == value


def test_ready_means_ready_and_staying() -> None:
    assert is_ready(pod("x"))
    assert not is_ready(pod("x", ready=False))
    assert not is_ready(pod("x", ending=True))
    assert not is_ready({})


def test_a_restart_changes_the_template_and_nothing_else(cluster: Cluster, api: FakeApi) -> None:
    cluster.restart("deployments", "web", "bank")
    (made,) = api.created
    assert made["path"] == "/apis/apps/v1/namespaces/bank-1a2b/deployments/web"
    (annotations,) = made["patch"]["spec"]["template"]["metadata"].values()
    assert list(annotations) == ["kubectl.kubernetes.io/restartedAt"]
    assert list(made["patch"]["spec"]) == ["template"]


def test_scaling_changes_how_many_and_nothing_else(cluster: Cluster, api: FakeApi) -> None:
    cluster.scale("deployments", "web", 0, "bank")
    (made,) = api.created
    assert made["path"] == "/apis/apps/v1/namespaces/bank-1a2b/deployments/web"
    assert made["patch"] == {"spec": {"replicas": 0}}


def test_an_eviction_says_why_it_was_refused(cluster: Cluster, api: FakeApi) -> None:
    assert cluster.evict("web-1") == ""
    assert api.created[0]["path"] == "/api/v1/namespaces/shop-1a2b/pods/web-1/eviction"
    assert api.created[0]["metadata"] == {"name": "web-1", "namespace": "shop-1a2b"}
    api.answer = Refused("POST", "/x", 429, "it would violate the pod's disruption budget")
    assert cluster.evict("web-1", "bank") == "it would violate the pod's disruption budget"
