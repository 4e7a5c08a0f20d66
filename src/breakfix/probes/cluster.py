"""The fixture ``cluster`` of graders: a session's namespaces, seen through the API with our own credentials."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from breakfix.cluster import settling
from breakfix.cluster.api import Refused
from breakfix.cluster.objects import field, is_ready
from breakfix.errors import GraderFailed
from breakfix.probes import inventory
from breakfix.probes.facts import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from testinfra.host import Host

    from breakfix.cluster.api import Api, Object
    from breakfix.model import JsonValue


SYSTEM: Final = "kube-system"
"""What a lab with a cluster of its own may ask about too."""

__all__ = ["Cluster", "field", "is_ready"]


class Cluster:
    """A session's part of a cluster.

    Namespaces go by what the lab calls them; the first is meant where none is named, and ``kube-system`` is itself.
    Objects are plain JSON, as the API gives them: a candidate may have left any field out, so ask with
    ``field(found, "spec.replicas")``.
    """

    def __init__(
        self, api: Api, namespaces: Mapping[str, str], inside: Callable[[str, str], Host], *, whole: bool = False
    ) -> None:
        self._api = api
        self._namespaces = namespaces
        self._inside = inside
        self._whole = whole

    def name(self, namespace: str = "") -> str:
        """Return a namespace's name in the cluster."""
        if not namespace:
            return next(iter(self._namespaces.values()))
        if namespace == SYSTEM:
            return namespace
        if namespace not in self._namespaces:
            raise GraderFailed(f"the lab has no namespace {namespace!r}", why=f"It has: {', '.join(self._namespaces)}")
        return self._namespaces[namespace]

    def _path(self, kind: str, namespace: str) -> str:
        if kind in inventory.ACROSS:
            return f"{inventory.ACROSS[kind]}/{kind}"
        if kind not in inventory.KINDS:
            raise GraderFailed(
                f"no kind is called {kind!r}", why=f"Known: {', '.join([*inventory.KINDS, *inventory.ACROSS])}"
            )
        return f"{inventory.KINDS[kind]}/namespaces/{self.name(namespace)}/{kind}"

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        """Return an object; an empty one where there is none."""
        return self._api.get(f"{self._path(kind, namespace)}/{name}") or {}

    def all(self, kind: str, namespace: str = "", **labels: str) -> list[Object]:
        """Return all objects of a kind, or those with these labels."""
        selector = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}
        return self._api.list(self._path(kind, namespace), **selector)

    def pods(self, kind: str, workload: str, namespace: str = "") -> list[Object]:
        """Return the pods of a workload that are not on their way out, by what its selector says."""
        wanted = field(self.get(kind, workload, namespace), "spec.selector.matchLabels", {})
        if not wanted:
            return []
        return [one for one in self.all("pods", namespace, **wanted) if not field(one, "metadata.deletionTimestamp")]

    def ready(self, kind: str, workload: str, namespace: str = "") -> int:
        """Return how many pods of a workload are ready, and of its newest version."""
        return sum(is_ready(one) for one in self.newest(kind, workload, namespace))

    def newest(self, kind: str, workload: str, namespace: str = "") -> list[Object]:
        """Return a workload's pods that are made as it says now: not those that a rollout has yet to replace."""
        pods = self.pods(kind, workload, namespace)
        if kind != "deployments":
            return pods
        found = self.get(kind, workload, namespace)
        revision = field(found, "metadata.annotations", {}).get("deployment.kubernetes.io/revision")
        sets = [
            one
            for one in self.all("replicasets", namespace)
            if field(one, "metadata.ownerReferences.0.uid") == field(found, "metadata.uid")
            and field(one, "metadata.annotations", {}).get("deployment.kubernetes.io/revision") == revision
        ]
        hashes = {field(one, "metadata.labels", {}).get("pod-template-hash") for one in sets}
        return [one for one in pods if field(one, "metadata.labels", {}).get("pod-template-hash") in hashes]

    def restarts(self, kind: str, workload: str, namespace: str = "") -> int:
        """Return how often containers of a workload's pods were started again."""
        statuses = [
            one for pod in self.pods(kind, workload, namespace) for one in field(pod, "status.containerStatuses", [])
        ]
        return sum(one.get("restartCount", 0) for one in statuses)

    def can(
        self, subject: str, verb: str, resource: str, namespace: str = "", *, name: str = "", group: str = ""
    ) -> bool:
        """Return whether the cluster lets a subject do something.

        ``subject`` is a service account as ``NAMESPACE:NAME`` with the lab's namespace, or a user's name.
        ``namespace="*"`` asks for all namespaces at once.  ``resource`` may name a part, as in ``pods/exec``.
        """
        where = "" if namespace == "*" else self.name(namespace)
        resource, _, part = resource.partition("/")
        attributes = {
            "verb": verb,
            "resource": resource,
            "subresource": part,
            "group": group,
            "name": name,
            "namespace": where,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {**self._as(subject), "resourceAttributes": attributes},
        }  # fmt: skip
        answer = self._api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(field(answer, "status.allowed", default=False))

    def _as(self, subject: str) -> Object:
        namespace, colon, account = subject.partition(":")
        if not colon:
            return {"user": subject, "groups": ["system:authenticated"]}
        name = self.name(namespace)
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{name}", "system:authenticated"]
        return {"user": f"system:serviceaccount:{name}:{account}", "groups": groups}

    def would_admit(self, kind: str, manifest: Object, namespace: str = "") -> str:
        """Return why the API server would refuse to create an object; nothing where it would not.  Creates nothing."""
        return _refusal(partial(self._api.request, "POST", self._path(kind, namespace), manifest, dryRun="All"))

    def restart(self, kind: str, workload: str, namespace: str = "") -> None:
        """Have a workload's pods replaced as its strategy says: what ``kubectl rollout restart`` does."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}
        self._api.merge(f"{self._path(kind, namespace)}/{workload}", {"spec": {"template": template}})

    def scale(self, kind: str, workload: str, replicas: int, namespace: str = "") -> None:
        """Have so many pods of a workload: whoever takes them away to see them come back gives them back himself."""
        self._api.merge(f"{self._path(kind, namespace)}/{workload}", {"spec": {"replicas": replicas}})

    def evict(self, pod: str, namespace: str = "") -> str:
        """Ask a pod to go, as a drain does; return why the cluster refuses, nothing where it does not."""
        where = self.name(namespace)
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": where}}
        return _refusal(partial(self._api.create, f"{self._path('pods', namespace)}/{pod}/eviction", eviction))

    def inside(self, pod: str, namespace: str = "") -> Host:
        """Return the network of a pod, with our own tools: what that pod would reach."""
        return self._inside(self.name(namespace), pod)

    def inventory(self) -> dict[str, JsonValue]:
        """Return what all namespaces hold, as flat facts; a baseline keeps it."""
        return inventory.take(self._api, self._namespaces)

    def differences(self, before: Any, allow: Iterable[str] = (), new: Iterable[str] = ()) -> list[str]:  # noqa: ANN401
        """Say what is gone or changed since ``before``; see ``breakfix.probes.facts.differences``."""
        return differences(before, self.inventory(), allow, new)

    def settle(self) -> float:
        """Wait until nothing is on its way any more; return the seconds that took.

        Where the session has the whole cluster, its own services are waited for too.
        """
        return settling.settle(self._api, [*self._namespaces.values(), *([SYSTEM] if self._whole else [])])


def _refusal(ask: Callable[[], object]) -> str:
    """Return what the API server refuses something with; nothing where it does not."""
    try:
        ask()
    except Refused as error:
        return error.said or str(error.code)
    return ""
