"""What a session's namespaces hold, as flat facts that can be compared: nothing lost, nothing weakened.

A fact is a path and a value: ``shop/deployments/orders/replicas`` is ``2``.  Lists of things with names go by name, so
that their order does not matter.  What is secret or long is there as a sum of itself.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from breakfix.cluster.api import Refused
from breakfix.cluster.objects import field
from breakfix.probes.facts import leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from breakfix.cluster.api import Api, Object
    from breakfix.model import JsonValue

KINDS: Final = {
    "pods": "/api/v1", "services": "/api/v1", "configmaps": "/api/v1", "secrets": "/api/v1",
    "serviceaccounts": "/api/v1", "persistentvolumeclaims": "/api/v1",
    "resourcequotas": "/api/v1", "limitranges": "/api/v1", "events": "/api/v1",
    "endpoints": "/api/v1", "replicationcontrollers": "/api/v1",
    "deployments": "/apis/apps/v1", "statefulsets": "/apis/apps/v1", "daemonsets": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1", "cronjobs": "/apis/batch/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1", "ingresses": "/apis/networking.k8s.io/v1",
    "poddisruptionbudgets": "/apis/policy/v1", "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "roles": "/apis/rbac.authorization.k8s.io/v1", "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1", "leases": "/apis/coordination.k8s.io/v1",
    "httpproxies": "/apis/projectcontour.io/v1",
}  # fmt: skip
"""Where in the API each kind of a namespace is."""
ACROSS: Final = {
    "nodes": "/api/v1", "namespaces": "/api/v1", "persistentvolumes": "/api/v1",
    "storageclasses": "/apis/storage.k8s.io/v1", "priorityclasses": "/apis/scheduling.k8s.io/v1",
    "clusterroles": "/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "validatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1",
    "mutatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1",
}  # fmt: skip
"""The same for kinds that stand outside namespaces."""

COMPARED: Final = (
    "deployments", "statefulsets", "daemonsets", "cronjobs", "services", "configmaps", "secrets", "serviceaccounts",
    "persistentvolumeclaims", "resourcequotas", "limitranges", "networkpolicies", "ingresses", "poddisruptionbudgets",
    "horizontalpodautoscalers", "roles", "rolebindings", "httpproxies",
)  # fmt: skip
SHORT: Final = {"spec": "", "template": "", "metadata": "", "data": ""}
"""Levels of an object that say nothing, left out of paths."""
SUMMED: Final = frozenset({"configmaps", "secrets"})
FOREIGN: Final = frozenset({"kube-root-ca.crt"})
"""What the cluster itself puts into every namespace."""


def take(api: Api, namespaces: Mapping[str, str], kinds: Iterable[str] = COMPARED) -> dict[str, JsonValue]:
    """Return the facts of all namespaces; ``namespaces`` is what the lab calls each, and its name."""
    wanted = tuple(kinds)
    facts: dict[str, JsonValue] = {}
    for called, name in namespaces.items():
        labels = field(api.get(f"/api/v1/namespaces/{name}"), "metadata.labels", {})
        facts |= {f"{called}/labels/{key}": value for key, value in labels.items() if key.startswith("pod-security")}
        for kind in wanted:
            for one in _list(api, f"{KINDS[kind]}/namespaces/{name}/{kind}"):
                facts |= facts_of(f"{called}/{kind}", kind, one)
    return facts


def _list(api: Api, path: str) -> list[Object]:
    try:
        return api.list(path)
    except Refused as error:
        # Kinds that nobody has defined yet: nothing can be lost of them.
        if error.missing:
            return []
        raise


def facts_of(place: str, kind: str, found: Object) -> dict[str, JsonValue]:
    """Return the facts of one object, below ``place``."""
    name = str(field(found, "metadata.name"))
    if name in FOREIGN or (kind == "secrets" and str(found.get("type", "")).endswith("service-account-token")):
        return {}
    content: dict[str, Any] = {
        key: found.get(key) for key in ("spec", "data", "binaryData", "rules", "subjects", "roleRef")
    }
    if kind == "serviceaccounts":
        content["automount"] = found.get("automountServiceAccountToken", True)
    if kind == "persistentvolumeclaims":
        content["uid"] = field(found, "metadata.uid")
    facts = {f"{place}/{name}": "is there"}
    for path, value in leaves(content, SHORT):
        facts[f"{place}/{name}/{path}"] = _sum(value) if kind in SUMMED else value
    return facts  # type: ignore[return-value]  # strings and what JSON has


def _sum(value: object) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()[:12]
